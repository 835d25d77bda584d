"""The main job with TLS only: scanner, node and PACS prove who they are, and no plain port is open."""

import subprocess

import pytest

from dicom_peers import program
from node_harness import Node, dciodvfy_errors, dicom_destination, free_port, wait_for
from ovcf_node.demo import phantom
from tls_files import authority, encrypted

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def test_the_main_job_over_tls(tmp_path, monkeypatch):
    hospital = authority(tmp_path / "ca")
    ours, scanner, pacs = (hospital.issue(name) for name in ("node", "ct1", "pacs"))
    phantom.write_series(phantom.load(), tmp_path / "ct")
    port, archive = free_port(), tmp_path / "archive"
    archive.mkdir()
    destination = dicom_destination("pacs", "PACS", port, tls=True, tls_name="pacs")
    files = f'[tls]\ncertificate = "{ours[0]}"\nkey = "{encrypted(ours[1], "of the key")}"\nca = "{hospital.certificate}"\n'
    (tmp_path / "password").write_text("of the key\n")
    monkeypatch.setenv("OVCF_NODE__TLS__KEY_PASSWORD_FILE", str(tmp_path / "password"))
    encrypted_port = free_port()
    monkeypatch.setenv("OVCF_NODE__RECEIVE__TLS_PORT", str(encrypted_port))
    monkeypatch.setenv("OVCF_NODE__RECEIVE__PLAIN", "false")
    node = Node(tmp_path / "node", destination, extra=files)
    plain, node.port = node.port, encrypted_port
    server = subprocess.Popen(
        [program("storescp"), "+tls", pacs[1], pacs[0], "+cf", hospital.certificate, "-aet", "PACS", "-od", archive, "-ll",
         "error", str(port)])
    try:
        with node.running():
            done = subprocess.run(
                [program("storescu"), "+tls", scanner[1], scanner[0], "+cf", hospital.certificate, "-aet", "SCANNER", "-aec",
                 "OVCF_NODE", "+sd", "+r", "127.0.0.1", str(encrypted_port), tmp_path / "ct"],
                capture_output=True, timeout=300,
            )
            assert done.returncode == 0, done.stderr[-1000:]
            wait_for(lambda: len(list(archive.iterdir())) == 4, 300, f"four objects; see {node.log}")
            refused = subprocess.run([program("echoscu"), "-aec", "OVCF_NODE", "127.0.0.1", str(plain)], timeout=60)
            assert refused.returncode != 0
            assert node.command("echo").returncode == 0
    finally:
        server.terminate()
        server.wait(20)
    assert [dciodvfy_errors(path) for path in archive.iterdir()] == [[]] * 4
    assert "of the key" not in node.log.read_text()
