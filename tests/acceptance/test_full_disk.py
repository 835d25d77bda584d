"""A full disk: senders are told, nothing half-written is ever seen, and everything goes on when there is room again.

The disk is a small file system that is filled to the last byte; once it holds everything, once only the databases, once only
the files, beside databases on PostgreSQL.
"""

import os
import re
import subprocess
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import pydicom
import pytest

import postgresql
from dicom_peers import SECRET, instance, store_request
from node_harness import Node, RecordingPacs, dicom_destination, free_port, storescu, wait_for
from ovcf_node.app.process import silent
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.errors import Transient
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.network import commitment
from ovcf_node.network.associate import Remote
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.spool import Spool
from painted_bundle import PAINTED_ROLES, painted_bundle
from query_peers import find, identifier
from small_disk import SmallDisk, small_disk

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SERIES = uid_from("phantom", "demo", "series")
_STAGE_FAILED = re.compile(r'"code": "disk_full".*"stage_failed"|"status": 74')
_ANYTHING_FAILED = re.compile(r'"disk_full"|"status": 74')


@pytest.fixture(scope="module")
def phantom_series(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    phantom.write_series(phantom.load(), folder)
    return folder


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 96) as mounted:
        yield mounted


def stored(ledger_url: str, spool: Path, count: int) -> tuple[Ledger, Spool, list[int]]:
    """Store instances until all are there or one finds no room; returns the sequence of answers."""
    migrate(ledger_url)
    ledger, files = Ledger(ledger_url), Spool(spool)
    storing = Storing(files, ledger.instances, min_free_bytes=0, patient_secret=SECRET)
    return ledger, files, [storing.answer(store_request(instance(n, size=128))).status for n in range(count)]


def test_ledger_without_room_refuses_and_leaves_no_file(tmp_path, disk):
    url = f"sqlite:///{disk.path / 'ledger.sqlite'}"
    ledger, spool, statuses = stored(url, tmp_path / "spool", 3)
    assert statuses == [0x0000] * 3
    disk.fill()
    storing = Storing(spool, ledger.instances, min_free_bytes=0, patient_secret=SECRET)
    count, status = 3, 0x0000
    while status == 0x0000:  # the log that is written ahead has some room of its own
        status = storing.answer(store_request(instance(count, size=128))).status
        count += status == 0x0000
        assert count < 5000
    assert status == 0xA700 and len(list(spool.files())) == count
    with pytest.raises(Transient) as caught:
        ledger.revisions.arrived(ledger.instances.arrivals(0)[0], 1.0)
    assert caught.value.code == "disk_full"
    disk.empty()
    assert storing.answer(store_request(instance(count, size=128))).status == 0x0000
    assert len(ledger.instances.originals(str(instance(1).SeriesInstanceUID))) == count + 1
    ledger.close()


def test_spool_without_room_refuses_and_shows_nothing_half_written(tmp_path, disk):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger, spool, statuses = stored(url, disk.path / "spool", 2)
    disk.fill()
    storing = Storing(spool, ledger.instances, min_free_bytes=0, patient_secret=SECRET)
    assert storing.answer(store_request(instance(2, size=512))).status == 0xA700
    assert len(list(spool.files())) == 2 and list((spool.root / ".tmp").iterdir()) == []
    disk.empty()
    assert storing.answer(store_request(instance(2, size=512))).status == 0x0000
    assert statuses == [0x0000, 0x0000] and all(pydicom.dcmread(spool.path(p)).PixelData for p in spool.files())
    ledger.close()


def refused(node: Node, path: Path) -> bool:
    """Send one instance, and say whether it was refused for want of room."""
    done = subprocess.run(
        ["storescu", "-v", "-aet", "SCANNER", "-aec", "OVCF_NODE", "127.0.0.1", str(node.port), str(path)],
        capture_output=True, text=True, timeout=60, env=os.environ | {"TCP_NODELAY": "1"},
    )
    return "OutOfResources" in done.stdout + done.stderr


def met(node: Node, disk: SmallDisk, sign: re.Pattern, since: int) -> None:
    """Wait until the node has met the full disk, and empty it again."""
    wait_for(lambda: sign.search(node.log.read_text()[since:]), 240, f"the full disk is met; see {node.log}")
    disk.empty()


def fill_when(node: Node, disk: SmallDisk, condition, what: str) -> None:
    """Fill the disk at a moment and empty it when a stage could not write or a scheduler left."""
    wait_for(condition, 240, what)
    since = len(node.log.read_text())
    disk.fill()
    met(node, disk, _STAGE_FAILED, since)


def what_was_purged_is_still_known(node: Node, pacs: RecordingPacs, spool: Spool, series: Path) -> None:
    """The images of the finished study go; sent again they are duplicates; a purge by hand leaves a tombstone."""
    wait_for(lambda: list(spool.files()) == [], 120, f"the images are purged; see {node.log}")
    sent = len(pacs.receipts)
    storescu(node.port, series)
    assert list(spool.files()) == [] and len(node.ledger.revisions.of_series(SERIES)) == 1
    assert len(pacs.receipts) == sent
    purged = node.command("purge", "--study", node.newest(SERIES).study_instance_uid)
    assert purged.returncode == 0, purged.stderr
    assert node.newest(SERIES) is None and node.ledger.retention.tombstone(SERIES).last_number == 1


