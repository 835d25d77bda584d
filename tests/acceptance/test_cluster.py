"""Several processes on PostgreSQL, as deploy/compose.yaml and the Helm chart run them: the main job, and a worker lost."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from node_harness import Node, RecordingPacs, dicom_destination, free_port, storescu, wait_for
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.ledger import Ledger

pytestmark = [pytest.mark.peer, pytest.mark.slow]

PROGRAMS = Path("/usr/lib/postgresql")
SERIES = uid_from("phantom", "demo", "series")


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL server of our own; yields the URL of an empty database."""
    found = sorted(PROGRAMS.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail("postgres is not installed")
        pytest.skip("postgres is not installed")
    programs, data, port = found[-1].parent, folder / "postgres", free_port()
    data.mkdir(parents=True)
    user = {}
    if os.getuid() == 0:  # it refuses to run as root
        shutil.chown(data, "postgres", "postgres")
        for parent in (folder, *folder.parents):
            if parent.owner() == "root" and str(parent) != "/":
                parent.chmod(parent.stat().st_mode | 0o011)
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    subprocess.run(
        [programs / "initdb", "--pgdata", data, "--username", "ovcf", "--auth", "trust", "--no-sync"],
        check=True, capture_output=True, **user,
    )
    options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
    with (folder / "postgres.log").open("wb") as log:
        command = [programs / "postgres", "-D", data, "-p", str(port), *options]
        server = subprocess.Popen(command, stderr=log, stdout=log, **user)
    try:
        wait_for(lambda: subprocess.run([programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port)],
                                        capture_output=True).returncode == 0, 60, "PostgreSQL answers")
        yield f"postgresql+psycopg://ovcf@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


@contextmanager
def running(role: str, node: Node, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """Run one process of the node, as one container would."""
    command = [sys.executable, "-m", "ovcf_node", "run", role, "--config", str(node.configuration)]
    with node.log.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def test_main_job_on_postgresql_while_a_worker_dies(tmp_path: Path):
    pacs = RecordingPacs(tmp_path / "pacs")
    phantom.write_series(phantom.load(), tmp_path / "phantom")
    with postgresql(tmp_path) as url, pacs.running(), ExitStack() as stack:
        node = Node(tmp_path / "node", dicom_destination("pacs", "TEST_PACS", pacs.port))
        secret = tmp_path / "database-url"
        secret.write_text(url + "\n")
        files = {f"OVCF_NODE__ENGINE__{name}_URL_FILE": str(secret) for name in ("LEDGER", "ENGINE")}
        start = {role: stack.enter_context(running(role, node, files)) for role in ("receiver", "worker", "sender")}
        node.process = start["receiver"]
        wait_for(node.listens, 90, f"the receiver listens; see {node.log}")
        node.ledger = stack.enter_context(opened(url))
        storescu(node.port, tmp_path / "phantom")
        wait_for(lambda: (r := node.newest(SERIES)) and r.analysis_started_at, 120, "the first worker reads it")
        second = stack.enter_context(running("worker", node, files))
        start["worker"].kill()
        revision = node.settled(SERIES)
        assert revision.state == "ENCODED"
        roles = sorted(d.role for d in node.ledger.deliveries.of_revision(revision.id))
        assert roles == ["seg_fractures", "seg_vertebrae", "sr", "summary"]
        assert len(pacs.receipts) == len({uid for uid, _ in pacs.receipts}) == 4
        assert not (node.settings.node.data / "ledger.sqlite").exists()
    assert [process.returncode for process in (start["receiver"], second, start["sender"])] == [0, 0, 0]


@contextmanager
def opened(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    yield ledger
    ledger.close()
