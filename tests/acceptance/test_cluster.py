"""Several processes on PostgreSQL, as deploy/compose.yaml and the Helm chart run them: the main job, and a worker lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from node_harness import Node, RecordingPacs, dicom_destination, storescu, wait_for
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.ledger import Ledger
from postgresql import cluster, database

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SERIES = uid_from("phantom", "demo", "series")


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
    with cluster() as server, database(server) as url, pacs.running(), ExitStack() as stack:
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
