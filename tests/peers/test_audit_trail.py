"""Every audit message follows the schema, reaches a real collector over TLS in order, and waits on disk while it is away."""

import threading

import pytest

from audit_trail import event_of, repository, violations
from node_harness import free_port, wait_for
from ovcf_node.app import auditing
from ovcf_node.config import Audit, Node, Settings, Tls
from ovcf_node.errors import Transient
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.network import tls
from ovcf_node.network.syslog import Collector
from ovcf_node.observe import audit
from ovcf_node.observe.audit import Code, Participant, Study
from tls_files import authority

pytestmark = pytest.mark.peer

CT = "1.2.840.10008.5.1.4.1.1.2"
SCANNER = Participant("CT1", True, Code.SOURCE, "CT1", "192.0.2.10")
PACS = Participant("PACS", False, Code.DESTINATION, "PACS", "192.0.2.20")
STUDY = Study("1.2.3", "ID-1 <&\"'>", "Müller^Hans=王^小东\x00\x1b", "ACC-1", {CT: 450})
SAID = {
    "110100/110120": lambda: audit.activity(True),
    "110100/110121": lambda: audit.activity(False),
    "110102": lambda: audit.begin_transfer(SCANNER, PACS, STUDY),
    "110104": lambda: audit.transferred(SCANNER, PACS, STUDY),
    "110103": lambda: audit.accessed(Participant("anna", True), Study("1.2.3"), action="U"),
    "110105": lambda: audit.deleted(audit.ourselves(requestor=True), STUDY),
    "110112": lambda: audit.queried(SCANNER, PACS, "1.2.840.10008.5.1.4.1.2.2.1", bytes(range(256)), "1.2.840.10008.1.2"),
    "110114/110122": lambda: audit.signed(Participant("anna", True, address="192.0.2.30"), into=True, failure="refused"),
    "110114/110123": lambda: audit.signed(Participant("anna", True), into=False),
    "110113/110126": lambda: audit.alert(Code.NODE_AUTHENTICATION, "certificate refused", SCANNER),
}


@pytest.fixture
def said():
    """Messages of this process."""
    kept: list[bytes] = []
    audit.install(audit.Source("test-node", "Test Hospital", "receiver"), kept.append)
    yield kept
    audit.install(audit.Source("ovcf-node", "", ""), None)


@pytest.mark.parametrize("event", SAID)
def test_every_message_follows_the_schema(said, tmp_path, event):
    SAID[event]()
    message, = said
    assert event_of(message) == event
    assert violations(message, tmp_path) == ""


def test_a_message_that_does_not_is_found(said, tmp_path):
    audit.activity(True)
    assert "EventIdentification" in violations(said[0].replace(b'EventOutcomeIndicator="0"', b""), tmp_path)


def test_a_failed_transfer_says_so(said):
    audit.transferred(SCANNER, PACS, STUDY, "association aborted")
    assert b'EventOutcomeIndicator="4"' in said[0] and b"association aborted" in said[0]


def test_without_a_collector_nothing_is_made(tmp_path):
    auditing.install(Settings(node=Node(data=tmp_path)), "receiver")
    assert not audit.wanted()
    audit.activity(True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def site(tmp_path):
    """An authority, a node's settings with its certificates, and its ledger."""
    hospital, port = authority(tmp_path / "ca"), free_port()
    certificate, key = hospital.issue("node")
    settings = Settings(
        node=Node(data=tmp_path / "data", installation="test-node"),
        tls=Tls(certificate=certificate, key=key, ca=hospital.certificate),
        audit=Audit(host="localhost", port=port, retry_s=0.2),
    )
    settings.node.data.mkdir()
    tls.install(settings.tls)
    migrate(settings.ledger_url)
    ledger = Ledger(settings.ledger_url)
    yield settings, ledger, hospital
    ledger.close()
    tls.install(Tls())
    audit.install(audit.Source("ovcf-node", "", ""), None)


def test_messages_wait_while_the_collector_is_away_and_arrive_in_order(site, tmp_path):
    settings, ledger, hospital = site
    auditing.install(settings, "receiver")
    stop = threading.Event()
    bringer = threading.Thread(target=auditing.bring, args=(settings, ledger, "me", stop))
    bringer.start()
    try:
        for say in SAID.values():
            say()
        kept = auditing.outbox(settings)
        with repository(tmp_path / "audit", hospital, settings.audit.port) as collected:
            wait_for(lambda: len(kept) == 0, 60, "everything was brought")
            wait_for(lambda: collected.events() == list(SAID), 20, "everything arrived, in order")
        audit.activity(False)  # the collector is away again
        wait_for(lambda: len(kept) == 1, 20, "it waits")
        with repository(tmp_path / "audit", hospital, settings.audit.port) as collected:
            wait_for(lambda: collected.events() == [*SAID, "110100/110121"], 60, "nothing is lost")
            assert [violations(message, tmp_path) for message in collected.messages()] == [""] * (len(SAID) + 1)
    finally:
        stop.set()
        bringer.join(30)


def test_a_collector_with_another_name_is_not_told(site, tmp_path):
    settings, _, hospital = site
    with repository(tmp_path / "audit", hospital, settings.audit.port) as collected:
        stranger = Collector("localhost", settings.audit.port, encrypted=True, expected_name="audit.example")
        with pytest.raises(Transient, match="audit_collector"):
            stranger.send([b"<?xml secret"])
        assert collected.messages() == []
