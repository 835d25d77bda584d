"""What retention marks, when, and what remains of it, on both databases."""

import itertools
import threading

import pytest
from sqlalchemy import update
from test_ledger import receipt

import postgresql
from catalogue_rows import SC, SR, result_object, store
from ovcf_node.domain.identity import source_digest
from ovcf_node.domain.reasons import Reason, reason
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.ledger import Ledger, Result, migrate
from ovcf_node.ledger.catalogue import Level, Query
from ovcf_node.ledger.rest import locked
from ovcf_node.ledger.retention import SPOOL, Due, InFlight, Phase
from ovcf_node.ledger.schema import instances

S = RevisionState
_NUMBERS = itertools.count(1)


@pytest.fixture
def ledger(ledger_url):
    opened = Ledger(ledger_url)
    yield opened
    opened.close()


class Study:
    """One study of one series, read at 102 and delivered to `pacs` at 103."""

    def __init__(self, ledger: Ledger, *, instances: int = 2, deliver: bool = True):
        self.ledger = ledger
        number = next(_NUMBERS)
        self.uid, self.series = f"70.{number}", f"71.{number}"
        self.sops = [f"72.{number}.{i}" for i in range(instances)]
        for sop in self.sops:
            self.receive(sop)
        self.arrive()
        self.revision = self._encode(self.newest())
        if deliver:
            self.deliver()

    def _encode(self, revision):
        for state in (S.COMPLETE, S.INFERRED):
            revision = self.ledger.revisions.move(revision, state, 102.0)
        made = [
            Result(revision.id, role, "", f"{self.series}.{role}", "c", "s", f"{role}.dcm", "h", 1) for role in ("seg", "sr")
        ]
        self.ledger.revisions.answered(revision, made, {"pacs": [r.sop_instance_uid for r in made]}, 102.0)
        return self.ledger.revisions.get(revision.id)

    def receive(self, sop: str, digest: str = "", at: float = 100.0, **other) -> None:
        self.ledger.instances.record(
            receipt(sop, digest or f"d{sop}", series=self.series, study=self.uid, at=at, **other)
        )

    def arrive(self, now: float = 100.0) -> None:
        for arrival in self.ledger.instances.arrivals(0):
            if arrival.series_instance_uid == self.series:
                self.ledger.revisions.arrived(arrival, now)

    def newest(self):
        return self.ledger.revisions.of_series(self.series)[-1]

    def deliver(self, state: DeliveryState = DeliveryState.ACCEPTED, **more) -> None:
        for delivery in self.ledger.deliveries.of_revision(self.newest().id):
            self.ledger.deliveries.finished(delivery, state, 103.0, status=0, text="", **more)

    def due(self, phase: Phase, before: float = 110.0, *, failed_too: bool = True, destinations=("pacs",)) -> bool:
        due = Due(1000.0, before, destinations, failed_too)
        return self.uid in self.ledger.retention.due(phase, due, 100)

    def purge(self, phase: Phase) -> None:
        assert self.ledger.retention.purge(phase, self.uid, Due(1000.0, 110.0, ("pacs",), True))


def files(ledger: Ledger) -> list[tuple[str, str]]:
    listed = ledger.retention.removals(1000)
    ledger.retention.removed(listed)
    return [(r.store, r.path) for r in listed]


def test_images_go_and_every_instance_is_still_known(ledger):
    study = Study(ledger)
    assert study.due(Phase.IMAGES) and not study.due(Phase.IMAGES, before=103.0)
    files(ledger)
    study.purge(Phase.IMAGES)
    assert files(ledger) == [(SPOOL, f"d{sop}.dcm") for sop in study.sops]
    assert not study.due(Phase.IMAGES) and study.newest().images_purged_at == 1000.0
    assert ledger.instances.has_digest(study.sops[0], f"d{study.sops[0]}")
    study.receive(study.sops[0])
    study.arrive()
    assert len(ledger.revisions.of_series(study.series)) == 1
    assert ledger.instances.first_path(study.series) is None