def commitment_is_reported_below_the_watermark(node: Node, pacs: RecordingPacs, disk: SmallDisk, series: Path) -> None:
    """The PACS reports over an association of its own while the node refuses images for want of room."""
    revision = node.newest(SERIES)
    asked = wait_for(lambda: list(pacs.asked), 120, f"commitment is requested; see {node.log}")
    disk.fill(leave_mb=8)
    assert refused(node, next(series.glob("*.dcm")))
    remote = Remote("127.0.0.1", node.port, "OVCF_NODE", pacs.title, timeout_s=60)
    for transaction_uid in asked:
        commitment.report(remote, *pacs.commitment(transaction_uid))
    wait_for(lambda: {d.state for d in node.ledger.deliveries.of_revision(revision.id)} == {"COMMITTED"}, 120,
             f"the report is applied; see {node.log}")
    assert refused(node, next(series.glob("*.dcm")))
    disk.empty()


class FillingPacs(RecordingPacs):
    """A PACS during whose first receipt the disk of the node runs full; it reports commitment when it is told to."""

    disk: SmallDisk | None = None
    filled = False

    def store(self, request):
        if self.disk is not None and not self.filled:
            self.filled = True
            self.disk.fill()
        return super().store(request)

    def report(self, transaction_uid: str, calling_ae_title: str) -> None:
        return None  # nothing over the association of the request


@pytest.fixture(params=["everything", "databases", "files"])
def on_disk(request, disk, monkeypatch):
    """What is on the small disk; the databases beside "files" are PostgreSQL's."""
    urls = {name: f"sqlite:///{disk.path / name.lower()}.sqlite" for name in ("LEDGER", "ENGINE")}
    with ExitStack() as stack:
        if request.param == "files":
            cluster = request.getfixturevalue("postgresql_cluster")
            urls = {name: stack.enter_context(postgresql.database(cluster)) for name in urls}
        if request.param == "databases":
            monkeypatch.setenv("OVCF_NODE__RETENTION__IMAGES_H", "0")
        else:
            monkeypatch.setenv("OVCF_NODE__NODE__DATA", str(disk.path / "data"))
        if request.param != "everything":
            for name, url in urls.items():
                monkeypatch.setenv(f"OVCF_NODE__ENGINE__{name}_URL", url)
        yield request.param


def test_everything_goes_on_when_there_is_room_again(tmp_path, disk, phantom_series, monkeypatch, on_disk):
    monkeypatch.setenv("OVCF_NODE__RECEIVE__MIN_FREE_MB", "16")
    monkeypatch.setenv("OVCF_NODE__INFER__MIN_FREE_MB", "0")
    monkeypatch.setenv("OVCF_NODE__NODE__BUNDLE", str(painted_bundle(tmp_path / "bundle")))
    pacs = FillingPacs(tmp_path / "pacs")
    files = on_disk != "databases"
    pacs.disk = None if files else disk
    query = free_port()
    extra = f'[query]\nenabled = true\nhost = "127.0.0.1"\nport = {query}\npeers = [{{ ae_title = "PACS" }}]\n'
    with pacs.running():
        there = dicom_destination("pacs", pacs.title, pacs.port, final="committed" if files else "accepted")
        node = Node(tmp_path / "node", there, extra=extra)
        with node.running():
            spool = Spool(node.settings.node.data / "spool")
            if files:
                disk.fill(leave_mb=8)
                assert refused(node, next(phantom_series.glob("*.dcm"))) and list(spool.files()) == []
                echo = ["echoscu", "-aet", "SCANNER", "-aec", "OVCF_NODE", "127.0.0.1", str(node.port)]
                assert subprocess.run(echo, timeout=60, capture_output=True).returncode == 0
                wait_for(lambda: not silent("127.0.0.1", query), 120, f"the query process listens; see {node.log}")
                matches, status = find(query, calling="PACS", asked=identifier("STUDY", StudyInstanceUID="1.2.3"))
                assert (matches, status.Status) == ([], 0x0000)
                disk.empty()
            storescu(node.port, phantom_series)
            fill_when(node, disk, lambda: (r := node.newest(SERIES)) and r.analysis_started_at, "it is read")
            if files:
                fill_when(node, disk, lambda: node.newest(SERIES).state == "INFERRED", "it is encoded")
            else:  # what a sender writes is in the databases
                since = len(node.log.read_text())
                wait_for(lambda: pacs.filled, 240, f"it is sent; see {node.log}")
                met(node, disk, _ANYTHING_FAILED, since)
            revision = node.settled(SERIES)
            assert (revision.state, revision.number, revision.failures) == ("ENCODED", 1, 0)
            if files:
                assert len(list(spool.files())) == len(list(phantom_series.glob("*.dcm")))
                commitment_is_reported_below_the_watermark(node, pacs, disk, phantom_series)
            else:
                what_was_purged_is_still_known(node, pacs, spool, phantom_series)
    assert node.exit_status == 0
    digests = defaultdict(set)
    for uid, digest in pacs.receipts:
        digests[uid].add(digest)
    assert len(digests) == len(PAINTED_ROLES) and all(len(found) == 1 for found in digests.values())
