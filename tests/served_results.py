"""A ledger with the real objects of one reading, served by DICOMweb, and a client that may do everything."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom.dataset import Dataset
from starlette.applications import Starlette

from catalogue_rows import store
from ovcf_node import report
from ovcf_node.config import Destination, Settings, Web
from ovcf_node.domain.identity import Dialect
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.query.dicomweb import dicomweb
from ovcf_node.storage.results import Results
from result_cases import make_case, make_context
from web_server import serving

PLANTED = {
    "SpecificCharacterSet": "ISO_IR 192", "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "PatientID": "PLANTED-ID",
    "AccessionNumber": "PLANTED-ACC", "PatientBirthDate": "19400229",
}


@pytest.fixture(scope="session")
def objects(tmp_path_factory) -> dict[str, Dataset]:
    """The objects of one reading by role, as they are stored."""
    case = make_case(tmp_path_factory.mktemp("ct"), **PLANTED)
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 255, (120, 161, 3), np.uint8)
    made = report.encode(make_context(), case.headers, case.findings, case.masks, picture, Dialect(), case.volume.sources)
    return {item.role: item.dataset for item in made}


@dataclass
class Served:
    """DICOMweb over a ledger of its own."""

    ledger: Ledger
    results: Results
    objects: dict[str, Dataset]
    running: ExitStack

    def client(self, *destinations: Destination, **web) -> httpx.Client:
        """Return a client of a service with these settings; unless they say otherwise, everybody is welcome."""
        settings = Settings(web=Web(**({"open": True} | web)), destinations=destinations)
        application = Starlette(routes=[dicomweb(settings, self.ledger, self.results.root)])
        port = self.running.enter_context(serving(application))
        return self.running.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}/dicom-web"))

    def path(self, role: str, level: str = "instance") -> str:
        """Return the path of an object below the service."""
        dataset = self.objects[role]
        parts = {"study": f"/studies/{dataset.StudyInstanceUID}"}
        parts["series"] = f"{parts['study']}/series/{dataset.SeriesInstanceUID}"
        parts["instance"] = f"{parts['series']}/instances/{dataset.SOPInstanceUID}"
        return parts[level]

    def bytes_of(self, role: str) -> bytes:
        """Return the stored bytes of an object."""
        uid = str(self.objects[role].SOPInstanceUID)
        return next(self.results.root.rglob(f"{uid}.dcm")).read_bytes()


@pytest.fixture(scope="session")
def template(tmp_path_factory, objects) -> Path:
    """Folder with ledger and results, to be copied for each test."""
    folder = tmp_path_factory.mktemp("served")
    url = f"sqlite:///{folder / 'ledger.sqlite'}"
    migrate(url)
    ledger = Ledger(url)
    store(ledger, list(objects.values()), Results(folder / "results"))
    ledger.close()
    return folder


@pytest.fixture
def served(tmp_path, template, objects) -> Iterator[Served]:
    folder = shutil.copytree(template, tmp_path / "node")
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    with ExitStack() as running:
        yield Served(ledger, Results(folder / "results"), objects, running)
    ledger.close()


@pytest.fixture
def client(served) -> httpx.Client:
    return served.client()
