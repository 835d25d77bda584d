"""Whatever happens in whatever order: sending, duplicates, late slices, kills, a PACS down, a full disk.

Receiver, judge, worker, sender and healing are the real ones over a real ledger, spool and destination folders, turned by
hand with the clock in the test's hands; a kill may strike at any effect (`kill_points`) and leaves nothing but what is
durable. Only the engine's database (the kill matrix has the real one) and the reading itself are stand-ins.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

import kill_points
from ct_series import grid, linear_hu, uid, write_ct
from dicom_peers import SECRET, store_request
from in_process import InProcess
from ovcf_node import assemble
from ovcf_node.config import Settings
from ovcf_node.domain.findings import Findings
from ovcf_node.domain.reasons import reason
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.receive import storing
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool
from ovcf_node.workflow.delivering import Sender
from ovcf_node.workflow.durable import Worker
from ovcf_node.workflow.healing import Healing
from ovcf_node.workflow.judge import Judge
from ovcf_node.workflow.reading import SOFTWARE, Read

pytestmark = pytest.mark.slow

SERIES, PARTS, DESTINATIONS = ("one", "two"), 3, ("pacs", "archive")
SHAPE = (30, 16, 16)


class Killed(BaseException):
    """kill -9: nothing after it happens."""


class Reader(InProcess):
    """Reads without looking: a picture and a report with limits."""

    def read(self, paths, results, attempt, *, given_up=None, progress):
        progress("assemble", 0.0)
        seen = assemble.inspect(paths, self._settings.assemble)
        status, why = ("not_assessed", given_up) if given_up else ("limited", reason("grading_absent"))
        findings = Findings(status, (why,), software=SOFTWARE, series_instance_uid=seen.series_instance_uid)
        picture = None if given_up else np.full((16, 16, 3), len(paths), np.uint8)
        Results(results).prepare(attempt, Read(findings, None, (), picture).files())


@dataclass
class Workflow:
    name: str
    args: tuple
    state: str = "enqueued"
    recorded: set[str] = field(default_factory=set)


class Durable:
    """What the engine's database keeps over a kill: workflows and the steps that they have behind them."""

    def __init__(self):
        self.workflows: dict[str, Workflow] = {}

    def enqueue(self, workflow, workflow_id, queue, args, *, priority, **_):
        if workflow_id in self.workflows:
            return False
        self.workflows[workflow_id] = Workflow(workflow, args)
        return True

    def states(self, workflow_ids):
        return {i: self.workflows[i].state if i in self.workflows else "absent" for i in workflow_ids}

    def run(self, steps) -> None:
        for workflow in [w for w in self.workflows.values() if w.state != "done"]:
            workflow.state = "running"
            for name, function in steps[workflow.name]:
                if name not in workflow.recorded and function(*workflow.args) not in ("ok", None):
                    break
                workflow.recorded.add(name)
            workflow.state = "done"


@dataclass
class World:
    """What no kill changes: disk, databases, destinations, the scanner's study, the clock."""

    folder: Path
    now: float
    durable: Durable = field(default_factory=Durable)
    disk_full: bool = False
    fuse: int | None = None
    acknowledged: set[str] = field(default_factory=set)
    bytes_of: dict[str, str] = field(default_factory=dict)

    def hit(self, name: str, workflow: str | None) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.fuse = None
                raise Killed

    def writev(self, descriptor, views, original=os.writev):
        if self.disk_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(descriptor, views)


class Node:
    """The processes of a node, from one start to the next kill."""

    def __init__(self, world: World):
        self.world = world
        self.settings = Settings(
            node={"data": world.folder, "bundle": "none"}, assemble={"quiet_s": 30, "incomplete_limit_s": 600},
            destinations=[{"name": n, "type": "folder", "path": world.folder / n, "retry_cap_s": 60} for n in DESTINATIONS],
        )
        self.ledger = Ledger(self.settings.ledger_url)
        spool, results = Spool(world.folder / "spool"), Results(world.folder / "results")
        hash_, clock = {}.get, lambda: world.now
        self.storing = storing.Storing(spool, self.ledger.instances, min_free_bytes=0, patient_secret=SECRET)
        children = Reader(self.settings)
        worker = Worker(self.settings, self.ledger, spool.root, results, children, hash_, clock)
        sender = Sender(self.settings, self.ledger, results, hash_, clock)
        self.judge = Judge(self.settings, self.ledger, spool.root, world.durable, children, hash_, lambda at, stat: 1,
                           free_bytes=spool.free_bytes)
        self.healing = Healing(self.ledger, spool, self.storing.receipt_of, hash_)
        self.steps = {
            "read": [("infer", worker.infer), ("encode", worker.encode)], "deliver": [("send", sender.send)],
            "probe": [("probe", sender.probe)],
        }

    def work(self) -> None:
        self.judge.tick(self.world.now)
        self.healing.look(self.world.now)
        self.world.durable.run(self.steps)


