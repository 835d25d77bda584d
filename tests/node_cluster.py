"""One node as several processes on PostgreSQL: receivers behind a balancer, workers and senders."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from balancer import balanced
from node_harness import Node, RecordingPacs, dicom_destination, free_port, wait_for
from ovcf_node.ledger import Ledger

_START_S = 300  # for a machine that is busy with much else


class Cluster:
    """Processes of one node. `database` is a connection to its database, which holds ledger and scheduler."""

    def __init__(self, folder: Path, url: str, pacs: RecordingPacs, stack: ExitStack):
        self.pacs, self._stack, self._folder, self._url = pacs, stack, folder, url
        # On a busy machine seconds pass between two slices: they still shall be one revision.
        self.node = Node(folder / "node", dicom_destination("pacs", pacs.title, pacs.port), quiet_s=5.0)
        secret = folder / "database-url"
        secret.write_text(url + "\n")
        self._environment = {f"OVCF_NODE__ENGINE__{name}_URL_FILE": str(secret) for name in ("LEDGER", "ENGINE")}
        address = make_url(url)
        self.database = stack.enter_context(
            psycopg.connect(host=address.query["host"], user="ovcf", dbname=address.database, autocommit=True)
        )
        self.receivers: list[subprocess.Popen] = []
        self.workers: list[subprocess.Popen] = []
        self.senders: list[subprocess.Popen] = []

    def start(self, *, receivers: int, workers: int, senders: int) -> None:
        """Start everything at once, as an orchestrator does, with a balancer at `port` before the receivers."""
        ports = [free_port() for _ in range(receivers)]
        self.receivers = [self._run("receiver", OVCF_NODE__RECEIVE__PORT=str(port)) for port in ports]
        self.workers = [self._run("worker") for _ in range(workers)]
        self.senders = [self._run("sender") for _ in range(senders)]
        self.port, self.connections = self._stack.enter_context(balanced(self._folder, ports))
        self.node.ledger = Ledger(self._url)
        self._stack.callback(self.node.ledger.close)
        wait_for(self._ready, _START_S, f"every process has its name; logs in {self._folder}")

    def add_worker(self) -> None:
        self.workers.append(self._run("worker"))
        wait_for(self._ready, _START_S, "the new worker has its name")

    def stop(self) -> list[int]:
        """End what is left by SIGTERM; return the exit statuses."""
        processes = [*self.receivers, *self.workers, *self.senders]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(60) for process in processes]

    def kill(self, worker: subprocess.Popen) -> None:
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    def executor(self, process: subprocess.Popen) -> str:
        """Return the executor name that a process holds, empty while it has none."""
        links = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir() if path.is_symlink()]
        return next((Path(link).stem for link in links if link.endswith(".lock")), "")

    def judging(self) -> str:
        """Return the executor that holds the judge's lease, empty where nobody does."""
        query = "SELECT owner FROM leases WHERE name = 'judge' AND expires_at > extract(epoch FROM clock_timestamp())"
        try:
            row = self.database.execute(query).fetchone()
        except psycopg.errors.UndefinedTable:  # nobody has made the ledger yet
            return ""
        return row[0] if row else ""

    def running(self, workflow: str, series: str) -> str | None:
        """Return the executor that runs a workflow of the newest revision of a series right now."""
        revision = self.node.newest(series)
        if revision is None:
            return None
        key = {"read": f"read:{series}:{revision.number}:%", "deliver": f"deliver:{revision.id}:%"}[workflow]
        query = "SELECT executor_id FROM dbos.workflow_status WHERE status = 'PENDING' AND workflow_uuid LIKE %s"
        row = self.database.execute(query, (key,)).fetchone()
        return row[0] if row else None

    def _run(self, role: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "ovcf_node", "run", role, "--config", str(self.node.configuration)]
        with (self._folder / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | self._environment | environment)
        self._stack.callback(_end, process)
        return process

    def _ready(self) -> bool:
        processes = [*self.workers, *self.senders]
        assert all(process.poll() is None for process in (*self.receivers, *processes)), "a process ended"
        return bool(self.judging()) and all(self.executor(process) for process in processes)


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
