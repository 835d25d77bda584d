"""Source rejection notes: what they name no longer counts, before, during and after it was read."""

import pytest
import test_judge
from test_judge import T0, Node

from ovcf_node.config import Settings
from ovcf_node.domain.states import RevisionState
from ovcf_node.errors import Permanent, Transient
from ovcf_node.workflow.child import Children
from source_notes import write_note

S = RevisionState


@pytest.fixture(scope="module")
def children():
    shared = Children(Settings())  # starting one costs seconds
    yield shared
    shared.close()


@pytest.fixture
def site(tmp_path, children, monkeypatch):
    monkeypatch.setattr(test_judge, "Children", lambda settings: children)
    made = Node(tmp_path)
    yield made
    made.ledger.close()


def reject(site: Node, images, code: str, at: float) -> None:
    name = f"note-{code}-{at}"
    site.receive([write_note(site.spool / name, images, code)], at)


def read(site: Node, path):
    """Let the series be read and answered; returns its revision."""
    revision = site.ledger.revisions.move(site.newest(path), S.INFERRED, T0 + 40)
    site.ledger.revisions.answered(revision, [], {}, T0 + 41)
    return site.newest(path)


@pytest.mark.parametrize("code", ["113001", "113037", "113038"])
def test_a_series_that_its_source_rejects_no_longer_counts(site, code):
    paths = site.series("a")
    site.receive(paths)
    site.judge.tick(T0 + 31)
    first = read(site, paths[0])
    reject(site, paths, code, T0 + 50)
    site.judge.tick(T0 + 51)  # at once: no quiet period
    newest = site.newest(paths[0])
    assert (newest.number, newest.state, newest.reason_code) == (2, S.EXCLUDED, "source_withdrawn")
    assert site.ledger.revisions.get(first.id).state is S.SUPERSEDED
    kinds = [event.kind for event in site.ledger.events.of_series(newest.series_instance_uid)]
    assert kinds.count("source_withdrawn") == 1
    site.judge.tick(T0 + 90)
    note = site.ledger.revisions.newest(10)[0]
    assert (note.state, note.reason_code) == (S.EXCLUDED, "rejection_note")
    site.receive(paths, T0 + 100)  # sent again: nothing happens
    site.judge.tick(T0 + 200)
    assert site.newest(paths[0]).id == newest.id


@pytest.mark.parametrize("code", ["113039", "113000"])
def test_retention_and_key_images_withdraw_nothing(site, code):
    paths = site.series("a")
    site.receive(paths)
    site.judge.tick(T0 + 31)
    reject(site, paths, code, T0 + 40)
    site.judge.tick(T0 + 41)
    site.judge.tick(T0 + 90)
    assert (site.newest(paths[0]).number, site.newest(paths[0]).state) == (1, S.COMPLETE)
    assert site.ledger.revisions.newest(10)[0].reason_code == "not_ct"


def test_rejected_part_opens_a_revision_of_the_rest(site):
    paths = site.series("a")
    site.receive(paths)
    site.judge.tick(T0 + 31)
    read(site, paths[0])
    reject(site, paths[-5:], "113001", T0 + 50)
    site.judge.tick(T0 + 51)  # judged with the study, which a note just reached
    site.judge.tick(T0 + 81)
    newest = site.newest(paths[0])
    assert (newest.number, newest.state) == (2, S.COMPLETE) and newest.verdict["problem"] is None
    assert len(site.ledger.instances.originals(newest.series_instance_uid, newest.through_instance_id)) == 55


def test_rest_with_a_gap_waits_then_is_answered_with_the_reason(site):
    paths = site.series("a")
    site.receive(paths)
    site.judge.tick(T0 + 31)
    reject(site, paths[20:24], "113001", T0 + 50)
    site.judge.tick(T0 + 51)
    site.judge.tick(T0 + 81)
    assert (site.newest(paths[0]).state, site.newest(paths[0]).reason_code) == (S.WAITING, "missing_slices")
    site.judge.tick(T0 + 601)
    given_up = site.newest(paths[0])
    assert (given_up.state, given_up.verdict["problem"]["code"]) == (S.COMPLETE, "source_withdrawn_in_part")


def test_a_note_that_comes_before_its_images_holds_for_them(site):
    paths = site.series("a")
    reject(site, paths, "113037", T0)
    site.judge.tick(T0 + 1)
    site.receive(paths, T0 + 5)
    site.judge.tick(T0 + 6)
    site.judge.tick(T0 + 40)
    assert (site.newest(paths[0]).state, site.newest(paths[0]).reason_code) == (S.EXCLUDED, "source_withdrawn")


