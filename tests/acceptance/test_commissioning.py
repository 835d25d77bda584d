"""`ovcf-node commission` against a running node and a real PACS, and what it says when something is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from node_harness import Node, dicom_destination, free_port, orthanc
from ovcf_node.commission import Options, Outcome, commission
from ovcf_node.config import Settings, Source
from ovcf_node.errors import Permanent
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.network import associate
from tls_files import authority

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def test_a_site_is_commissioned_from_scanner_to_pacs(tmp_path: Path):
    certificate, key = authority(tmp_path / "tls").issue("node", days=90)
    ours = free_port()  # Orthanc reports storage commitment there
    with orthanc(tmp_path / "orthanc", known={"OVCF_NODE": ours}, dicomweb=True) as (port, url):
        destinations = (
            dicom_destination("pacs", "ORTHANC", port, final="committed")
            + f'[[destinations]]\nname = "vna"\ntype = "stow"\nurl = "{url}/dicom-web"\n'
            + f'[[destinations]]\nname = "archive"\ntype = "folder"\npath = "{tmp_path / "archive"}"\n'
        )
        extra = f"""[query]\nenabled = true\nhost = "127.0.0.1"\nport = {free_port()}
peers = [{{ ae_title = "OVCF_COMMISSION" }}]
[web]\nenabled = true\nport = {free_port()}\ncertificate = "{certificate}"\nkey = "{key}"
"""
        node = Node(tmp_path / "node", destinations, extra=extra, sources=("PACS", "OVCF_COMMISSION"), port=ours)
        with node.running():
            output = commissioned(node, tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    assert "PASSED" in output and "FAIL " not in output, output
    assert "TYPO at 127.0.0.1 was rejected: calling AE title not recognised" in output
    assert "PACS at 127.0.0.1 called" in output
    for words in (
        "pacs says that it keeps them</strong><br>final = committed; the objects are COMMITTED",
        "pacs has them (C-FIND)</strong><br>all 4 SOP Instance UIDs", "vna has them (QIDO-RS)</strong><br>all 4 SOP",
        "archive has them (files)</strong><br>all 4 SOP", "L1 type B found", "the certificate is valid until",
        "as OVCF_COMMISSION",
        "OVCF^COMMISSIONING", "Not for diagnostic use", "data:image/jpeg;base64,", "delivering to pacs",
    ):
        assert words in report, words
    assert not re.search(r'(src|href)="(?!data:)', report)  # stands alone


def commissioned(node: Node, out: Path) -> str:
    """Run the command; when it asks for a C-ECHO, call under a title with a typing error first, then as the PACS."""
    command = [sys.executable, "-m", "ovcf_node", "commission", "--config", str(node.configuration), "--out", str(out),
               "--wait-echo", "120"]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            lines.append(line)
            if "start a C-ECHO" in line:
                with pytest.raises(Permanent):
                    associate.echo(associate.Remote("127.0.0.1", node.port, "OVCF_NODE", "TYPO"))
            if "TYPO at 127.0.0.1 was rejected" in line:
                associate.echo(associate.Remote("127.0.0.1", node.port, "OVCF_NODE", "PACS"))
    assert process.returncode == 0, "".join(lines)
    return "".join(lines)


def test_a_node_that_does_not_run_is_told_so_and_no_patient_is_sent(tmp_path: Path):
    settings = Settings(
        node={"data": tmp_path, "bundle": tmp_path / "no-bundle"}, web={"enabled": True, "open": True, "port": free_port()},
        receive={"host": "127.0.0.1", "port": free_port(), "sources": (Source(ae_title="CT"),)},
        destinations=[{"name": "pacs", "type": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}],
    )
    migrate(settings.ledger_url)
    ledger = Ledger(settings.ledger_url)
    run = commission(settings, ledger, Options(wait_echo_s=0.1, start_s=0.1), lambda check: None)
    failed = {check.name for check in run.checks if check.outcome is Outcome.FAIL}
    assert not run.passed and failed == {
        "Model bundle loads, its self-test agrees", "Every process is alive", "An unknown calling AE title is rejected",
        "The receiver answers a C-ECHO over the network", "Destination pacs (dicom) answers",
        "The node calls itself ready (/ready)", "The PACS or a scanner reaches us (C-ECHO)",
    }
    assert all(check.advice for check in run.checks if check.outcome is not Outcome.PASS)
    assert run.checks[-1].outcome is Outcome.NOT_TRIED and ledger.instances.arrivals(0) == []
    ledger.close()
