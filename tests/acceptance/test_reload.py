"""SIGHUP to a running node: new sources and destinations are taken over, and no association is lost."""

import signal
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_peers import CT_IMAGE, instance
from node_harness import Node, wait_for
from ovcf_node.errors import Permanent
from ovcf_node.network import associate

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def test_reload(tmp_path: Path):
    node = Node(tmp_path / "node", f'[[destinations]]\nname = "first"\ntype = "folder"\npath = "{tmp_path / "first"}"\n')
    with node.running():
        newcomer = associate.Remote("127.0.0.1", node.port, "OVCF_NODE", "NEW_SCANNER")
        with pytest.raises(Permanent, match="calling AE title not recognised"):
            associate.echo(newcomer)
        roles = ("receiver", "worker", "sender")
        pids = {role: wait_for(lambda role=role: node.worker_pids(role), 60, role) for role in roles}
        wait_for(lambda: "judge" in node.ledger.leases.expiries(0), 60, "the worker works")
        scanner = AE("SCANNER").associate(
            "127.0.0.1", node.port, contexts=[build_context(CT_IMAGE)], ae_title="OVCF_NODE"
        )
        text = node.configuration.read_text()
        node.configuration.write_text(text.replace('{ ae_title = "SCANNER" }', '{ ae_title = "NEW_SCANNER" }').replace(
            '"first"', '"second"'
        ))
        node.process.send_signal(signal.SIGHUP)

        def renewed(role: str) -> bool:
            now = node.worker_pids(role)
            return bool(now) and now != pids[role]

        wait_for(lambda: renewed("worker") and renewed("sender"), 60, "worker and sender run anew")
        assert node.worker_pids("receiver") == pids["receiver"]
        assert associate.echo(newcomer) < 5
        assert scanner.send_c_store(instance()).Status == 0x0000
        scanner.release()
    assert node.exit_status == 0
    log = node.log.read_text()
    assert '"event": "reloaded"' in log and "NEW_SCANNER" in log and '"restart_needed": false' in log
