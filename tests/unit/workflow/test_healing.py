"""What power cuts leave in the spool is put right, said in the log, and kept in the history of the series."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_peers import SECRET, instance, store_request, uid
from ovcf_node.domain.states import RevisionState
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.spool import Spool
from ovcf_node.workflow.healing import Healing

SERIES = uid("series")


class Site:
    """A receiver's spool and ledger, and what heals them."""

    def __init__(self, folder: Path):
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        migrate(url)
        self.ledger = Ledger(url)
        self.spool = Spool(folder / "spool")
        self.storing = Storing(self.spool, self.ledger.instances, min_free_bytes=0, patient_secret=SECRET)
        self.now = datetime.now(UTC).timestamp()
        self.healing = Healing(self.ledger, self.spool, self.storing.receipt_of, lambda uid: "hash")

    def receive(self, number: int) -> str:
        """Store one instance; returns its file."""
        assert self.storing.answer(store_request(instance(number))).status == 0x0000
        return self.ledger.instances.originals(SERIES)[-1].path

    def forget(self, file: str) -> None:
        """Leave of a received instance what a receiver that died before the row leaves: an old file."""
        with self.ledger._engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM instances WHERE path = ?", (file,))
        os.utime(self.spool.path(file), (self.now - 3600,) * 2)

    def judged(self, state: RevisionState = RevisionState.COMPLETE):
        for arrival in self.ledger.instances.arrivals(0):
            self.ledger.revisions.arrived(arrival, self.now)
        newest = self.ledger.revisions.of_series(SERIES)[-1]
        return self.ledger.revisions.move(newest, state, self.now)

    def healed(self) -> list[str]:
        return [e.text for e in self.ledger.events.of_series(SERIES) if e.kind == "healed"]

    def paths(self) -> list[str]:
        return [i.path for i in self.ledger.instances.originals(SERIES)]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.ledger.close()


def test_file_without_a_row_is_recorded_as_it_would_have_been(site):
    file = site.receive(1)
    with site.ledger._engine.begin() as connection:
        before = connection.exec_driver_sql("SELECT * FROM instances").mappings().one()
    site.forget(file)
    site.healing.look(site.now)
    with site.ledger._engine.begin() as connection:
        after = connection.exec_driver_sql("SELECT * FROM instances").mappings().one()
    told_otherwise = {"association": "healed", "received_at": pytest.approx(site.now - 3600)}
    assert dict(after) == dict(before) | told_otherwise
    assert site.healed() == ["1 received files were not in the ledger: recorded"]
    site.healing.look(site.now + 1000)
    assert len(site.healed()) == 1


def test_file_that_a_receiver_is_about_to_record_is_left_alone_until_later(site):
    file = site.receive(1)
    site.forget(file)
    os.utime(site.spool.path(file), (site.now,) * 2)
    site.healing.look(site.now + 1)
    assert site.paths() == []
    site.healing.look(site.now + 100)
    assert site.paths() == [file]


def test_copy_of_what_was_sent_again_is_removed(site):
    lost = site.receive(1)
    site.forget(lost)
    again = site.receive(1)
    site.healing.look(site.now + 100)
    assert list(site.spool.files()) == site.paths() == [again] and again != lost


def test_file_that_is_no_dicom_stays_and_harms_nobody(site):
    stray = site.spool.store([b"nobody knows"], "1.2.3").path
    good = site.receive(1)
    site.forget(good)
    site.healing.look(site.now + 100)
    assert site.paths() == [good] and stray in list(site.spool.files())


@pytest.mark.parametrize("state", [RevisionState.COMPLETE, RevisionState.WAITING])
@pytest.mark.parametrize("damage", ["gone", "short"])
def test_row_without_its_file_is_awaited_again(site, damage, state):
    files = [site.receive(number) for number in (1, 2)]
    judged = site.judged(state)
    path = site.spool.path(files[0])
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-10])
    site.healing.look(site.now)
    newest = site.ledger.revisions.of_series(SERIES)[-1]
    assert newest.state is RevisionState.RECEIVING and site.paths() == [files[1]]
    assert newest.number == (2 if state is RevisionState.COMPLETE else 1) >= judged.number
    assert site.healed() == ["1 received files are gone or damaged: they are awaited again"]
    site.receive(1)  # the scanner sends it again: the same bytes are new
    assert len(site.paths()) == 2
    site.healing.look(site.now + 1000)
    assert len(site.healed()) == 1


def test_answered_series_needs_its_files_no_more(site):
    file = site.receive(1)
    site.judged(RevisionState.EXCLUDED)
    site.spool.purge([file])
    site.healing.look(site.now)
    assert site.healed() == [] and site.paths() == [file]


def test_what_was_purged_does_not_come_back(site):
    """Its row is without a path, or gone, and the file waits to be removed: neither a lost file nor a stray one."""
    file = site.receive(1)
    os.utime(site.spool.path(file), (site.now - 3600,) * 2)
    site.judged()
    with site.ledger._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE instances SET path = ''")
        connection.exec_driver_sql("INSERT INTO removals (store, path) VALUES ('spool', ?)", (file,))
    site.healing.look(site.now)
    assert (site.healed(), site.paths()) == ([], [""])
