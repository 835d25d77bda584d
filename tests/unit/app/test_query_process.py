"""The query process answers on its own port, is seen from outside, and ends what it is doing at SIGTERM."""

import signal
import subprocess
import sys
import time

import pytest

from catalogue_rows import SEG, SR, result_object, store
from dicom_peers import free_port, uid, wait_until
from ovcf_node.app import checks
from ovcf_node.config import Query, Settings, load
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.network import contexts
from ovcf_node.storage.results import Results
from query_peers import association, find, identifier


@pytest.fixture
def configuration(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text(f"""
[node]
data = "data"
[receive]
port = {free_port()}
[query]
enabled = true
host = "127.0.0.1"
port = {free_port()}
peers = [{{ ae_title = "PACS" }}]
""")
    settings = load(path)
    settings.node.data.mkdir()
    migrate(settings.ledger_url)
    ledger, results = Ledger(settings.ledger_url), Results(settings.node.data / "results")
    store(ledger, [result_object("a", SEG), result_object("a", SR)], results)
    with ledger.catalogue._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM catalogue")  # as if stored by an earlier version
    ledger.close()
    return path


def test_query_process(configuration):
    settings = load(configuration)
    port = settings.query.port
    assert "query" in settings.roles
    assert any(p.startswith("query: ") for p in checks.alive(settings))
    with (configuration.parent / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ovcf_node", "run", "query", "--config", str(configuration)], stdout=log, stderr=log,
        )
        try:
            wait_until(lambda: not any(p.startswith("query: ") for p in checks.alive(settings)), 60)
            assert any(p.startswith("query: cannot listen") for p in checks.check(settings))  # no judge: not this node's
            found, final = find(port, identifier("STUDY", StudyInstanceUID="", PatientName="NAME*",
                                                 NumberOfStudyRelatedInstances=""))
            assert final.Status == 0x0000
            assert [(m.StudyInstanceUID, m.NumberOfStudyRelatedInstances) for _, m in found] == [(uid("a"), 2)]
            with association(port, contexts.VERIFICATION) as opened:
                process.send_signal(signal.SIGTERM)
                time.sleep(0.5)
                assert process.poll() is None  # an open association may end what it does
                assert opened.send_c_echo().Status == 0x0000
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        written = log.read()
    assert "Name^" not in written and uid("a") not in written and "catalogue_caught_up" in written


def test_check_tries_an_ipv6_listener_as_such():
    settings = Settings(receive={"host": "::1", "port": free_port()})
    assert not any("cannot listen" in p for p in checks._check_ports(settings))


def test_check_names_a_query_service_that_nobody_may_use(tmp_path):
    settings = Settings(node={"data": tmp_path}, query=Query(enabled=True, port=free_port(), host="127.0.0.1"))
    assert any(problem.startswith("query.peers is empty") for problem in checks.check(settings))