def test_a_waiting_series_is_judged_anew_when_the_rest_is_rejected(site):
    paths = site.series("a")
    site.receive(paths[:20] + paths[24:])
    site.judge.tick(T0 + 31)
    assert site.newest(paths[0]).state is S.WAITING
    reject(site, paths, "113038", T0 + 50)
    site.judge.tick(T0 + 51)
    site.judge.tick(T0 + 81)
    assert (site.newest(paths[0]).number, site.newest(paths[0]).reason_code) == (1, "source_withdrawn")


def test_the_series_that_stood_back_is_read_when_the_chosen_one_is_rejected(site):
    thin, thick = site.series("thin"), site.series("thick", spacing=2.0)
    site.receive(thin + thick)
    site.judge.tick(T0 + 31)
    assert site.newest(thick[0]).reason_code == "better_series"
    reject(site, thin, "113001", T0 + 50)
    for second in (51, 81, 82):
        site.judge.tick(T0 + second)
    assert site.newest(thin[0]).reason_code == "source_withdrawn"
    assert (site.newest(thick[0]).number, site.newest(thick[0]).state) == (2, S.COMPLETE)


def test_a_note_that_cannot_be_read_holds_its_study_and_a_slow_machine_does_not(site, monkeypatch):
    paths = site.series("a")
    site.receive(paths)
    reject(site, paths, "113037", T0 + 1)
    errors = [Transient("child_timeout"), Permanent("child_crashed")]

    def fails(path):
        raise errors.pop(0)

    monkeypatch.setattr(site.children, "source_note", fails)
    site.judge.tick(T0 + 40)
    assert site.ledger.holds.all() == [] and site.newest(paths[0]).state is S.RECEIVING  # undecided
    site.judge.tick(T0 + 41)
    assert [h.reason_code for h in site.ledger.holds.all()] == ["note_unreadable"] and errors == []
    site.judge.tick(T0 + 42)
    assert site.scheduler.calls == []


@pytest.mark.parametrize("answers", [True, False])
def test_a_note_on_a_disk_that_stays_away_is_waited_for_then_held_and_heeded_when_the_disk_answers(site, answers):
    paths = site.series("a")
    site.receive(paths)
    note = write_note(site.spool / "away", paths, "113037")
    site.receive([note], T0 + 1)
    note.rename(away := note.with_name("elsewhere"))
    note.mkdir()  # what is no file cannot be read: as when a disk does not answer
    site.judge.tick(T0 + 40)
    assert site.ledger.holds.all() == [] and site.newest(paths[0]).state is S.RECEIVING  # undecided
    site.judge.tick(T0 + 1000)
    assert [h.reason_code for h in site.ledger.holds.all()] == ["note_unreadable"]
    study = site.newest(paths[0]).study_instance_uid
    if answers:
        note.rmdir()
        away.rename(note)
        site.judge.tick(T0 + 1070)
    site.ledger.holds.lift(study, T0 + 1080, "anna")
    for second in (1140, 1180):
        site.judge.tick(T0 + second)
    newest = site.newest(paths[0])
    assert newest.state is (S.EXCLUDED if answers else S.COMPLETE)
    assert (newest.reason_code == "source_withdrawn") is answers


def test_a_note_whose_disk_comes_back_is_heeded(site):
    paths = site.series("a")
    site.receive(paths)
    note = write_note(site.spool / "away", paths, "113037")
    site.receive([note], T0 + 1)
    note.rename(away := note.with_name("elsewhere"))
    note.mkdir()
    site.judge.tick(T0 + 40)
    note.rmdir()
    away.rename(note)
    site.judge.tick(T0 + 50)
    site.judge.tick(T0 + 80)
    assert (site.newest(paths[0]).state, site.newest(paths[0]).reason_code) == (S.EXCLUDED, "source_withdrawn")


def test_a_note_in_which_nothing_can_be_read_holds_its_study(site):
    paths = site.series("a")
    note = write_note(site.spool / "broken", paths, "113037")
    site.receive(paths)
    site.receive([note], T0 + 1)
    note.write_bytes(b"no DICOM")
    site.judge.tick(T0 + 40)
    assert [h.reason_code for h in site.ledger.holds.all()] == ["note_unreadable"]
