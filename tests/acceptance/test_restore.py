"""A ledger restored from a backup meets a PACS that has results which it forgot: Orthanc, the real steps."""

import json
import shutil
from pathlib import Path

import pytest

from ct_series import grid, linear_hu, write_ct
from dicom_peers import SECRET, store_request
from in_process import InProcess
from node_harness import BUNDLE, get, orthanc
from ovcf_node.config import Settings
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.operate import decisions
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool
from ovcf_node.workflow.delivering import Sender
from ovcf_node.workflow.durable import Worker
from ovcf_node.workflow.judge import Judge

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SHAPE = (60, 32, 32)


class Scheduler:
    """Runs what is enqueued at once."""

    def enqueue(self, workflow, workflow_id, queue, args, *, priority, **_):
        if workflow == "read":
            assert [self.worker.infer(*args), self.worker.encode(*args)] == ["ok", "ok"]
        else:
            self.outcome = self.sender.send(*args)
        return True

    def states(self, workflow_ids):
        return {}


class Life:
    """A node over a data folder, from one start to the next."""

    def __init__(self, data: Path, port: int, now: float):
        self.settings = Settings(
            node={"data": data, "bundle": BUNDLE}, assemble={"incomplete_limit_s": 0, "quiet_s": 0},
            destinations=[{"name": "pacs", "type": "dicom", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": port}],
        )
        migrate(self.settings.ledger_url)
        self.ledger = Ledger(self.settings.ledger_url)
        self.now = now
        self.spool, results = Spool(data / "spool"), Results(data / "results")
        self.storing = Storing(self.spool, self.ledger.instances, min_free_bytes=0, patient_secret=SECRET)
        self.children = InProcess(self.settings)
        self.scheduler = Scheduler()
        hash_ = {}.get
        self.scheduler.worker = Worker(self.settings, self.ledger, self.spool.root, results, self.children, hash_,
                                       clock=lambda: self.now)
        self.scheduler.sender = Sender(self.settings, self.ledger, results, hash_, clock=lambda: self.now)
        self.judge = Judge(self.settings, self.ledger, self.spool.root, self.scheduler, self.children, hash_,
                           lambda at, stat: 1, free_bytes=self.spool.free_bytes)

    def receive(self, instances) -> None:
        for instance in instances:
            assert self.storing.answer(store_request(instance)).status == 0x0000

    def tick(self) -> None:
        self.now += 1000
        self.judge.tick(self.now)

    def close(self) -> None:
        self.children.close()
        self.ledger.close()


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    """A spine with missing slices: its answer is a report, and no reading takes long."""
    import pydicom

    affine = grid(SHAPE, spacing=(1.0, 1.5, 1.5))
    folder = tmp_path_factory.mktemp("series")
    return [pydicom.dcmread(p) for p in write_ct(folder, linear_hu(SHAPE, affine), affine, omit=range(20, 24))]


def at_pacs(url: str) -> dict[str, str]:
    found = (json.loads(get(f"{url}/instances/{i}/tags?simplify")) for i in json.loads(get(f"{url}/instances")))
    return {tags["SOPInstanceUID"]: tags["ContentTime"] for tags in found}


def test_restored_ledger_finds_out_and_sends_nothing_until_a_person_says_so(tmp_path, instances, monkeypatch):
    monkeypatch.setattr("ovcf_node.infer.looks_like_spine", lambda volume, bundle: 1)
    with orthanc(tmp_path / "orthanc", DicomAlwaysAllowFind=True) as (port, url):
        data = tmp_path / "data"
        first = Life(data, port, 2e9)
        first.close()
        shutil.copytree(data, tmp_path / "backup")

        first = Life(data, port, 2e9)
        first.receive(instances)
        first.tick()
        first.tick()
        delivered = first.ledger.deliveries.of_revision(1)
        assert [d.state for d in delivered] == [DeliveryState.ACCEPTED] and first.scheduler.outcome == "ok"
        first.close()
        before = at_pacs(url)
        assert len(before) == 1

        shutil.rmtree(data)
        shutil.copytree(tmp_path / "backup", data)
        restored = Life(data, port, 2e9 + 86_400)
        restored.receive(instances)  # "series that arrived in between must be sent again"
        restored.tick()
        restored.tick()
        assert restored.scheduler.outcome == "held"
        assert [h.reason_code for h in restored.ledger.holds.all()] == ["older_ledger"]
        assert at_pacs(url) == before
        study = restored.ledger.revisions.get(1).study_instance_uid
        decisions.release(restored.ledger, study, restored.now, "operator")
        restored.tick()
        assert restored.ledger.revisions.get(1).state is RevisionState.NOT_ASSESSED
        assert [d.state for d in restored.ledger.deliveries.of_revision(1)] == [DeliveryState.ACCEPTED]
        after = at_pacs(url)
        assert len(after) == 2 and before.items() <= after.items()  # other bytes, another UID
        restored.close()
