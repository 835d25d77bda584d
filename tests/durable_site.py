"""A node of single processes on either database, for tests that kill, poison and upgrade it."""

import threading
from collections.abc import Iterator
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
from ovcf_node.ledger import Ledger, migrate
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
    def running(self, *roles: str) -> Iterator[dict]:
        """Run processes, and start again one that was given up because the machine was too busy for its heartbeat."""
        started = {role: self.lives.start(role) for role in roles}
        over = threading.Event()

        def keep() -> None:
            while not over.wait(1.0):
                for role, process in started.items():
                    if process.exitcode == EXIT_GIVEN_UP:
                        started[role] = self.lives.start(role)

        keeper = threading.Thread(target=keep)
        keeper.start()
        try:
            yield started
        finally:
            over.set()
            keeper.join()
            for process in started.values():
                self.lives.end(process)

    def settle(self, name: str) -> None:
        """Let worker and sender, alive and well, do what is left of a study."""
        with self.running("worker", "sender"):
            assert self.node.settled(series_uid(name), 300).state == "ENCODED"

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
def durable_site(folder: Path, cluster: str | None = None, **more: str) -> Iterator[Site]:
    """Make one in `folder`, on SQLite or in databases of a PostgreSQL `cluster`; nothing of it runs but the PACS.

    more  what its processes find in their environment
    """
    pacs = RecordingPacs(folder / "pacs")
    with pacs.running(), _databases(folder, cluster) as (environment, ledger_url, engine_url):
        node = Node(folder / "node", dicom_destination("pacs", pacs.title, pacs.port), quiet_s=0.5)
        text = node.configuration.read_text().replace("poll_s = 0.2", "poll_s = 0.1").replace("_s = 0.5\n", "_s = 0.2\n")
        bundle = label_bundle(folder / "bundle")
        node.configuration.write_text(text.replace(f'bundle = "{node.settings.node.bundle}"', f'bundle = "{bundle}"'))
        migrate(ledger_url)
        node.ledger = Ledger(ledger_url)
        try:
            yield Site(node, pacs, Lives(node.configuration, environment | more), engine_url)
        finally:
            node.ledger.close()
