"""A node with an audit record repository: what it says there, that it follows the schema, and that names are only there."""

import re
import subprocess

import httpx
import pytest

from audit_trail import repository, violations
from dicom_peers import program
from node_harness import Node, free_port, storescu, wait_for
from result_cases import make_case
from tls_files import authority

pytestmark = [pytest.mark.peer, pytest.mark.slow]

PATIENT = {"PatientName": "Planted^Audit", "PatientID": "PLANTED-ID", "AccessionNumber": "PLANTED-ACC"}


def test_who_did_what_is_told_to_the_repository_and_nowhere_else(tmp_path):
    hospital, port, query, web = authority(tmp_path / "ca"), free_port(), free_port(), free_port()
    certificate, key = hospital.issue("node")
    node = Node(
        tmp_path / "node", f'[[destinations]]\nname = "archive"\ntype = "folder"\npath = "{tmp_path / "archive"}"\n',
        extra=f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\nca = "{hospital.certificate}"\n'
              f'[audit]\nhost = "localhost"\nport = {port}\nretry_s = 0.5\n'
              f'[query]\nenabled = true\nport = {query}\npeers = [{{ ae_title = "FINDSCU" }}]\n'
              f'[web]\nenabled = true\nport = {web}\nopen = true\n',
    )
    make_case(tmp_path / "ct", spacing=4.0, study="audited", **PATIENT)
    with node.running():
        storescu(node.port, tmp_path / "ct")  # the collector is away: everything waits
        wait_for(lambda: (tmp_path / "archive").is_dir() and list((tmp_path / "archive").glob("*.dcm")), 240,
                 f"the answer is delivered; see {node.log}")
        with repository(tmp_path / "audit", hospital, port) as collected:
            wait_for(lambda: {"110100/110120", "110104", "110102"} <= set(collected.events()), 120, "what waited arrived")
            stranger = subprocess.run([program("echoscu"), "-aet", "STRANGER", "127.0.0.1", str(node.port)], timeout=60)
            asked = subprocess.run(
                [program("findscu"), "-aec", "OVCF_NODE", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k",
                 "PatientID=PLANTED-ID", "127.0.0.1", str(query)], timeout=60,
            )
            wait_for(lambda: _answers(web), 60, "the pages answer")
            httpx.get(f"http://localhost:{web}/dicom-web/studies?PatientID=PLANTED-ID", timeout=30).raise_for_status()
            assert (stranger.returncode != 0, asked.returncode) == (True, 0)
            wait_for(lambda: collected.events().count("110112") == 2 and "110113/110126" in collected.events(), 60,
                     "both queries, and the refusal")
            messages = collected.messages()
    assert [text for message in messages if (text := violations(message, tmp_path))] == []
    received = [m for m in messages if b"110104" in m and b'AlternativeUserID="AETITLES=SCANNER"' in m]
    assert len(received) == 1 and b"PLANTED-ID" in received[0]
    sent = [m for m in messages if b'csd-code="110102"' in m]
    assert sent and all(b"PLANTED-ID" in m and b"Planted^Audit" in m and b"PLANTED-ACC" in m for m in sent)
    assert not re.search("PLANTED|Planted", node.log.read_text())



def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://localhost:{port}/", timeout=5).status_code < 500
    except httpx.TransportError:
        return False
