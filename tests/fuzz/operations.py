"""Target: C-MOVE, C-GET, N-ACTION and N-EVENT-REPORT over real associations, what they carry changed.

Every one must be answered over the association that it came by, and none by a defect.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import Dataset
from pynetdicom import AE, Association, build_role
from pynetdicom.dimse_primitives import C_GET, C_MOVE, N_ACTION, N_EVENT_REPORT, DimseServiceType
from pynetdicom.presentation import build_context

from catalogue_rows import SC, SEG, SR, item
from dicom_peers import CT_IMAGE, SECRET, RecordingAcceptor, encoded, instance, store_request, uid
from fuzz.mutating import Mutator
from fuzz.requests import defects_told
from fuzz.tallies import Tally, fast_folder, memory_mb
from ovcf_node.config import Destination, Receive, Source
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.network import commitment, contexts
from ovcf_node.network.pausing import one_message_at_a_time, pause_for_certain
from ovcf_node.receive.committing import Committing
from ovcf_node.receive.server import Receiver
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.spool import Spool
from query_peers import answering, association, exchange, identifier

_A_BATCH = 40  # requests over one association
_DESTINATIONS = ("PACS", "PACS", "PACS", "NOBODY", "pacs", "*", "PACS            ")
_COMMITMENT = (N_ACTION, N_EVENT_REPORT)
_PROCESSING_FAILURE = 0x0110  # what a handler that failed is answered with
_MANY = 3_000  # more than one statement of SQL takes


def run(seed: int, going: Callable[[int], bool]) -> Tally:
    """Send requests while `going(tried)`, some of each kind in turn."""
    tally = Tally("operations")
    retrievals, reports = Mutator(seed, _retrieved()), Mutator(seed, _committed())
    begin = memory_mb()
    models = contexts.STUDY_ROOT_MOVE, contexts.STUDY_ROOT_GET
    with TemporaryDirectory(dir=fast_folder()) as name, services(Path(name)) as (query, receiver):
        with _commitment(receiver) as opened:
            commit(tally, opened, encoded(_references(_MANY)), N_ACTION)
        while going(tally.tried):
            with association(query, *models, store_handler=lambda event: 0) as opened:
                _batch(tally, lambda: retrieve(tally, opened, retrievals.one(), retrievals.random.choice(_DESTINATIONS)))
            with _commitment(receiver) as opened:
                _batch(tally, lambda: commit(tally, opened, reports.one(), reports.random.choice(_COMMITMENT)))
    tally.notes |= {"MB grown": memory_mb() - begin}
    return tally


@contextmanager
def services(folder: Path) -> Iterator[tuple[int, int]]:
    """Run a Query/Retrieve SCP with a Move Destination and a receiver that commits; yields their ports."""
    for part in ("query", "receiver"):
        (folder / part).mkdir()
    pacs = RecordingAcceptor([SEG, SC, SR])
    peers = [{"ae_title": "PACS", "move_host": "127.0.0.1", "move_port": pacs.port}]
    url = f"sqlite:///{folder / 'receiver' / 'ledger.sqlite'}"
    migrate(url)
    ledger, spool = Ledger(url), Spool(folder / "receiver" / "spool")
    storing = Storing(spool, ledger.instances, min_free_bytes=0, patient_secret=SECRET)
    storing.answer(store_request(instance(1)))
    settings = Receive(host="127.0.0.1", sources=(Source(ae_title="PACS"),), commit_days=1)
    reporter = Destination(name="pacs", type="dicom", ae_title="PACS", host="127.0.0.1", port=pacs.port, final="committed")
    receiver = Receiver(settings, storing, Committing(settings, ledger, spool), (reporter,), port=0)
    receiver.start()
    try:
        with answering(folder / "query", patients={"visible": {}}, peers=peers) as asked:
            yield asked.port, receiver.port
    finally:
        receiver.stop(0)
        ledger.close()
        pacs.close()


def retrieve(tally: Tally, opened: Association, data: bytes, destination: str | None) -> None:
    """Ask for results with an encoded identifier: by C-MOVE to a destination, or by C-GET."""
    request = C_MOVE() if tally.tried % 2 else C_GET()
    request.MessageID, request.Priority, request.Identifier = 1, 2, io.BytesIO(data)
    if isinstance(request, C_MOVE):
        request.MoveDestination = destination
    model = contexts.STUDY_ROOT_MOVE if isinstance(request, C_MOVE) else contexts.STUDY_ROOT_GET
    request.AffectedSOPClassUID = model
    with defects_told(tally, type(request).__name__, data):
        _told(tally, opened, request, model, data)


def commit(tally: Tally, opened: Association, data: bytes, kind: type[N_ACTION] | type[N_EVENT_REPORT]) -> None:
    """Ask for storage commitment, or report it, with encoded information."""
    request, model = kind(), contexts.STORAGE_COMMITMENT
    request.MessageID = 1
    if isinstance(request, N_ACTION):
        request.RequestedSOPClassUID, request.RequestedSOPInstanceUID = model, commitment.WELL_KNOWN_INSTANCE
        request.ActionTypeID, request.ActionInformation = 1, io.BytesIO(data)
    else:
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = model, commitment.WELL_KNOWN_INSTANCE
        request.EventTypeID, request.EventInformation = 1 + tally.tried % 2, io.BytesIO(data)
    _told(tally, opened, request, model, data)


def _told(tally: Tally, opened: Association, request: DimseServiceType, model: str, data: bytes) -> None:
    tally.tried += 1
    name = type(request).__name__.replace("_", "-")
    try:
        status = exchange(opened, request, model)[-1].Status
    except AssertionError as error:
        tally.found(f"{name}: {error}", data)
        raise
    tally.outcomes[f"{name} 0x{status:04X}"] += 1
    if status == _PROCESSING_FAILURE:
        tally.found(f"{name}: processing failure", data)


def _batch(tally: Tally, one: Callable[[], None]) -> None:
    for _ in range(_A_BATCH):
        try:
            one()
        except AssertionError:  # a finding already; the next association goes on
            return


@contextmanager
def _commitment(port: int) -> Iterator[Association]:
    ae = AE("PACS")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    model = contexts.STORAGE_COMMITMENT
    opened = ae.associate(
        "127.0.0.1", port, contexts=[build_context(model, contexts.EXPLICIT_LITTLE_ENDIAN)], ae_title="OVCF_NODE",
        ext_neg=[build_role(model, scu_role=True, scp_role=True)],
    )
    pause_for_certain(opened)
    one_message_at_a_time(opened)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def _retrieved() -> list[bytes]:
    below = {"StudyInstanceUID": uid("visible"), "SeriesInstanceUID": uid("visible", "series", SR)}
    return [encoded(one) for one in (
        identifier("STUDY", StudyInstanceUID=uid("visible")), identifier("SERIES", **below),
        identifier("IMAGE", **below, SOPInstanceUID=uid("visible", SR)),
        identifier("IMAGE", **below, SOPInstanceUID=[uid("visible", SR), uid("none")]),
    )]


def _committed() -> list[bytes]:
    failed = _references(2)
    failed.FailedSOPSequence = [
        item(ReferencedSOPClassUID=CT_IMAGE, ReferencedSOPInstanceUID=uid("x"), FailureReason=0x0112),
    ]
    return [encoded(one) for one in (_references(1), _references(3), failed)]


def _references(count: int) -> Dataset:
    """Return references to the instance that is there and to others that are not."""
    names = [str(instance(1).SOPInstanceUID), *(f"2.25.{number}" for number in range(1, count))]
    return item(TransactionUID=uid("transaction"), ReferencedSOPSequence=[
        item(ReferencedSOPClassUID=CT_IMAGE, ReferencedSOPInstanceUID=name) for name in names
    ])
