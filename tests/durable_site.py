"""A node of single processes on either database, for tests that kill, poison and upgrade it."""

import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

import postgresql
from kill_lives import Lives
from node_harness import Node, RecordingPacs, dicom_destination, wait_for
from ovcf_node.app.executor import EXIT_GIVEN_UP
from ovcf_node.engine import Engine
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Delivery, DestinationStanding, Ledger, Revision, migrate
from ovcf_node.network import associate
from quick_study import label_bundle, series_uid


@dataclass
class Site:
    """A node on one database, its PACS, and its lives."""

    node: Node
    pacs: RecordingPacs
    lives: Lives
    engine_url: str
    acknowledged: set[str] = field(default_factory=set)

    def send(self, paths: list[Path]) -> bool:
        """Send as a scanner does; returns whether everything was acknowledged."""
        remote = associate.Remote("127.0.0.1", self.node.port, "OVCF_NODE", "SCANNER", timeout_s=60)
        files = [associate.StoreFile(path, "1.2.840.10008.5.1.4.1.1.2", instance_uid(path)) for path in paths]
        replies = []
        with suppress(OvcfError):  # it was killed
            associate.store(remote, files, replies.append)
        good = {reply.sop_instance_uid for reply in replies if reply.status == 0x0000}
        self.acknowledged |= good
        return len(good) == len(files)

    def listening(self, process) -> None:
        def listens() -> bool:
            assert process.is_alive(), self.node.folder
            try:
                associate.echo(associate.Remote("127.0.0.1", self.node.port, "OVCF_NODE", "SCANNER", timeout_s=5))
            except OvcfError:
                return False
            return True

        wait_for(listens, 120, "the receiver listens")

    @contextmanager
    def running(self, *roles: str, later: Collection[str] = ()) -> Iterator[dict]:
        """Run processes, and start again one that was given up because the machine was too busy for its heartbeat.

        later  points that they must not pass: they wait there, until they are killed in the end
        """
        started = {role: self.lives.start(role, later=later) for role in roles}
        over = threading.Event()

        def keep() -> None:
            while not over.wait(1.0):
                for role, process in started.items():
                    if process.exitcode == EXIT_GIVEN_UP:
                        started[role] = self.lives.start(role, later=later)

        keeper = threading.Thread(target=keep)
        keeper.start()
        try:
            yield started
        finally:
            over.set()
            keeper.join()
            for process in started.values():
                if later:
                    process.kill()
                self.lives.end(process)

    def settle(self, name: str) -> None:
        """Let worker and sender, alive and well, do what is left of a study."""
        with self.running("worker", "sender"):
            revision = self.node.settled(series_uid(name), 300)
            assert revision.state == "ENCODED"
            wait_for(lambda: not self.waiting(revision), 300, f"everything is final; see {self.node.folder}")

    @property
    def standing(self) -> DestinationStanding:
        """Whether the PACS is away, as the node sees it."""
        return self.node.ledger.destinations.of("pacs")

    def waiting(self, revision: Revision) -> list[Delivery]:
        """Return the deliveries of which the destination is yet to say that it keeps them."""
        return [d for d in self.node.ledger.deliveries.of_revision(revision.id) if d.confirm_at is not None]

    def recorded_steps(self) -> dict[str, list[str]]:
        """Return the steps of every workflow that the engine knows, as it recorded them."""
        engine = Engine(self.engine_url, executor_id="test", queues={})
        engine.launch()
        workflows = {entry.workflow for entry in self.lives.journal() if entry.workflow}
        steps = {workflow: [step.name for step in engine.history(workflow)] for workflow in workflows}
        engine.shutdown(0)
        return steps


def instance_uid(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


@contextmanager
def _databases(folder: Path, cluster: str | None) -> Iterator[tuple[dict[str, str], str, str]]:
    """Yield the environment of the processes, and the URLs of ledger and engine."""
    if cluster is None:
        data = folder / "node" / "data"
        yield {}, f"sqlite:///{data / 'ledger.sqlite'}", f"sqlite:///{data / 'engine.sqlite'}"
        return
    with postgresql.database(cluster) as ledger, postgresql.database(cluster) as engine:
        yield {"OVCF_NODE__ENGINE__LEDGER_URL": ledger, "OVCF_NODE__ENGINE__ENGINE_URL": engine}, ledger, engine


@contextmanager
def durable_site(
    folder: Path, cluster: str | None = None, *, bundle: Callable[[Path], Path] = label_bundle,
    destination: dict[str, object] | None = None, **more: str,
) -> Iterator[Site]:
    """Make one in `folder`, on SQLite or in databases of a PostgreSQL `cluster`; nothing of it runs but the PACS.

    bundle       writes the bundle it reads with
    destination  further settings of the destination
    more         what its processes find in their environment
    """
    pacs = RecordingPacs(folder / "pacs")
    with pacs.running(), _databases(folder, cluster) as (environment, ledger_url, engine_url):
        there = dicom_destination("pacs", pacs.title, pacs.port, **(destination or {}))
        node = Node(folder / "node", there, quiet_s=0.5)
        text = node.configuration.read_text()
        quick = {"poll": 0.1, "judge_interval": 0.2, "quiet": 0.2, "retry_first": 0.2, "retry_cap": 0.5}
        for name, value in quick.items():
            text = re.sub(rf"(?m)^{name}_s = .*$", f"{name}_s = {value}", text)
        written = bundle(folder / "bundle")
        node.configuration.write_text(text.replace(f'bundle = "{node.settings.node.bundle}"', f'bundle = "{written}"'))
        migrate(ledger_url)
        node.ledger = Ledger(ledger_url)
        try:
            yield Site(node, pacs, Lives(node.configuration, environment | more), engine_url)
        finally:
            node.ledger.close()
