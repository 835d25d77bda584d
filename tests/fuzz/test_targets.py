"""Every target for a few seconds from a fixed seed; `make fuzz` goes on for minutes, from a new one each time."""

import pytest

from fuzz import connections, files, pdus, requests

pytestmark = pytest.mark.filterwarnings("ignore")


def test_pdus_in_process():
    tally = pdus.run(7, lambda tried: tried < 4000)
    assert tally.findings == {}
    assert tally.outcomes["Sta2-Sta6"] and tally.outcomes["Sta6-Sta6"], "nothing was ever accepted"


def test_connections_and_an_honest_peer_beside():
    tally = connections.run(7, lambda tried: tried < 200)
    assert tally.findings == {}
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
