"""The phantom as a marked test patient: sent as a scanner sends, waited for, timed, its finding beside what was planted."""

import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ovcf_node.app import answers, checks
from ovcf_node.commission.check import Check, Outcome
from ovcf_node.commission.own_side import Approach
from ovcf_node.config import Settings
from ovcf_node.demo import phantom
from ovcf_node.domain.findings import Findings
from ovcf_node.domain.identity import uid_from
from ovcf_node.domain.levels import GRADED
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Delivery, Ledger, Revision

GROUP = "Test study"
_LOOK_S = 0.5
_DELIVERY_S = 120.0
_ATTEMPTS = 2  # a destination that failed this often is told as it is instead of being waited for


@dataclass(frozen=True)
class MarkedPatient:
    """Who is sent: unmistakable in any list, and new every time, so that nothing is taken for a duplicate."""

    name: str
    patient_id: str
    accession_number: str
    study_instance_uid: str
    series_instance_uid: str
    key: str


def new_patient(now: datetime) -> MarkedPatient:
    key = f"commissioning {uuid.uuid4().hex}"
    stamp = now.strftime("%y%m%d%H%M%S")
    return MarkedPatient(
        "OVCF^COMMISSIONING", f"OVCF-TEST-{stamp}", f"OVCF{stamp}", uid_from("phantom", key, "study"),
        uid_from("phantom", key, "series"), key,
    )


