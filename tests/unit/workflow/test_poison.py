"""An input that crashes the reader: counted before it begins, tried twice, then answered. Nothing else counts."""

import json
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from test_judge import T0, Node

from ovcf_node.domain.findings import Findings
from ovcf_node.domain.states import RevisionState
from ovcf_node.errors import Permanent, Transient
from ovcf_node.storage.results import Results
from ovcf_node.workflow.child import Crashed
from ovcf_node.workflow.durable import Worker


class Reader:
    """Stands for the child process: what it does to the worker that asked it to read."""

    def __init__(self, outcome: Callable[[], None]):
        self.outcome = outcome
        self.counts: list[tuple[int, bool]] = []

    def read(self, paths, results, attempt, **_):
        revision = self.ledger.revisions.due(1e12)[-1]
        self.counts.append((revision.crashes, revision.in_flight))
        self.outcome()


class Killed(BaseException):
    """The worker died."""


def raising(error: BaseException) -> Callable[[], None]:
    def outcome() -> None:
        raise error
    return outcome


@pytest.fixture
def site(tmp_path):
    made = Node(tmp_path)
    made.receive(made.series("a"))
    made.judge.tick(T0 + 31)
    yield made
    made.ledger.close()
    made.children.close()


def worker(site: Node, outcome: Callable[[], None]) -> tuple[Worker, Reader]:
    reader = Reader(outcome)
    reader.ledger = site.ledger
    results = Results(site.spool.parent / "results")
    return Worker(site.settings, site.ledger, site.spool, results, reader, lambda uid: "hash", clock=lambda: T0 + 40), reader


def newest(site: Node):
    return site.ledger.revisions.get(1)


def attempts(site: Node, made: Worker, limit: int = 9) -> int:
    """Read and judge until nothing is due any more; returns how often it was read."""
    for count in range(limit):
        site.judge.tick(T0 + 100 * (count + 1))
        if newest(site).state is not RevisionState.COMPLETE:
            return count
        made.infer(1, newest(site).attempt)
    raise AssertionError("it is read for ever")


def test_crash_is_counted_before_it_happens_and_the_second_is_the_last(site):
    made, reader = worker(site, raising(Crashed("child_crashed", "ended by SIGSEGV")))
    assert attempts(site, made) == 2
    assert reader.counts == [(1, True), (2, True)]
    answered = newest(site)
    assert (answered.state, answered.reason_code) == (RevisionState.NOT_ASSESSED, "quarantined")
    texts = [e.text for e in site.ledger.events.of_series(answered.series_instance_uid) if e.kind == "attempt_failed"]
    assert texts == ["infer: child_crashed: ended by SIGSEGV"] * 2


def test_quarantined_series_is_answered_without_a_reading(site):
    made, _ = worker(site, raising(Crashed("out_of_memory", "")))
    attempts(site, made)
    assert made.encode(1, newest(site).attempt) == "ok"
    findings = Findings.from_json(json.loads(made._results.get(newest(site).reading_key, "findings.json")))
    assert findings.status == "not_assessed" and findings.reasons[0].code == "quarantined"
    assert newest(site).answered and "technical failure" in findings.reasons[0].text


@pytest.mark.parametrize("error", [
    Transient("child_timeout"), Transient("child_died", "ended by SIGTERM"), Permanent("defect"),
    ValueError("a defect of the worker"),
], ids=str)
def test_no_other_end_counts(site, error):
    made, reader = worker(site, raising(error))
    assert attempts(site, made) == site.settings.infer.attempts
    assert {count for count, _ in reader.counts} == {1}
    assert (newest(site).crashes, newest(site).in_flight) == (0, False)
    assert newest(site).reason_code == "technical_failure"


def test_full_disk_counts_for_nothing(site):
    made, _ = worker(site, raising(Transient("disk_full")))
    for _ in range(5):
        made.infer(1, newest(site).attempt)
    assert (newest(site).crashes, newest(site).in_flight, newest(site).failures) == (0, False, 0)
    assert newest(site).state is RevisionState.COMPLETE


def test_killed_worker_is_not_held_against_the_input(site):
    killed, reader = worker(site, raising(Killed()))
    for _ in range(5):
        with pytest.raises(Killed):
            killed.infer(1, 0)
    assert set(reader.counts) == {(1, True)}
    made, reader = worker(site, raising(Crashed("child_crashed")))
    assert attempts(site, made) == 2 and reader.counts == [(1, True), (2, True)]


def test_new_slice_gives_the_series_two_more_readings(site):
    made, _ = worker(site, raising(Crashed("child_crashed")))
    attempts(site, made)
    late = site.series("a")[0]
    instance = pydicom.dcmread(late)
    instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = f"{instance.SOPInstanceUID}9"
    instance.save_as(late.with_name("late.dcm"))
    site.receive([Path(late.with_name("late.dcm"))], T0 + 900)
    site.judge.tick(T0 + 950)
    again = site.ledger.revisions.get(2)
    assert again.crashes == 0 and not again.in_flight
