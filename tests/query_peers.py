"""A running Query/Retrieve SCP over a few results, and requests to it as data sets."""

import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, Association, build_role, evt
from pynetdicom.dimse_primitives import C_FIND, DimseServiceType
from pynetdicom.presentation import build_context

from catalogue_rows import SC, SEG, SR, result_object, store
from ovcf_node.config import Destination, Peer, Query
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.network import contexts
from ovcf_node.network.pausing import pause_for_certain
from ovcf_node.query.scp import QueryScp
from ovcf_node.storage.results import Results

PATIENTS = {
    "a": {"PatientName": "Müller^Hans", "SpecificCharacterSet": "ISO_IR 100", "StudyDate": "20240101"},
    "b": {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "SpecificCharacterSet": ["", "ISO 2022 IR 87"]},
    "c": {"PatientName": "Doe^Jane", "SpecificCharacterSet": None},
}


@dataclass
class Asked:
    """An SCP and what it serves."""

    scp: QueryScp
    ledger: Ledger
    results: Results

    @property
    def port(self) -> int:
        return self.scp.port


@cache
def _empty_ledger() -> bytes:
    """Return an SQLite ledger without rows; to migrate takes longer than a query."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        migrate(f"sqlite:///{path}")
        return path.read_bytes()


@contextmanager
def answering(
    folder: Path, *, peers: list[dict] | None = None, destinations: tuple[Destination, ...] = (),
    patients: dict | None = None, **settings,
) -> Iterator[Asked]:
    """Serve three objects for each of `patients`; FINDSCU, GETSCU, MOVESCU and PACS may do everything."""
    database = folder / "ledger.sqlite"
    database.write_bytes(_empty_ledger())
    ledger, results = Ledger(f"sqlite:///{database}"), Results(folder / "results")
    for name, elements in (PATIENTS if patients is None else patients).items():
        store(ledger, [result_object(name, sop_class, **elements) for sop_class in (SEG, SC, SR)], results)
    known = peers or [{"ae_title": title} for title in ("FINDSCU", "GETSCU", "MOVESCU", "PACS")]
    query = Query(host="127.0.0.1", peers=tuple(Peer(**p) for p in known), **settings)
    scp = QueryScp(query, destinations, ledger, results.root, port=0)
    scp.start()
    try:
        yield Asked(scp, ledger, results)
    finally:
        scp.stop(0)
        ledger.close()


def identifier(level: str | None, **keys) -> Dataset:
    """Return an identifier; `Sequence__Keyword` is a key inside a sequence."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    if level is not None:
        dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


@contextmanager
def association(
    port: int, *sop_classes: str, calling: str = "PACS", store_handler=None, transfer_syntaxes=None,
    store_classes: Sequence[str] = (SEG, SC, SR),
) -> Iterator[Association]:
    """Open an association for Q/R classes; with a store handler also in the role of receiver (C-GET)."""
    requested = [build_context(uid) for uid in sop_classes]
    roles, handlers = [], []
    if store_handler is not None:
        requested += [build_context(uid, transfer_syntaxes) for uid in store_classes]
        roles = [build_role(uid, scp_role=True) for uid in store_classes]
        handlers = [(evt.EVT_C_STORE, store_handler)]
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    opened = ae.associate("127.0.0.1", port, contexts=requested, ae_title="OVCF_NODE", ext_neg=roles, evt_handlers=handlers)
    if opened.is_established:
        pause_for_certain(opened)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def find(
    port: int, asked: Dataset, *, patient_root: bool = False, calling: str = "PACS"
) -> tuple[list[tuple[int, Dataset]], Dataset]:
    """Ask by C-FIND; returns the pending responses and the final status."""
    model = contexts.PATIENT_ROOT_FIND if patient_root else contexts.STUDY_ROOT_FIND
    with association(port, model, calling=calling) as opened:
        assert opened.is_established
        answers = list(opened.send_c_find(asked, model))
    return [(status.Status, match) for status, match in answers[:-1]], answers[-1][0]


def ask(opened: Association, data: bytes, model: str = contexts.STUDY_ROOT_FIND) -> tuple[list[bytes], int]:
    """Send an identifier of C-FIND as it is; returns the encoded responses and the final status."""
    request = C_FIND()
    request.MessageID, request.AffectedSOPClassUID, request.Priority = 1, model, 2
    request.Identifier = io.BytesIO(data)
    answers = exchange(opened, request, model)
    return [answer.Identifier.getvalue() for answer in answers[:-1]], answers[-1].Status


def exchange(opened: Association, request: DimseServiceType, model: str) -> list[DimseServiceType]:
    """Send a request as it is and return every response to it, the final one last.

    What the acceptor asks meanwhile (C-STORE of a C-GET, N-EVENT-REPORT) is answered with success.
    """
    context = next(c for c in opened.accepted_contexts if c.abstract_syntax == model)
    answers = []
    opened._reactor_checkpoint.clear()
    while not opened._is_paused:  # or the association's own thread may take a response, and nobody knows of it
        time.sleep(0.001)
    try:
        opened.dimse.send_msg(request, context.context_id)
        while True:
            number, said = opened.dimse.get_msg(block=True)
            assert said is not None, "the association was lost"
            if not said.is_valid_response:
                opened.dimse.send_msg(_agreed(said), number)
                continue
            answers.append(said)
            if said.Status not in (0xFF00, 0xFF01):
                return answers
    finally:
        opened._reactor_checkpoint.set()


def _agreed(asked: DimseServiceType) -> DimseServiceType:
    answer = type(asked)()
    answer.MessageIDBeingRespondedTo, answer.Status = asked.MessageID, 0x0000
    answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID = asked.AffectedSOPClassUID, asked.AffectedSOPInstanceUID
    return answer
