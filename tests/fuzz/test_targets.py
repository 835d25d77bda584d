"""Every target for a few seconds from a fixed seed; `make fuzz` goes on for minutes, from a new one each time."""

import pytest

from fuzz import connections, files, handshakes, operations, pages, pdus, requests
from ovcf_node.app import connections as web_connections
from ovcf_node.network import admission

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def impatient(monkeypatch):
    """Let those who dawdle be left a little sooner; not much, as it binds the honest peer too, on a busy machine."""
    monkeypatch.setattr(admission, "PATIENCE_S", 8.0)
    monkeypatch.setattr(web_connections, "_PATIENCE_S", 8.0)


def test_pdus_in_process():
    tally = pdus.run(7, lambda tried: tried < 4000)
    assert tally.findings == {}
    assert tally.outcomes["Sta2-Sta6"] and tally.outcomes["Sta6-Sta6"], "nothing was ever accepted"


def test_connections_and_an_honest_peer_beside(impatient):
    tally = connections.run(7, lambda tried: tried < 200)
    assert tally.findings == {}
    assert tally.notes["honest peer served"] >= 1 and tally.notes["its worst s"] < 30


@pytest.mark.peer
def test_handshakes_and_an_honest_sender_beside(impatient):
    tally = handshakes.run(7, lambda tried: tried < 200)
    assert tally.findings == {}
    assert tally.outcomes["outwaited"] and tally.outcomes["after: hung up"] and tally.outcomes["stranger: hung up"]
    assert tally.notes["honest peer served"] >= 1 and tally.notes["its worst s"] < 30


def test_changed_instances():
    tally = files.run(7, lambda tried: tried < 60, hurt=False)
    assert tally.findings == {}
    assert tally.outcomes["inspected: excluded"] > 10


def test_instances_made_to_hurt():
    tally = files.run(7, lambda tried: False)
    assert tally.findings == {}
    assert tally.outcomes["refused: uid_malformed"] > 20
    assert tally.outcomes["refused: inflates_too_large"] == 1 and tally.outcomes["refused: dataset_unreadable"] >= 2


def test_changed_identifiers_and_requests():
    tally = requests.run(7, lambda tried: tried < 400)
    assert tally.findings == {}
    assert tally.outcomes["C-FIND 0x0000"] and tally.outcomes["DICOMweb 200"]


def test_changed_retrievals_and_commitments():
    tally = operations.run(7, lambda tried: tried < 160)
    assert tally.findings == {}
    assert {tally.outcomes[f"{kind} 0x0000"] > 0 for kind in ("C-MOVE", "C-GET", "N-ACTION", "N-EVENT-REPORT")} == {True}


def test_changed_requests_to_the_pages_and_a_person_beside(impatient):
    tally = pages.run(7, lambda tried: tried < 300)
    assert tally.findings == {}
    assert {tally.outcomes[status] > 0 for status in ("200", "303", "400", "403", "411", "413", "outwaited")} == {True}
    assert tally.notes["honest peer served"] >= 1 and tally.notes["its worst s"] < 30