def test_nothing_goes_before_everything_is_final(ledger):
    waiting = Study(ledger, deliver=False)
    assert not waiting.due(Phase.IMAGES) and not waiting.due(Phase.ROWS)
    assert not ledger.retention.purge(Phase.IMAGES, waiting.uid, Due(1000.0, 110.0, ("pacs",), True))
    assert waiting.due(Phase.IMAGES, destinations=("other",))  # what waits for nobody's destination keeps nothing
    uncommitted = Study(ledger, deliver=False)
    uncommitted.deliver(confirm_at=200.0)
    assert not uncommitted.due(Phase.IMAGES)
    held = Study(ledger)
    ledger.holds.place(held.uid, Reason("by_person", ""), 104.0)
    assert not held.due(Phase.IMAGES) and not held.due(Phase.ROWS)
    undecided = Study(ledger)
    undecided.receive(undecided.sops[0], "other bytes")
    assert not undecided.due(Phase.IMAGES)
    arriving = Study(ledger)
    arriving.receive("73.1", at=120.0)
    assert not arriving.due(Phase.IMAGES)
    promised = Study(ledger)
    ledger.promises.keep([promised.sops[0]], 1001.0)
    assert not promised.due(Phase.IMAGES)


def test_refused_delivery_is_final(ledger):
    study = Study(ledger, deliver=False)
    study.deliver(DeliveryState.REJECTED)
    assert study.due(Phase.IMAGES)


def test_what_failed_keeps_its_images_as_long_as_results_stay(ledger):
    study = Study(ledger)
    study.receive("74.1")
    study.arrive()
    ledger.revisions.move(study.newest(), S.FAILED, 105.0, reason=Reason("unreadable_series", ""))
    assert not study.due(Phase.IMAGES, failed_too=False) and study.due(Phase.IMAGES)


def test_excluded_and_unread_series_go_like_read_ones(ledger):
    study = Study(ledger)
    ledger.revisions.reopen(study.newest(), 104.0)
    assert not study.due(Phase.IMAGES)
    ledger.revisions.move(study.newest(), S.EXCLUDED, 105.0, reason=reason("no_spine"))
    assert study.due(Phase.IMAGES)
    ledger.revisions.reopen(study.newest(), 106.0)
    unread = ledger.revisions.move(study.newest(), S.NOT_ASSESSED, 106.0, reason=reason("incomplete"))
    assert not study.due(Phase.IMAGES)  # not answered yet
    ledger.revisions.answered(unread, [], {}, 107.0)
    assert study.due(Phase.IMAGES)


def test_what_was_purged_is_promised_to_nobody(ledger):
    study = Study(ledger)
    study.purge(Phase.IMAGES)
    assert ledger.promises.keep(study.sops, 5000.0) == set() and ledger.promises.paths(study.sops) == {}


def test_slices_that_come_late_after_the_purge_open_nothing_and_are_noted(ledger):
    study = Study(ledger)
    assert ledger.retention.late(study.series, study.uid, 104.0) == 0
    study.purge(Phase.IMAGES)
    files(ledger)
    study.receive("75.1", at=2000.0)
    assert ledger.retention.late(study.series, study.uid, 2001.0) == 1
    assert study.series not in [arrival.series_instance_uid for arrival in ledger.instances.arrivals(0)]
    assert study.newest() == ledger.revisions.get(study.revision.id)
    assert files(ledger) == [(SPOOL, "d75.1.dcm")]
    assert ledger.events.of_series(study.series)[-1].kind == "late_after_purge"


def test_results_go_from_queries_and_the_history_stays(ledger):
    name = f"study {next(_NUMBERS)}"
    revision = store(ledger, [result_object(name, SC), result_object(name, SR)])
    asked = Query(Level.INSTANCE, {"StudyInstanceUID": revision.study_instance_uid}, "88.34/air")
    assert len(list(ledger.catalogue.find(asked))) == 2
    due = Due(1000.0, 110.0, (), True)
    assert ledger.retention.purge(Phase.RESULTS, revision.study_instance_uid, due)
    assert list(ledger.catalogue.find(asked)) == []
    assert ledger.catalogue.retrieve({"StudyInstanceUID": revision.study_instance_uid}, "88.34/air", 10) == []
    assert all(r.revision_id != revision.id for r in ledger.catalogue.missing(None, 1000))
    assert {("results", revision.result_key), ("results", revision.reading_key)} <= set(files(ledger))
    assert ledger.revisions.get(revision.id).results_purged_at == 1000.0
    assert len(ledger.deliveries.results_of(revision.id)) == 2


