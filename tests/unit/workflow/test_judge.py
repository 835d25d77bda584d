"""The judge loop on real files and a real ledger, with the clock and the scheduler in the test's hands."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ct_series import grid, linear_hu, uid, write_ct
from ovcf_node.config import Settings
from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.domain.reasons import reason
from ovcf_node.domain.series import Receipt
from ovcf_node.domain.states import RevisionState
from ovcf_node.errors import Transient
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.ledger.retention import Due, Phase
from ovcf_node.operate import decisions
from ovcf_node.workflow.child import Children
from ovcf_node.workflow.judge import Judge

S = RevisionState
T0 = 1_000_000.0
SHAPE = (60, 32, 32)


class Scheduler:
    """Remembers what was enqueued; the test says what became of it."""

    def __init__(self):
        self.known: dict[str, str] = {}
        self.calls: list[tuple] = []

    def enqueue(self, workflow, workflow_id, queue, args, *, priority, alone=None):
        self.known[workflow_id] = "enqueued"
        self.calls.append((workflow, workflow_id, queue, args, priority))
        return True

    def states(self, workflow_ids):
        return {i: self.known.get(i, "absent") for i in workflow_ids}


class Node:
    """A judge with everything around it."""

    def __init__(self, folder: Path, **assemble):
        self.spool = folder / "spool"
        self.settings = Settings(assemble={"quiet_s": 30, "incomplete_limit_s": 600} | assemble)
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        migrate(url)
        self.ledger = Ledger(url)
        self.scheduler = Scheduler()
        self.count: int | None = None
        self.free_mb = 10_000
        self.children = Children(self.settings)
        self.judge = Judge(
            self.settings, self.ledger, self.spool, self.scheduler, self.children, lambda uid: "hash",
            lambda at, stat: 1 if stat else 2, lambda study, series: self.count, free_bytes=lambda: self.free_mb * 2**20,
        )

    def receive(self, paths, at=T0, *, patient="p", stat=False):
        for path in paths:
            ds = pydicom.dcmread(path)
            self.ledger.instances.record(Receipt(
                ds.SOPInstanceUID, ds.SOPClassUID, ds.StudyInstanceUID, ds.SeriesInstanceUID,
                ds.file_meta.TransferSyntaxUID, str(path.relative_to(self.spool)), 1, f"{path}", patient, "CT",
                datetime.fromtimestamp(at, UTC), "CT", "NODE", "a", stat,
            ))

    def series(self, name: str, spacing=1.0, **overrides) -> list[Path]:
        affine = grid(SHAPE, spacing=(spacing, 1.5, 1.5))
        return write_ct(
            self.spool / name, linear_hu(SHAPE, affine), affine, study="study", series=name, SliceThickness=spacing,
            **overrides,
        )

    def newest(self, series_path: Path):
        uid = pydicom.dcmread(series_path, stop_before_pixels=True).SeriesInstanceUID
        return self.ledger.revisions.of_series(uid)[-1]


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    made.ledger.close()
    made.children.close()


def test_quiet_complete_series_is_read_once(node):
    paths = node.series("a")
    node.receive(paths)
    node.judge.tick(T0 + 10)
    assert node.newest(paths[0]).state is S.RECEIVING
    node.judge.tick(T0 + 31)
    node.judge.tick(T0 + 32)
    revision = node.newest(paths[0])
    assert revision.state is S.COMPLETE
    assert [(c[0], c[2], c[3]) for c in node.scheduler.calls] == [("read", "read", (revision.id, 0))]


def test_two_associations_are_one_series(node):
    paths = node.series("a")
    node.receive(paths[::2], T0)
    node.judge.tick(T0 + 5)
    node.receive(paths[1::2], T0 + 20)
    node.judge.tick(T0 + 40)
    assert node.newest(paths[0]).state is S.RECEIVING
    node.judge.tick(T0 + 51)
    assert node.newest(paths[0]).state is S.COMPLETE


def test_gap_waits_then_is_answered(node):
    paths = node.series("a")
    node.receive(paths[:20] + paths[24:])
    node.judge.tick(T0 + 31)
    waiting = node.newest(paths[0])
    assert (waiting.state, waiting.reason_code) == (S.WAITING, "missing_slices")
    node.judge.tick(T0 + 500)
    assert node.scheduler.calls == []
    node.judge.tick(T0 + 601)
    given_up = node.newest(paths[0])
    assert given_up.state is S.COMPLETE and given_up.verdict["problem"]["code"] == "missing_slices"


def test_gap_is_filled_in_time(node):
    paths = node.series("a")
    node.receive(paths[:20] + paths[24:])
    node.judge.tick(T0 + 31)
    node.receive(paths[20:24], T0 + 100)
    node.judge.tick(T0 + 131)
    filled = node.newest(paths[0])
    assert (filled.number, filled.state, filled.verdict["problem"]) == (1, S.COMPLETE, None)


def test_source_pacs_knows_of_more_instances(node):
    paths = node.series("a")
    node.count = len(paths) + 5
    node.receive(paths)
    node.judge.tick(T0 + 31)
    assert (node.newest(paths[0]).state, node.newest(paths[0]).reason_code) == (S.WAITING, "incomplete")


def test_late_slice_opens_a_new_revision(node):
    paths = node.series("a")
    node.receive(paths[:-1])
    node.judge.tick(T0 + 31)
    node.receive(paths[-1:], T0 + 100)
    node.judge.tick(T0 + 101)
    uid = node.newest(paths[0]).series_instance_uid
    assert [r.state for r in node.ledger.revisions.of_series(uid)] == [S.SUPERSEDED, S.RECEIVING]


@pytest.mark.parametrize("first_thick", [True, False])
def test_thinnest_series_of_a_study_is_read(node, first_thick):
    thick, thin = node.series("thick", 2.0), node.series("thin", 1.0)
    for paths in (thick, thin) if first_thick else (thin, thick):
        node.receive(paths)
    node.judge.tick(T0 + 31)
    assert node.newest(thin[0]).state is S.COMPLETE
    other = node.newest(thick[0])
    assert (other.state, other.reason_code) == (S.EXCLUDED, "better_series")
    assert node.newest(thin[0]).series_instance_uid in other.reason_text


def test_study_is_judged_when_all_of_it_is_quiet(node):
    thick, thin = node.series("thick", 2.0), node.series("thin", 1.0)
    node.receive(thick, T0)
    node.receive(thin, T0 + 25)
    node.judge.tick(T0 + 40)
    assert node.newest(thick[0]).state is S.RECEIVING
    node.judge.tick(T0 + 56)
    assert node.newest(thick[0]).state is S.EXCLUDED


def test_better_series_that_comes_later_is_read_too(node):
    thick, thin = node.series("thick", 2.0), node.series("thin", 1.0)
    node.receive(thick, T0)
    node.judge.tick(T0 + 31)
    node.receive(thin, T0 + 300)
    node.judge.tick(T0 + 331)
    assert node.newest(thick[0]).state is S.COMPLETE and node.newest(thin[0]).state is S.COMPLETE


def changed(path: Path, copy: Path, **elements) -> Path:
    ds = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    copy.parent.mkdir(exist_ok=True, parents=True)
    ds.save_as(copy)
    return copy


def replace_study(paths: list[Path], study: str) -> list[Path]:
    for path in paths:
        changed(path, path, StudyInstanceUID=uid(study))
    return paths


def holds(node):
    return [h.reason_code for h in node.ledger.holds.all()]


def test_equal_dataset_in_other_bytes_is_a_duplicate(node):
    paths = node.series("a")
    ds = pydicom.dcmread(paths[0])
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    other = node.spool / "again" / "x.dcm"
    other.parent.mkdir(parents=True)
    ds.save_as(other, implicit_vr=True, little_endian=True)
    node.receive([*paths, other])
    node.judge.tick(T0 + 31)
    assert holds(node) == [] and node.newest(paths[0]).state is S.COMPLETE
    assert len(node.ledger.instances.of_kind("duplicate")) == 1


def test_same_pixels_other_identity_holds_the_study(node):
    paths = node.series("a")
    node.receive([*paths, changed(paths[0], node.spool / "again" / "x.dcm", PatientName="Other^Person")])
    node.judge.tick(T0 + 31)
    assert holds(node) == ["identity_conflict"]
    assert node.scheduler.calls == []


def test_other_pixels_hold_the_study_until_released(node):
    paths = node.series("a")
    pixels = (pydicom.dcmread(paths[0]).pixel_array + 1).astype(np.uint16).tobytes()
    node.receive([*paths, changed(paths[0], node.spool / "again" / "x.dcm", PixelData=pixels)])
    node.judge.tick(T0 + 31)
    assert holds(node) == ["content_conflict"] and node.scheduler.calls == []
    node.ledger.holds.lift(node.newest(paths[0]).study_instance_uid, T0 + 40, "operator")
    node.judge.tick(T0 + 41)
    assert len(node.scheduler.calls) == 1


def test_two_patients_in_one_study_hold_it(node):
    one, two = node.series("a"), node.series("b", 2.0)
    node.receive(one, patient="p")
    node.receive(two, patient="q")
    node.judge.tick(T0 + 31)
    assert holds(node) == ["two_patients"]


@pytest.mark.parametrize("patient", ["p", "q"])
def test_what_a_release_lets_stand_arrives_before_it_is_read_however_old_its_row_is(node, patient):
    paths = node.series("a")
    node.receive(paths)
    node.receive([changed(paths[0], node.spool / "again" / "x.dcm", PatientName="Other^Person")], patient=patient)
    node.judge.tick(T0 + 31)
    assert holds(node) == ["identity_conflict"]
    study = node.newest(paths[0]).study_instance_uid
    node.judge._seen, node.judge._look_again_at = 10**6, float("inf")  # thousands of instances of others came since
    decisions.release(node.ledger, study, T0 + 40, "anna", newest=True)
    for second in range(50, 60):
        node.judge.tick(T0 + second)
    newest = node.newest(paths[0])
    seen = node.ledger.instances.originals(newest.series_instance_uid, newest.through_instance_id)
    assert len(seen) == len(paths) and any("again" in i.path for i in seen)
    assert (newest.state, holds(node)) == ((S.COMPLETE, []) if patient == "p" else (newest.state, ["two_patients"]))
    assert len(node.scheduler.calls) == (1 if patient == "p" else 0)


def test_a_variant_that_can_never_be_read_is_left_to_a_person(node):
    paths = node.series("a")
    again = changed(paths[0], node.spool / "again" / "x.dcm", StudyDescription="routed")
    node.receive([*paths, again])
    again.unlink()
    for second in (31, 32, 599):
        node.judge.tick(T0 + second)
        assert holds(node) == [] and node.newest(paths[0]).state is S.RECEIVING
    node.judge.tick(T0 + 610)
    assert holds(node) == ["content_conflict"]


def in_two_studies(node) -> list[Path]:
    """Let one series come in "study" and in "other", and be judged; returns its files in "study"."""
    paths = node.series("a")
    elsewhere = [changed(path, node.spool / "other" / path.name, StudyInstanceUID=uid("other"),
                         SOPInstanceUID=uid("other", number)) for number, path in enumerate(paths)]
    node.receive([*paths, *elsewhere])
    node.judge.tick(T0 + 31)
    return paths


def test_of_one_series_in_two_studies_the_other_is_read_when_one_is_discarded(node):
    paths = in_two_studies(node)
    first, last = sorted((uid("study"), uid("other")))
    with pytest.raises(decisions.NotPossible, match="another study too"):
        decisions.release(node.ledger, last, T0 + 40, "anna")
    decisions.discard(node.ledger, first, T0 + 40, "anna")
    decisions.release(node.ledger, last, T0 + 41, "anna")
    node.judge.tick(T0 + 80)
    newest = node.newest(paths[0])
    assert (newest.study_instance_uid, newest.state, newest.number) == (last, S.COMPLETE, 2) and holds(node) == []


def test_one_series_in_two_studies_holds_both(node):
    in_two_studies(node)
    assert holds(node) == ["two_studies", "two_studies"] and node.scheduler.calls == []
    assert {h.study_instance_uid for h in node.ledger.holds.all()} == {uid("study"), uid("other")}


def test_slices_that_cannot_be_read_now_are_not_left_out(node):
    paths = node.series("a")
    node.receive(paths)
    away = node.spool / "away"
    for path in paths[-10:]:
        path.rename(away.with_name(path.name))
    for seconds in range(31, 600, 100):  # waited for like slices that are missing
        node.judge.tick(T0 + seconds)
        assert (node.newest(paths[0]).state, node.newest(paths[0]).failures) == (S.RECEIVING, 0)
    for path in paths[-10:]:
        away.with_name(path.name).rename(path)
    node.judge.tick(T0 + 598)
    assert node.newest(paths[0]).state is S.COMPLETE


def test_slices_that_stay_unreadable_are_shown_to_a_person(node):
    paths = node.series("a")
    node.receive(paths)
    paths[-1].unlink()
    for seconds in (31, 601, 612, 623):
        node.judge.tick(T0 + seconds)
    assert (node.newest(paths[0]).state, node.newest(paths[0]).reason_code) == (S.FAILED, "unreadable_series")


def test_a_pair_that_cannot_be_compared_now_keeps_no_other_waiting(node, monkeypatch):
    one, two = node.series("a"), node.series("b", 2.0, StudyInstanceUID=uid("other"))
    again = [changed(paths[0], node.spool / name / "x.dcm", StudyDescription="routed")
             for paths, name in ((one, "again"), (two, "again too"))]
    node.receive([*one, *two, *again])
    compare, asked = node.children.compare, []

    def at_first_not(first, second):
        asked.append(second)
        if len(asked) == 1:
            raise Transient("io_error", "for now")
        return compare(first, second)

    monkeypatch.setattr(node.children, "compare", at_first_not)
    node.judge.tick(T0 + 31)
    assert asked == again and node.newest(two[0]).state is S.COMPLETE and node.newest(one[0]).state is S.RECEIVING
    node.judge.tick(T0 + 32)
    assert asked == again  # not at once: whatever it was, it needs a moment
    node.judge.tick(T0 + 42)
    assert node.newest(one[0]).state is S.COMPLETE and holds(node) == []


def test_attempt_that_died_is_counted_and_the_last_one_is_answered(node):
    paths = node.series("a")
    node.receive(paths)
    now = T0 + 31
    for attempt in range(node.settings.infer.attempts):
        node.judge.tick(now)
        workflow_id = node.scheduler.calls[-1][1]
        assert workflow_id.endswith(f":{attempt}")
        node.scheduler.known[workflow_id] = "done"
        node.judge.tick(now + 1)
        now += 10
    node.judge.tick(now)
    given_up = node.newest(paths[0])
    assert (given_up.state, given_up.reason_code) == (S.NOT_ASSESSED, "technical_failure")
    node.judge.tick(now + 1)  # the answer itself is due now
    assert node.scheduler.calls[-1][3] == (given_up.id, given_up.attempt)


def test_attempt_that_could_not_even_be_recorded_is_not_held_against_the_series(node):
    paths = node.series("a")
    node.receive(paths)
    now = T0 + 31
    for attempt in range(node.settings.infer.attempts + 2):
        node.judge.tick(now)
        workflow_id = node.scheduler.calls[-1][1]
        assert workflow_id.endswith(f":{attempt}")
        node.scheduler.known[workflow_id] = "failed"
        now += 20
        node.judge.tick(now)
        now += 20
    assert (node.newest(paths[0]).state, node.newest(paths[0]).failures) == (S.COMPLETE, 0)


def test_nothing_new_is_read_while_the_disk_is_nearly_full(node):
    paths = node.series("a")
    node.receive(paths)
    node.free_mb = node.settings.infer.min_free_mb - 1
    node.judge.tick(T0 + 31)
    assert node.newest(paths[0]).state is S.COMPLETE and node.scheduler.calls == []
    node.free_mb = node.settings.infer.min_free_mb
    node.judge.tick(T0 + 32)
    assert [call[0] for call in node.scheduler.calls] == ["read"]


def test_series_that_cannot_be_judged_keeps_nobody_waiting_and_is_shown(node):
    bad, good = node.series("bad"), node.series("good")
    node.receive(bad)
    for path in bad:
        path.write_bytes(b"no DICOM any more")
    uid = node.ledger.instances.arrivals(0)[0].series_instance_uid
    other = replace_study(good, "another study")
    node.receive(other)
    now = T0 + 31
    for _ in range(4):
        node.judge.tick(now)
        now += 11
    assert node.newest(other[0]).state is S.COMPLETE
    failed = node.ledger.revisions.of_series(uid)[-1]
    assert (failed.state, failed.reason_code) == (S.FAILED, "unreadable_series")


def test_a_defect_at_one_series_keeps_nobody_waiting_and_its_words_are_not_kept(node, monkeypatch):
    bad, good = node.series("bad"), node.series("good")
    other = replace_study(good, "another study")
    node.receive(bad)
    node.receive(other)
    broken, inspect = pydicom.dcmread(bad[0]).SeriesInstanceUID, node.judge._inspect

    def defective(revision):
        if revision.series_instance_uid == broken:
            raise ValueError("could not convert string to float: 'Doe^Jane'")
        return inspect(revision)

    monkeypatch.setattr(node.judge, "_inspect", defective)
    for k in range(4):
        node.judge.tick(T0 + 31 + 11 * k)
    failed = node.newest(bad[0])
    assert node.newest(other[0]).state is S.COMPLETE
    assert (failed.state, failed.reason_code) == (S.FAILED, "unreadable_series")
    assert "ValueError" in str(failed) and "Doe" not in str(failed)


def test_series_that_stood_back_is_read_when_the_chosen_one_shows_no_spine(node):
    thick, thin = node.series("thick", 2.0), node.series("thin", 1.0)
    node.receive(thin)
    node.receive(thick)
    node.judge.tick(T0 + 31)
    node.ledger.revisions.move(node.newest(thin[0]), S.EXCLUDED, T0 + 40, reason=reason("no_spine"))
    node.judge.tick(T0 + 41)
    assert node.newest(thick[0]).state is S.COMPLETE


def test_stat_goes_first(node):
    paths = node.series("a")
    node.receive(paths, stat=True)
    node.judge.tick(T0 + 31)
    assert node.scheduler.calls[0][4] == 1


def test_scout_is_excluded(node):
    paths = node.series("scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    node.receive(paths)
    node.judge.tick(T0 + 31)
    revision = node.newest(paths[0])
    assert (revision.state, revision.reason_code) == (S.EXCLUDED, "scout")
    assert replace(revision).reason.text


def test_second_reading_that_cannot_be_encoded_never_becomes_not_assessed(node):
    paths = node.series("a")
    node.receive(paths)
    node.judge.tick(T0 + 31)
    inferred = node.ledger.revisions.move(node.newest(paths[0]), S.INFERRED, T0 + 40)
    node.ledger.revisions.answered(inferred, [], {}, T0 + 41)
    said = SecondReading("anna", "Bergmann^Anna", T0 + 50, (Assessment("L1", Verdict.ACCEPTED),))
    node.ledger.revisions.second_reading(node.newest(paths[0]), said, T0 + 50)
    node.judge.tick(T0 + 51)
    assert node.scheduler.calls[-1][3] == (node.newest(paths[0]).id, 0)  # enqueued like any reading
    for _ in range(node.settings.infer.attempts):
        node.ledger.revisions.failed(node.newest(paths[0]), T0 + 52, not_before=0.0, text="encode: lint")
    node.judge.tick(T0 + 53)
    assert (node.newest(paths[0]).state, node.newest(paths[0]).reason_code) == (S.FAILED, "encode")
    assert len(node.ledger.revisions.of_series(node.newest(paths[0]).series_instance_uid)) == 2


def purge(node, study: str, phase: Phase) -> None:
    assert node.ledger.retention.purge(phase, study, Due(T0 + 1e6, T0 + 1e5, (), True))


def read_and_purged(node, phase: Phase):
    """Return the files of a series that was read, answered and then purged."""
    paths = node.series("a")
    node.receive(paths[:-1])
    node.judge.tick(T0 + 31)
    inferred = node.ledger.revisions.move(node.newest(paths[0]), S.INFERRED, T0 + 40)
    node.ledger.revisions.answered(inferred, [], {}, T0 + 41)
    purge(node, inferred.study_instance_uid, phase)
    return paths, inferred


def test_late_slice_of_purged_images_leaves_the_result_in_force(node):
    paths, _ = read_and_purged(node, Phase.IMAGES)
    node.receive(paths[-1:], T0 + 2e5)
    node.judge.tick(T0 + 2e5 + 31)
    assert (node.newest(paths[0]).number, node.newest(paths[0]).state) == (1, S.ENCODED)
    assert len(node.scheduler.calls) == 1


@pytest.mark.parametrize(("patient", "held"), [("p", False), ("other", True)])
def test_other_bytes_of_a_purged_instance_are_judged_by_identity(node, patient, held):
    paths, _ = read_and_purged(node, Phase.IMAGES)
    copy = changed(paths[0], paths[0].with_name("copy.dcm"), SeriesDescription="sent again by the PACS")
    node.receive([copy], T0 + 2e5, patient=patient)
    node.judge.tick(T0 + 2e5 + 31)
    assert bool(holds(node)) is held
    assert node.newest(paths[0]).number == 1 and node.ledger.instances.of_kind("variant") == []


def test_study_that_comes_again_after_its_rows_are_gone_is_answered_already(node):
    paths, before = read_and_purged(node, Phase.ROWS)
    node.receive(paths[:-1], T0 + 2e5)
    node.judge.tick(T0 + 2e5 + 31)
    again = node.newest(paths[0])
    assert (again.number, again.state, again.reason_code) == (2, S.EXCLUDED, "answered_before")
    node.ledger.revisions.reopen(again, T0 + 2e5 + 40)  # `jobs retry`: read all the same, under new UIDs
    node.judge.tick(T0 + 2e5 + 41)
    assert (node.newest(paths[0]).number, node.newest(paths[0]).state) == (3, S.COMPLETE)
    assert before.series_instance_uid == again.series_instance_uid


def test_other_instances_than_were_answered_are_read(node):
    paths, _ = read_and_purged(node, Phase.ROWS)
    node.receive(paths, T0 + 2e5)
    node.judge.tick(T0 + 2e5 + 31)
    assert (node.newest(paths[0]).number, node.newest(paths[0]).state) == (2, S.COMPLETE)


def test_purged_images_are_never_taken_for_a_folder(node):
    paths, _ = read_and_purged(node, Phase.IMAGES)
    node.judge.tick(T0 + 1e5)
    node.ledger.revisions.reopen(node.newest(paths[0]), T0 + 2e5)  # as a release of a conflict does
    for tick in range(3):
        node.judge.tick(T0 + 2e5 + 100 * tick)
    failed = node.newest(paths[0])
    assert failed.state is S.FAILED and "images_purged" in failed.reason_text
