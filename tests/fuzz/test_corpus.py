"""What was a finding once is none any more: every file of the corpus is taken again.

pdu-*   state of the association, then what a peer says in it
file-*  a name, the transfer syntax, then a data set
find-*  an identifier
"""

from pathlib import Path

import pytest
from pynetdicom.pdu_primitives import A_ASSOCIATE, P_DATA

import query_peers
from fuzz import requests
from fuzz.files import Instance, Site
from fuzz.pdus import Association
from fuzz.tallies import Tally
from ovcf_node.network import contexts

pytestmark = pytest.mark.filterwarnings("ignore")

CORPUS = Path(__file__).parent / "corpus"
PDUS, FILES, IDENTIFIERS = (sorted(CORPUS.glob(f"{kind}-*")) for kind in ("pdu", "file", "find"))


@pytest.fixture
def association():
    one = Association()
    yield one
    one.close()


@pytest.mark.parametrize("path", PDUS, ids=lambda path: path.name)
def test_pdus_end_no_thread(path, association):
    state, data = path.read_bytes().split(b"\n", 1)
    association.hear(state.decode(), data)


def test_an_answer_that_comes_too_late_ends_no_thread(association):
    """A peer that says something wrong right after its request: our answer finds the association over."""
    dul = association._association.dul
    rejection = A_ASSOCIATE()
    rejection.result, rejection.result_source, rejection.diagnostic = 1, 1, 3
    dul.event_queue.queue.clear()
    dul.state_machine.current_state = "Sta13"
    dul.to_provider_queue.put(rejection)
    association._act()
    assert dul.to_provider_queue.empty() and dul.state_machine.current_state == "Sta13"


def test_an_answer_left_over_is_not_taken_for_an_abort(association):
    dul = association._begin("Sta2", b"")[1]
    dul.to_provider_queue.put(P_DATA())
    dul.state_machine.do_action("Evt19")
    assert dul.to_provider_queue.empty() and dul.state_machine.current_state == "Sta13"


@pytest.mark.parametrize("state", ["Sta1", "Sta3", "Sta6"])
def test_a_timer_that_ran_out_while_its_end_was_waiting_ends_no_thread(association, state):
    """A busy machine: the request was read in time and acted on after the ARTIM timer's event was queued."""
    dul = association._association.dul
    dul.state_machine.current_state = state
    dul.state_machine.do_action("Evt18")
    assert dul.state_machine.current_state == state


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_have_an_answer(path, tmp_path):
    name, syntax, data = path.read_bytes().split(b"\n", 2)
    tally = Tally("corpus")
    site = Site(tmp_path, tally)
    tally.tried = 3  # the next one is compared too
    try:
        site.take(name.decode(), Instance(syntax.decode(), data), read=True)
    finally:
        site.close()
    assert not tally.findings
    assert any(outcome.startswith("read: ") for outcome in tally.outcomes), tally.outcomes


def test_identifiers_have_an_answer(tmp_path):
    tally = Tally("corpus")
    with requests.services(tmp_path) as (port, _), query_peers.association(port, contexts.STUDY_ROOT_FIND) as opened:
        for path in IDENTIFIERS:
            requests.find(tally, opened, path.read_bytes())
    assert not tally.findings and tally.tried


def test_the_corpus_is_there():
    assert PDUS and FILES