def test_rows_leave_a_tombstone_and_the_next_revision_has_a_new_number(ledger):
    study = Study(ledger)
    study.purge(Phase.ROWS)
    assert ledger.revisions.of_series(study.series) == [] and ledger.events.of_study(study.uid) == []
    assert ledger.instances.original(study.sops[0]) is None
    stone = ledger.retention.tombstone(study.series)
    assert (stone.last_number, stone.source_digest) == (1, source_digest(study.sops))
    study.receive(study.sops[0])
    study.arrive()
    assert study.newest().number == 2


def test_one_study_is_purged_by_a_person_only_when_nothing_is_in_flight(ledger):
    study = Study(ledger, deliver=False)
    with pytest.raises(InFlight, match="not finally delivered"):
        ledger.retention.purge_study(study.uid, 1000.0, "anna")
    study.deliver()
    other = Study(ledger)
    assert ledger.retention.purge_study(study.uid, 1000.0, "anna")
    assert ledger.revisions.of_series(study.series) == [] and other.newest()
    assert ledger.retention.tombstone(study.series).source_digest is None  # it is to be read when it comes again
    assert not ledger.retention.purge_study(study.uid, 1000.0, "anna")


def test_force_purges_what_is_held_and_under_way(ledger):
    study = Study(ledger, deliver=False)
    ledger.holds.place(study.uid, Reason("by_person", ""), 104.0)
    assert ledger.retention.purge_study(study.uid, 1000.0, "anna", force=True)
    assert all(hold.study_instance_uid != study.uid for hold in ledger.holds.all())


def test_old_commitments_are_forgotten(ledger):
    ledger.promises.record("80.1", "CT", "NODE", {}, now=10.0, report_at=12.0)
    ledger.retention.sweep(100.0)
    (due,) = ledger.promises.due(12.0)  # not told yet
    ledger.promises.reported(due)
    ledger.retention.sweep(100.0)
    ledger.promises.record("80.1", "CT", "NODE", {}, now=200.0, report_at=12.0)
    assert ledger.promises.due(12.0)[0].id != due.id or ledger.promises.due(12.0)[0].at == 200.0


def test_a_study_of_which_nothing_was_ever_opened_is_purged_when_its_hold_is_over(ledger):
    number = next(_NUMBERS)
    uid, due = f"70.{number}", Due(1000.0, 900.0, (), True)
    ledger.instances.record(receipt(f"72.{number}.0", f"d72.{number}.0", series=f"71.{number}", study=uid, at=100.0))
    only = ledger.instances.original(f"72.{number}.0")
    ledger.instances.set_kind([only.id], "conflict")
    ledger.holds.place(uid, Reason("identity_conflict", "again"), 100.0)
    assert all(uid not in ledger.retention.due(phase, due, 1000) for phase in Phase)
    ledger.holds.lift(uid, 101.0, "anna")
    assert [phase for phase in Phase if uid in ledger.retention.due(phase, due, 1000)] == [Phase.IMAGES, Phase.ROWS]
    assert ledger.retention.purge(Phase.IMAGES, uid, due)
    assert [phase for phase in Phase if uid in ledger.retention.due(phase, due, 1000)] == [Phase.ROWS]
    assert ledger.retention.purge(Phase.ROWS, uid, due)
    assert (SPOOL, f"d72.{number}.0.dcm") in files(ledger)
    assert not any(uid in ledger.retention.due(phase, due, 1000) for phase in Phase)
    assert ledger.instances.original(f"72.{number}.0") is None


@pytest.mark.peer
def test_a_promise_waits_for_a_purge_that_has_begun(postgresql_cluster):
    """SQLite has one writer at a time; on PostgreSQL both ran side by side, and the promise was given for nothing."""
    with postgresql.database(postgresql_cluster) as url:
        migrate(url)
        ledger = Ledger(url)
        study, kept = Study(ledger), []
        with ledger.retention._engine.begin() as purging:
            here = locked(purging, study.uid)
            promising = threading.Thread(target=lambda: kept.append(ledger.promises.keep(study.sops, 5000.0)))
            promising.start()
            promising.join(0.5)
            assert promising.is_alive()
            study.receive("75.9")  # and what arrives meanwhile is none of it
            purging.execute(update(instances).where(instances.c.id.in_(here)).values(path=""))
        promising.join(30)
        assert kept == [set()] and ledger.instances.original("75.9").path
        ledger.close()