class AnyOrder(RuleBasedStateMachine):
    study: dict[str, list[pydicom.Dataset]]

    def __init__(self):
        super().__init__()
        self.world = World(Path(tempfile.mkdtemp(prefix="ovcf-any-", dir="/dev/shm")), time.time())
        migrate(f"sqlite:///{self.world.folder / 'ledger.sqlite'}")
        self.patch = pytest.MonkeyPatch()
        world = self.world

        class Now(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.fromtimestamp(world.now, tz)

        self.patch.setattr(storing, "datetime", Now)
        self.patch.setattr(os, "writev", world.writev)
        self.points = kill_points.installed(world.hit)
        self.points.__enter__()
        self.node = Node(world)

    def living(self, action) -> None:
        """Do something that a kill may end; what comes after it is a new start."""
        try:
            action()
        except Killed:
            self.node.ledger.close()
            self.node = Node(self.world)

    @rule(series=st.sampled_from(SERIES), part=st.integers(0, PARTS - 1))
    def send(self, series, part):
        def transmit():
            for instance in self.study[series][part::PARTS]:
                if self.node.storing.answer(store_request(instance)).status == 0x0000:
                    self.world.acknowledged.add(instance.SOPInstanceUID)
        self.living(transmit)

    @rule(seconds=st.sampled_from([5, 40, 700]))
    def time_passes(self, seconds):
        self.world.now += seconds
        self.living(self.node.work)
        self.same_bytes()

    @rule(effects=st.integers(0, 15))
    def kill_soon(self, effects):
        self.world.fuse = effects

    @rule(name=st.sampled_from(DESTINATIONS), up=st.booleans())
    def destination(self, name, up):
        folder, away = self.world.folder / name, self.world.folder / f"{name} is away"
        if up and folder.is_file():
            folder.unlink()
            away.rename(folder)
        elif not up and not folder.is_file():
            folder.mkdir(exist_ok=True)
            folder.rename(away)
            folder.write_text("no folder")

    @rule(full=st.booleans())
    def disk(self, full):
        self.world.disk_full = full

    def same_bytes(self):
        for name in DESTINATIONS:
            for path in (self.world.folder / name).glob("*.dcm"):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                assert self.world.bytes_of.setdefault(path.name, digest) == digest, "other bytes for one UID"

    def teardown(self):
        try:
            self.world.fuse, self.world.disk_full = None, False
            for name in DESTINATIONS:
                self.destination(name, True)
            for _ in range(12):
                self.world.now += 700
                self.node.work()
            self.same_bytes()
            self.every_receipt_has_its_end()
        finally:
            self.node.ledger.close()
            self.points.__exit__(None, None, None)
            self.patch.undo()
            shutil.rmtree(self.world.folder)

    def every_receipt_has_its_end(self):
        ledger = self.node.ledger
        kept = {i.sop_instance_uid for s in SERIES for i in ledger.instances.originals(uid("study", s))}
        assert self.world.acknowledged <= kept
        for revision in ledger.revisions.newest(10):
            where = f"{revision.state} {revision.reason_code}"
            assert revision.state in ("ENCODED", "NOT_ASSESSED", "EXCLUDED", "FAILED"), where
            assert revision.state == "ENCODED" or revision.reason_code, where
            assert revision.answered == (revision.state in ("ENCODED", "NOT_ASSESSED")), where
            last = ledger.instances.originals(revision.series_instance_uid)[-1]
            assert revision.through_instance_id >= last.id, "a late slice was forgotten"
            delivered = ledger.deliveries.of_revision(revision.id)
            assert all(d.state == "ACCEPTED" for d in delivered), [(d.state, d.text) for d in delivered]
            assert not revision.answered or {d.destination for d in delivered} == set(DESTINATIONS)
            for delivery in delivered:
                assert self.world.bytes_of[f"{delivery.sop_instance_uid}.dcm"] == delivery.sha256


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two reconstructions of one study, of which the node reads the better one."""
    made = {}
    for name, spacing in zip(SERIES, (2.0, 3.0), strict=True):
        affine = grid(SHAPE, spacing=(spacing, 3.0, 3.0))
        paths = write_ct(tmp_path_factory.mktemp(name), linear_hu(SHAPE, affine), affine, series=name)
        made[name] = [pydicom.dcmread(path) for path in paths]
    return made


def test_whatever_happens_every_receipt_has_its_end(study):
    machine = type("AnyOrderOfOneStudy", (AnyOrder,), {"study": study})
    examples = int(os.environ.get("OVCF_ANY_ORDER", "15"))
    run_state_machine_as_test(machine, settings=settings(
        max_examples=examples, stateful_step_count=20, deadline=None, derandomize="OVCF_ANY_ORDER" not in os.environ,
        suppress_health_check=list(HealthCheck),
    ))
