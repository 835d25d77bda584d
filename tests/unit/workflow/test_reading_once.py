"""One revision read by two workers at once, one of which was counted as dead: one set of bytes, whoever is first.

Two CPUs give two readings that differ in their last bits, so the files of the two must never lie side by side.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_judge import T0, Node

from ovcf_node.domain.states import RevisionState
from ovcf_node.errors import Transient
from ovcf_node.storage import atomic
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool
from ovcf_node.workflow.durable import Worker
from ovcf_node.workflow.purging import remove_files
from result_cases import make_findings


class Reader:
    """Stands for the child process of one machine: its name is in every file it writes, and it reads `names` files."""

    def __init__(self, machine: str, *names: str, then: Callable[[], None] = lambda: None):
        self.machine, self.names, self.then = machine, names, then
        self.count = 0

    def read(self, paths, results: Path, attempt: str, **_) -> None:
        self.count += 1
        findings = replace(make_findings(), software=self.machine)
        files = {name: self.machine.encode() for name in self.names}
        Results(results).prepare(attempt, files | {"findings.json": json.dumps(findings.to_json()).encode()})
        self.then()


class Site(Node):
    """One series, judged and due, and the workers of several machines."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.receive(self.series("a"))
        self.judge.tick(T0 + 31)
        self.results = Results(folder / "results")

    def worker(self, reader: Reader, alive: Callable[[], None] = lambda: None) -> Worker:
        return Worker(self.settings, self.ledger, self.spool, self.results, reader, lambda uid: "hash",
                      clock=lambda: T0 + 40, alive=alive)

    def visible(self) -> dict[str, bytes]:
        key = self.ledger.revisions.get(1).reading_key
        return {name: self.results.get(key, name) for name in self.results.names(key)}

    def left_over(self) -> list[Path]:
        return list((self.results.root / atomic.TEMPORARY).iterdir())


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.ledger.close()
    made.children.close()


def test_a_fenced_worker_publishes_nothing_beside_the_one_that_took_over(site):
    written, go_on = threading.Event(), threading.Event()
    stopped = Reader("stopped", "summary.png", "masks.npz", then=lambda: (written.set(), go_on.wait(60)))
    outcome: list[str] = []
    slow = threading.Thread(target=lambda: outcome.append(site.worker(stopped).infer(1, 0)))
    slow.start()
    assert written.wait(60)
    assert site.worker(Reader("other", "summary.png")).infer(1, 0) == "ok"
    before = site.visible()
    go_on.set()  # it wakes up with its files written, and does not know
    slow.join(60)
    assert outcome == ["stale"]
    assert site.visible() == before and sorted(before) == ["findings.json", "summary.png"]
    assert before["summary.png"] == b"other" and json.loads(before["findings.json"])["software"] == "other"
    revision = site.ledger.revisions.get(1)
    assert (revision.state, revision.attempt, revision.failures) == (RevisionState.INFERRED, 0, 0)
    assert site.left_over() == []


def test_who_takes_over_takes_what_the_first_had_published(site):
    """Both read; the first publishes and dies before the ledger knows of it."""
    first = Reader("first", "summary.png")
    second = Reader("second", "summary.png", then=lambda: site.results.publish("first attempt", key()))

    def key() -> str:
        first.read([], site.results.root, "first attempt")
        return site.ledger.revisions.get(1).reading_key

    assert site.worker(second).infer(1, 0) == "ok"
    assert site.visible()["summary.png"] == b"first" and site.left_over() == []
    assert site.ledger.revisions.get(1).state is RevisionState.INFERRED


def test_what_is_published_is_not_read_again(site):
    reader = Reader("one", "summary.png")
    revision = site.ledger.revisions.begin_reading(site.ledger.revisions.get(1), T0)
    reader.read([], site.results.root, "attempt")
    site.results.publish("attempt", revision.reading_key)
    assert site.worker(reader).infer(1, 0) == "ok" and reader.count == 1
    moved = site.ledger.revisions.get(1)
    assert (moved.state, moved.crashes, moved.in_flight) == (RevisionState.INFERRED, 0, False)


def test_nothing_is_published_before_the_process_is_known_to_be_alive(site):
    seen: list[dict[str, bytes]] = []
    worker = site.worker(Reader("one", "summary.png"), alive=lambda: seen.append(site.visible()))
    assert worker.infer(1, 0) == "ok"
    assert seen == [{}] and sorted(site.visible()) == ["findings.json", "summary.png"]


def test_a_failed_attempt_leaves_nothing_behind(site):
    def fail() -> None:
        raise Transient("child_died")

    assert site.worker(Reader("one", "summary.png", then=fail)).infer(1, 0) == "child_died"
    assert site.left_over() == [] and site.visible() == {}
    assert site.worker(Reader("two")).infer(1, 1) == "ok"
    assert sorted(site.visible()) == ["findings.json"]


def test_a_ledger_that_forgot_a_reading_does_not_take_it_for_its_own(site):
    """Restored from a backup, it reads other instances under the number of the forgotten revision."""
    revision = site.ledger.revisions.get(1)
    forgotten = replace(revision, analysis_started_at=T0 - 1000)
    site.results.prepare("attempt", {"findings.json": b"of other images", "summary.png": b"of other images"})
    site.results.publish("attempt", forgotten.reading_key)
    assert site.worker(Reader("now")).infer(1, 0) == "ok"
    assert json.loads(site.visible()["findings.json"])["software"] == "now" and "summary.png" not in site.visible()


def test_nothing_stays_of_a_reading_whose_study_was_purged_meanwhile(site):
    study = site.ledger.revisions.get(1).study_instance_uid
    reader = Reader("one", "summary.png", "masks.npz",
                    then=lambda: site.ledger.retention.purge_study(study, T0, "anna", force=True))
    assert site.worker(reader).infer(1, 0) == "stale"
    assert [path for path in site.results.root.rglob("*") if path.is_file()] == [] and site.left_over() == []


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_damaged_reading_is_not_adopted_for_ever(site, damaged):
    revision = site.ledger.revisions.begin_reading(site.ledger.revisions.get(1), T0)
    site.results.prepare("attempt", {"findings.json": damaged, "summary.png": b"damaged"})
    site.results.publish("attempt", revision.reading_key)
    reader = Reader("one")
    assert site.worker(reader).infer(1, 0) == "reading_damaged" and reader.count == 0
    assert site.worker(reader).infer(1, 1) == "ok" and reader.count == 1 and "summary.png" not in site.visible()


def test_an_answer_without_a_reading_shows_nothing_of_the_reading_that_could_not_be_encoded(site):
    worker = site.worker(Reader("one", "summary.png", "masks.npz"))  # neither is what it says
    assert worker.infer(1, 0) == "ok"
    for tick in range(9):
        site.judge.tick(T0 + 100 * (tick + 1))
        revision = site.ledger.revisions.get(1)
        if revision.reason_code:
            break
        assert worker.encode(1, revision.attempt) == "masks_unreadable"
    assert revision.reason_code == "technical_failure" and worker.encode(1, revision.attempt) == "ok"
    assert sorted(site.visible()) == ["findings.json"]
    assert json.loads(site.visible()["findings.json"])["status"] == "not_assessed"
    site.ledger.retention.purge_study(revision.study_instance_uid, T0, "anna", force=True)
    remove_files(site.ledger, Spool(site.spool), site.results)
    assert [path for path in site.results.root.rglob("*") if path.is_file()] == []