@dataclass(frozen=True)
class Leg:
    """One part of the way and how long it took, seconds."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Level:
    """One level: planted and found, in words; `agrees` is None where nothing is graded."""

    level: str
    planted: str
    found: str
    agrees: bool | None


@dataclass(frozen=True)
class Answered:
    """What became of the test study."""

    revision: Revision
    findings: Findings | None
    deliveries: tuple[Delivery, ...]


def send(settings: Settings, way: Approach, patient: MarkedPatient, now: datetime) -> Check:
    """Send the phantom by C-STORE to the running receiver."""
    name = "The test study is sent by C-STORE, as a scanner would"
    header = {
        "PatientName": patient.name, "PatientID": patient.patient_id, "AccessionNumber": patient.accession_number,
        "StudyDescription": "COMMISSIONING TEST - NOT A PATIENT", "SeriesDescription": "COMMISSIONING TEST phantom",
    } | {f"{what}Date": now.strftime("%Y%m%d") for what in ("Study", "Series", "Acquisition", "Content")} | {
        f"{what}Time": now.strftime("%H%M%S") for what in ("Study", "Series", "Acquisition", "Content")
    }
    remote = way.remote(settings)
    with tempfile.TemporaryDirectory(prefix="ovcf-commission-") as folder:
        files = phantom.write_series(phantom.load(), Path(folder), name=patient.key, header=header)
        begin = time.monotonic()
        try:
            replies = checks.send_folder(Path(folder), remote)
        except OvcfError as error:
            return Check(GROUP, name, Outcome.FAIL, str(error), "See the rows of the receiver above.")
        seconds = time.monotonic() - begin
    refused = [r for r in replies if r.status != 0]
    if refused:
        status = f"0x{refused[0].status:04X} " if refused[0].status is not None else ""
        return Check(GROUP, name, Outcome.FAIL, f"{len(refused)} of {len(files)} refused: {status}{refused[0].text}",
                     "The receiver's log says instance_refused and why.", seconds)
    return Check(GROUP, name, Outcome.PASS, f"{len(files)} instances, {len(files) / seconds:.0f} a second", seconds=seconds)


def wait(
    settings: Settings, ledger: Ledger, patient: MarkedPatient, limit_s: float, say: Callable[[str], None]
) -> tuple[Check, Answered | None]:
    """Wait until the study is answered and its deliveries are final, or have failed twice, or the limit is over."""
    name = "The node answers the test study"
    begin, told, final_by = time.monotonic(), "", None
    while time.monotonic() - begin < limit_s:
        found = ledger.revisions.of_series(patient.series_instance_uid)
        revision = found[-1] if found else None
        state = str(revision.state) if revision else "received, not judged yet"
        if state != told:
            say(f"{time.monotonic() - begin:5.1f} s  {state}")
            told = state
        if revision and (revision.answered or revision.state in (RevisionState.EXCLUDED, RevisionState.FAILED)):
            deliveries = tuple(ledger.deliveries.of_revision(revision.id))
            final_by = final_by or time.monotonic() + _DELIVERY_S
            if all(_told(d) for d in deliveries) or time.monotonic() > final_by:
                return _answered(settings, revision, deliveries, name, time.monotonic() - begin)
        time.sleep(_LOOK_S)
    return Check(GROUP, name, Outcome.FAIL, f"no answer within {limit_s:.0f} s; it stands at: {told}",
                 "`ovcf-node jobs show` of the series says where it waits; is a worker alive?", limit_s), None


def _told(delivery: Delivery) -> bool:
    final = delivery.state is not DeliveryState.PENDING and delivery.confirm_at is None  # a commitment may follow
    return final or (delivery.state is DeliveryState.PENDING and delivery.attempts >= _ATTEMPTS)


def _answered(
    settings: Settings, revision: Revision, deliveries: tuple[Delivery, ...], name: str, seconds: float
) -> tuple[Check, Answered]:
    findings = answers.findings_of(settings, revision)
    answered = Answered(revision, findings, deliveries)
    if revision.state is not RevisionState.ENCODED or findings is None:
        return Check(GROUP, name, Outcome.FAIL, f"{revision.state}: {revision.reason_text or 'no reading is stored'}",
                     "`ovcf-node jobs show` of the series has its history.", seconds), answered
    words = f"{findings.status}; from the last image sent to the last delivery"
    return Check(GROUP, name, Outcome.PASS, words, seconds=seconds), answered


def legs(ledger: Ledger, answered: Answered, sent: Check) -> list[Leg]:
    """Return how long each part of the way took."""
    revision = answered.revision
    found = [Leg("sending over the network", sent.seconds or 0.0)]
    times = next((t for t in ledger.figures.answered(revision.created_at)
                  if t.last_received_at == revision.last_received_at), None)
    if times is None:
        return found
    read = times.inferred_at or times.analysis_started_at
    found += [
        Leg("quiet period, judging, waiting for a worker", times.analysis_started_at - times.last_received_at),
        Leg("reading", read - times.analysis_started_at), Leg("writing the objects", times.answered_at - read),
    ]
    for destination in dict.fromkeys(d.destination for d in answered.deliveries):
        arrived = [d.updated_at for d in answered.deliveries if d.destination == destination
                   and d.state is not DeliveryState.PENDING]
        if arrived:
            found.append(Leg(f"delivering to {destination}", max(arrived) - times.answered_at))
    last = max((d.updated_at for d in answered.deliveries), default=times.answered_at)
    return [*found, Leg("last image received to last object delivered", last - times.last_received_at)]


def beside(planted: Sequence[phantom.Planted], findings: Findings) -> tuple[Check, list[Level]]:
    """Put what was found beside what was planted: every planted fracture, no other, no wrong type."""
    found = {v.level: v for v in findings.vertebrae}
    rows = []
    for true in planted:
        vertebra = found.get(true.level)
        said = vertebra.fracture if vertebra else None
        agrees = None
        if true.level in GRADED:
            agrees = said is true.fracture and (not true.fracture or vertebra.denis in (None, true.denis))
        rows.append(Level(true.level, _planted(true), _said(vertebra, said), agrees))
    wrong = [row.level for row in rows if row.agrees is False]
    name = "The finding is the planted one"
    if wrong:
        return Check(GROUP, name, Outcome.FAIL, f"differs at {', '.join(wrong)}",
                     "Compare the bundle's digest with the delivered one. Do not use the node until it is known why."), rows
    broken = ", ".join(f"{t.level} type {t.denis}" for t in planted if t.fracture)
    return Check(GROUP, name, Outcome.PASS, f"{broken} found, nothing else called a fracture"), rows


def _planted(true: phantom.Planted) -> str:
    return f"fracture, type {true.denis}, height loss {true.height_loss:.0%}" if true.fracture else "no fracture"


def _said(vertebra, said: bool | None) -> str:
    if vertebra is None:
        return "not found"
    if vertebra.level not in GRADED:
        return "labelled (not graded)"
    probability = f", probability {vertebra.probability:.2f}" if vertebra.probability is not None else ""
    if not said:
        return ("no fracture" if said is False else "undetermined") + probability
    loss = f", height loss {vertebra.height_loss:.0%}" if vertebra.height_loss is not None else ""
    return f"fracture, type {vertebra.denis or 'withheld'}{loss}{probability}"
