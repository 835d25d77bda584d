"""A node is copied while it reads, lost, and started from the copy: it finishes the work, and one UID has one content."""

import shutil
import signal
from collections import defaultdict
from pathlib import Path

import pytest

from node_harness import Node, RecordingPacs, dicom_destination, storescu, wait_for
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def test_restored_node_finishes_and_never_sends_one_uid_with_two_contents(tmp_path: Path):
    for name in ("done", "half"):
        phantom.write_series(phantom.load(), tmp_path / name, name=name, header={"PatientID": name})
    series = {name: uid_from("phantom", name, "series") for name in ("done", "half")}
    pacs = RecordingPacs(tmp_path / "pacs")
    with pacs.running():
        node = Node(tmp_path / "node", dicom_destination("pacs", pacs.title, pacs.port))
        with node.running():
            storescu(node.port, tmp_path / "done")
            node.settled(series["done"])
            storescu(node.port, tmp_path / "half")
            wait_for(lambda: node.newest(series["half"]), 120, "the judge has seen the second series")
            made = node.command("backup", "--out", str(tmp_path / "copy"))
            assert made.returncode == 0, made.stderr
            node.settled(series["half"])  # what the copy does not know: the PACS has it
        assert len(pacs.receipts) == 8
        shutil.rmtree(node.settings.node.data)
        refused = node.command("restore", "--from", str(tmp_path / "node"))
        assert refused.returncode == 2 and "no_backup" in refused.stderr
        restored = node.command("restore", "--from", str(tmp_path / "copy"))
        assert restored.returncode == 0, restored.stderr
        with node.running():
            revision = node.settled(series["half"])
            assert (revision.state, revision.number) == ("ENCODED", 1)
            shown = node.command("jobs", "show", series["done"]).stdout
            assert shown.count("ACCEPTED  attempts 1") == 4  # its deliveries were final: not sent again
    assert node.exit_status in (0, -signal.SIGTERM)
    contents = defaultdict(set)
    for uid, digest in pacs.receipts:
        contents[uid].add(digest)
    assert all(len(found) == 1 for found in contents.values())
    assert len(pacs.receipts) == 12  # the second series is answered again: this PACS takes no queries
