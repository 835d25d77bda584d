"""Retention with real files: what is due goes, a crash leaves nothing behind, low space brings the images forward."""

from datetime import UTC, datetime

import pytest

from catalogue_rows import SC, SR, result_object, store
from dicom_peers import uid
from ovcf_node.config import Retention, Settings
from ovcf_node.domain.series import Receipt
from ovcf_node.errors import Transient
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool
from ovcf_node.workflow.purging import Purging, remove_files, remove_unnamed

HOUR, DAY = 3600.0, 86400.0
STUDY = "study"
AT = 102.0  # when it was answered


class Site:
    """One answered study with a received file and two objects on disk."""

    def __init__(self, folder):
        migrate(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.spool, self.results = Spool(folder / "spool"), Results(folder / "results")
        self.settings = Settings(retention=Retention(images_h=2, results_days=3, ledger_days=9), receive={"min_free_mb": 0})
        series = uid(uid(STUDY), "ct")
        stored = self.spool.store([b"image"], series)
        self.ledger.instances.record(Receipt(
            uid("image"), "1.2.840.10008.5.1.4.1.1.2", uid(STUDY), series, "1.2.840.10008.1.2.1", stored.path, 5, "digest",
            "p", "CT", datetime.fromtimestamp(100.0, UTC), "CT", "NODE", "a", False,
        ))
        self.revision = store(self.ledger, [result_object(STUDY, SC), result_object(STUDY, SR)])
        for name in ("findings.json", "masks.npz"):
            self.results.put(self.revision.result_key, name, b"x")

    def tick(self, now: float, **receive) -> None:
        settings = self.settings.model_copy(update={"receive": self.settings.receive.model_copy(update=receive)})
        Purging(settings, self.ledger, self.spool, self.results, lambda uid: "hash").tick(now)

    @property
    def images(self) -> int:
        return len(list(self.spool.files()))

    @property
    def objects(self) -> list[str]:
        return self.results.names(self.revision.result_key)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.ledger.close()


def test_each_phase_when_it_is_due(site):
    site.tick(AT + 2 * HOUR - 10)
    assert site.images == 1
    site.tick(AT + 2 * HOUR + 10)
    assert site.images == 0 and site.objects == ["findings.json", "masks.npz"]
    assert site.ledger.instances.has_digest(uid("image"), "digest")
    site.tick(AT + 3 * DAY + 10)
    assert site.objects == [] and site.ledger.revisions.get(site.revision.id).results_purged_at
    site.tick(AT + 9 * DAY + 10)
    assert site.ledger.revisions.of_series(site.revision.series_instance_uid) == []
    assert site.ledger.retention.tombstone(site.revision.series_instance_uid).last_number == 1
    assert [p for p in site.spool.root.rglob("*") if p.is_file()] == []


def test_low_space_brings_the_images_forward_and_nothing_else(site):
    site.tick(AT + 10, min_free_mb=2**40)
    assert site.images == 0 and site.objects


def test_what_a_crash_left_goes_at_the_next_tick(site, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "purge", lambda self, paths: (_ for _ in ()).throw(Transient("storage")))
        with pytest.raises(Transient):
            site.tick(AT + 2 * HOUR + 10)
    assert site.images == 1 and site.ledger.revisions.get(site.revision.id).images_purged_at
    site.tick(AT + 2 * HOUR + 11)
    assert site.images == 0 and site.ledger.retention.removals(10) == []


def test_removing_twice_is_no_error(site):
    site.ledger.retention.purge_study(uid(STUDY), 200.0, "anna")
    before = site.ledger.retention.removals(10)
    assert remove_files(site.ledger, site.spool, site.results) == len(before) > 0
    for removal in before:
        (site.spool.purge([removal.path]) if removal.store == "spool" else site.results.purge(removal.path))
    assert site.images == 0 and site.objects == []


def test_the_times_must_go_in_order():
    with pytest.raises(ValueError, match="in this order"):
        Retention(images_h=100, results_days=1)


def test_results_that_no_revision_names_go_when_their_time_is_over(site):
    site.results.put("of a ledger that was restored/1/99.0", "masks.npz", b"x")
    named = {site.revision.result_key, site.revision.reading_key}
    for key in named:
        site.results.put(key, "findings.json", b"x")
    now = datetime.now(UTC).timestamp()
    folders = {path.parent for path in site.results.root.rglob("*.json")}
    assert remove_unnamed(site.ledger, site.results, now - 3600) == 0
    assert remove_unnamed(site.ledger, site.results, now + 10) == 1
    assert {path.parent for path in site.results.root.rglob("*") if path.is_file()} == folders


def test_unnamed_results_are_looked_for_by_the_tick(site):
    site.results.put("of nobody/1/99.0", "masks.npz", b"x")
    now = datetime.now(UTC).timestamp()
    site.tick(now + 3 * DAY - 60)
    assert site.results.names("of nobody/1/99.0")
    site.tick(now + 3 * DAY + 60)
    assert not site.results.names("of nobody/1/99.0")
