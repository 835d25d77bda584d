"""A node without processes, for the pages: a real ledger, real files, a clock in the test's hands."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from starlette.testclient import TestClient

from catalogue_rows import SR
from dicom_peers import instance, write
from ovcf_node.config import Settings
from ovcf_node.domain.findings import BundleIdentity
from ovcf_node.domain.series import Receipt
from ovcf_node.domain.states import RevisionState
from ovcf_node.ledger import Ledger, Result, Revision, StoredInstance
from ovcf_node.ledger.catalogue import entry_of
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.operate import users
from ovcf_node.operate.pages import Surroundings, pages
from ovcf_node.operate.users import Role
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool
from result_cases import make_findings

PASSWORDS = {"vera": "views only 1234", "otto": "operates well 1", "rita": "reads the spine 1", "ruth": "reads as well 22"}
PEOPLE = {"vera": {Role.VIEWER}, "otto": {Role.OPERATOR}, "rita": {Role.READER}}
IDENTITY = ("Planted", "PLANTED-ID", "PLANTED-ACC", "1940")
PNG = b"\x89PNG fake"


@dataclass
class Site:
    """A node without processes; `at` is the time on its clock."""

    settings: Settings
    ledger: Ledger
    results: Results
    spool: Spool
    folder: Path
    at: float = 1_800_000_000.0

    def clock(self) -> float:
        return self.at

    def app(self):
        bundle = BundleIdentity("reference", "1", "b" * 64, "research")
        around = Surroundings(self.settings, self.ledger, self.results, self.spool, Pseudonyms(self.folder), bundle)
        return pages(around, self.clock)

    def receive(self, number: int = 1, **elements) -> None:
        dataset = instance(number, AccessionNumber="PLANTED-ACC", PatientBirthDate="19400102", **elements)
        path = write(self.spool.root, dataset)
        self.ledger.instances.record(Receipt(
            dataset.SOPInstanceUID, dataset.SOPClassUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, "1.2",
            path.name, 10, f"digest {number}", "patient", "CT", datetime.fromtimestamp(self.at, UTC), "CT_1", "NODE", "a",
            False,
        ))
        for arrival in self.ledger.instances.arrivals(0):
            self.ledger.revisions.arrived(arrival, self.at)

    def receipt(self, of: StoredInstance, digest: str) -> Receipt:
        """Return the receipt of other bytes under the UID of a stored instance."""
        return Receipt(
            of.sop_instance_uid, of.sop_class_uid, of.study_instance_uid, of.series_instance_uid, "1.2", of.path, 10, digest,
            "patient", "CT", datetime.fromtimestamp(self.at, UTC), "CT_1", "NODE", "a", False,
        )

    def people(self, account: str, role: str) -> None:
        """Let somebody else sign in too."""
        file = self.folder / "users.toml"
        made = users.make(account, f"{account.title()}^Test", frozenset({Role(role)}), PASSWORDS[account])
        users.save(file, users.load(file) | {account: made})

    def newest(self) -> Revision:
        return self.ledger.revisions.newest(1)[0]

    def read(self, *, catalogued: bool = False) -> Revision:
        """Read the newest revision: findings, picture, one segmentation and one report for `pacs`."""
        revision = self.ledger.revisions.move(self.newest(), RevisionState.COMPLETE, self.at, verdict={})
        self.ledger.revisions.start(revision, self.at)
        inferred = self.ledger.revisions.move(self.ledger.revisions.get(revision.id), RevisionState.INFERRED, self.at)
        document = json.dumps(make_findings().to_json()).encode()
        self.results.put(revision.result_key, "findings.json", document)
        self.results.put(revision.result_key, "summary.png", PNG)
        made = [
            Result(revision.id, role, "", f"2.25.{revision.id}{n}", "c", "s", f"{role}.dcm", "h", 1)
            for n, role in enumerate(("seg_vertebrae", "sr"), 1)
        ]
        entries = []
        if catalogued:
            header = instance(StudyInstanceUID=revision.study_instance_uid, SOPClassUID=SR, AccessionNumber="PLANTED-ACC",
                              SOPInstanceUID=made[1].sop_instance_uid, SeriesInstanceUID="2.25.77", PixelData=None)
            entries = [entry_of(header)]
        self.ledger.revisions.answered(inferred, made, {"pacs": [r.sop_instance_uid for r in made]}, self.at, entries)
        return self.ledger.revisions.get(revision.id)


def token_in(html: str) -> str:
    return html.split('name="token" value="')[1].split('"')[0]


def study_path(client: TestClient) -> str:
    """Return the address of the first study that the status page links to."""
    return "/study/" + client.get("/").text.split('href="/study/')[1].split('"')[0]
