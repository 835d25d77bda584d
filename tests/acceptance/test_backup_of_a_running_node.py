"""A node is copied while it reads, lost, and started from the copy: it finishes the work, and one UID has one content."""

import shutil
import time
from collections import defaultdict
from pathlib import Path

import pytest

from node_harness import Node, RecordingPacs, dicom_destination, storescu, wait_for
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.ledger import Ledger

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SERIES = uid_from("phantom", "demo", "series")


def test_restored_node_finishes_and_never_sends_one_uid_with_two_contents(tmp_path: Path):
    phantom.write_series(phantom.load(), tmp_path / "scanner")
    pacs = RecordingPacs(tmp_path / "pacs")
    with pacs.running():
        node = Node(tmp_path / "node", dicom_destination("pacs", pacs.title, pacs.port))
        with node.running():
            storescu(node.port, tmp_path / "scanner")
            wait_for(lambda: node.newest(SERIES), 120, "the judge has seen the series")
            command(node, "backup", "--out", tmp_path / "early")
            node.settled(SERIES)  # what the early copy does not know: the PACS has it
            command(node, "backup", "--out", tmp_path / "late")
        assert len(pacs.receipts) == 4

        restored(node, tmp_path / "early")
        with node.running():
            revision = node.settled(SERIES)
            assert (revision.state, revision.number) == ("ENCODED", 1)
        contents = defaultdict(set)
        for uid, digest in pacs.receipts:
            contents[uid].add(digest)
        assert all(len(found) == 1 for found in contents.values())
        assert len(pacs.receipts) == 8  # it was answered again: this PACS takes no queries

    restored(node, tmp_path / "late")
    ledger = Ledger(node.settings.ledger_url)
    later = time.time() + 1e6
    assert ledger.revisions.due(later) == [] and ledger.deliveries.due(later) == []  # nothing is read or sent again
    assert [r.answered for r in ledger.revisions.of_series(SERIES)] == [True]
    ledger.close()


def restored(node: Node, copy: Path) -> None:
    refused = node.command("restore", "--from", str(copy))
    assert refused.returncode == 2 and "data_not_empty" in refused.stderr
    shutil.rmtree(node.settings.node.data)
    command(node, "restore", "--from", copy)


def command(node: Node, *arguments: object) -> None:
    done = node.command(*map(str, arguments))
    assert done.returncode == 0, done.stderr
