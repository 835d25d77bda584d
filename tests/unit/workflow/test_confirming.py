"""Done is what the destination declares: committed, found or accepted; a real SCP reports, fails and keeps silent."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.presentation import build_context
from sqlalchemy import func, select
from structlog.testing import capture_logs

from catalogue_rows import SEG, SR
from commitment_pacs import COMMITMENT, INSTANCE, CommitmentPacs
from delivery_site import DeliverySite
from dicom_peers import MemoryLedger, RecordingAcceptor, relayed, uid, wait_until
from ovcf_node.config import Destination, Receive, Source
from ovcf_node.ledger.deliveries import settled
from ovcf_node.ledger.schema import deliveries
from ovcf_node.network import commitment
from ovcf_node.network.associate import Remote
from ovcf_node.receive.committing import Committing
from ovcf_node.receive.server import Receiver
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.spool import Spool


@pytest.fixture
def pacs():
    there = CommitmentPacs([SEG, SR])
    yield there
    there.close()


@pytest.fixture
def made(tmp_path, pacs):
    sites = []

    def make(final: str = "committed", **changes) -> DeliverySite:
        values = {"name": "pacs", "type": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port,
                  "timeout_s": 5, "final": final, "confirm_after_s": 600, "confirm_requests": 3}
        sites.append(DeliverySite(tmp_path, Destination(**(values | changes))))
        return sites[-1]

    yield make
    for site in sites:
        site.ledger.close()


@contextmanager
def receiving(site: DeliverySite, folder, destination: Destination, **settings):
    """Run a receiver whose disk is full: reports get in all the same."""
    receive = Receive(**({"host": "127.0.0.1", "sources": (Source(ae_title="SCANNER"),)} | settings))
    spool = Spool(folder / "spool")
    storing = Storing(spool, MemoryLedger(), min_free_bytes=2**62, patient_secret=b"secret")
    committing = Committing(receive, site.ledger, spool, clock=lambda: site.now)
    receiver = Receiver(receive, storing, committing, [destination], port=0)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop(0)


def accepted(site: DeliverySite):
    revision = site.result("a", "pacs")
    site.tick()
    assert site.states_at(revision, "pacs") == ["ACCEPTED", "ACCEPTED"]
    assert open_deliveries(site) == 2  # taken, and not final
    return revision


def open_deliveries(site: DeliverySite) -> int:
    with site.ledger.deliveries._engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(deliveries).where(~settled())).scalar_one()


def test_report_over_the_same_association(made, pacs):
    site = made()
    revision = accepted(site)
    site.tick(5)
    assert len(pacs.transactions) == 1 and pacs.statuses == [0x0000]
    site.tick()
    assert site.states_at(revision, "pacs") == ["COMMITTED", "COMMITTED"] and open_deliveries(site) == 0
    site.tick(86400)
    assert len(pacs.transactions) == 1 and len(pacs.received) == 2


def test_report_that_comes_before_the_answer_to_the_request(made, pacs):
    """pynetdicom serves an N-EVENT-REPORT in a thread of its own, so that it is not taken for the answer."""
    site = made()
    pacs.report_to = "crossing"
    revision = accepted(site)
    site.tick(5)
    site.tick()
    assert site.states_at(revision, "pacs") == ["COMMITTED", "COMMITTED"]
    assert len(pacs.transactions) == 1


def test_report_over_an_association_of_the_destination_below_the_watermark(made, pacs, tmp_path):
    site = made()
    with receiving(site, tmp_path, Destination(**there(pacs))) as receiver:
        pacs.report_to = receiver.port
        revision = accepted(site)
        site.tick(5)
        wait_until(lambda: pacs.statuses == [0x0000])
        site.tick()
        assert site.states_at(revision, "pacs") == ["COMMITTED", "COMMITTED"]


def there(pacs) -> dict:
    return {"name": "pacs", "type": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port,
            "final": "committed"}


def test_destination_that_reports_may_not_store_and_a_source_may_not_report(made, pacs, tmp_path):
    site = made()
    with receiving(site, tmp_path, Destination(**there(pacs))) as receiver, pacs.reverse(receiver.port, SEG) as opened:
        assert [str(c.abstract_syntax) for c in opened.accepted_contexts] == [COMMITMENT]
        assert [str(c.abstract_syntax) for c in opened.rejected_contexts] == [SEG]
    pacs.close()
    for destination in (Destination(**there(pacs)), Destination(**there(pacs) | {"final": "accepted"})):
        with receiving(site, tmp_path, destination) as receiver:
            ae = AE("SCANNER")
            opened = ae.associate("127.0.0.1", receiver.port, ae_title="OVCF_NODE",
                                  contexts=[build_context(COMMITMENT), build_context(SEG)])
            assert [str(c.abstract_syntax) for c in opened.accepted_contexts] == [SEG]
            opened.release()


def reports_from(receiver: Receiver, pacs: CommitmentPacs, address: str) -> bool:
    """Try to open the association of a report from an address of this machine."""
    try:
        with pacs.reverse(receiver.port, address=address) as opened:
            return bool(opened.accepted_contexts)
    except AssertionError:
        return False


@pytest.mark.parametrize(("report_from", "welcome"), [
    ((), ["127.0.0.1"]), (("localhost",), ["127.0.0.1"]), (("127.0.0.2",), ["127.0.0.2"]),
    (("127.0.0.2/31", "192.0.2.7"), ["127.0.0.2", "127.0.0.3"]), (("no-such-host.invalid",), []),
])
def test_reports_come_from_the_address_of_the_destination_only(made, pacs, tmp_path, report_from, welcome):
    destination = Destination(**there(pacs), report_from=report_from)
    with receiving(made(), tmp_path, destination) as receiver:
        found = [address for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3") if reports_from(receiver, pacs, address)]
    assert found == welcome


def refused(logged: list[dict]) -> list[str]:
    return [entry["address"] for entry in logged if entry["event"] == "commitment_report_refused"]


@pytest.mark.parametrize("commit_days", [0, 1])
def test_a_source_that_reports_from_elsewhere_is_refused_and_the_log_says_where(made, pacs, tmp_path, commit_days):
    site, sources = made(), (Source(ae_title="PACS"),)
    destination = Destination(**there(pacs), report_from=("127.0.0.2",))
    with (
        capture_logs() as logged,
        receiving(site, tmp_path, destination, sources=sources, commit_days=commit_days) as receiver,
        pacs.reverse(receiver.port, SEG) as opened,
    ):
        offered = {str(c.abstract_syntax) for c in opened.accepted_contexts}
        assert offered == ({SEG, COMMITMENT} if commit_days else {SEG})
        if commit_days:
            report = Dataset()
            report.TransactionUID = "1.2.3"
            answer, _ = opened.send_n_event_report(report, 1, COMMITMENT, INSTANCE)
            assert answer.Status == 0x0124
    assert refused(logged) == ["127.0.0.1"]


def test_behind_a_balancer_the_forwarded_address_reports(made, pacs, tmp_path):
    destination = Destination(**there(pacs) | {"host": "192.0.2.7"})
    with receiving(made(), tmp_path, destination, balancers=("127.0.0.1",)) as receiver:
        for client, welcome in (("192.0.2.7", True), ("192.0.2.8", False)):
            header = f"PROXY TCP4 {client} 192.0.2.1 40000 104\r\n".encode()
            with relayed(receiver.port, header) as port:
                assert reports_from(SimpleNamespace(port=port), pacs, "127.0.0.1") is welcome


def test_what_the_destination_does_not_have_is_sent_again_and_the_rest_is_not(made, pacs):
    site = made()
    revision = accepted(site)
    pacs.failing = {uid("a", "88.34"): 0x0112}
    site.tick(5)
    site.tick()
    assert site.states_at(revision, "pacs") == ["COMMITTED", "PENDING"]
    assert "0x0112 no such object instance" in site.of(revision, "pacs")[1].text
    pacs.failing = {}
    for _ in range(4):
        site.tick(30)
    assert site.states_at(revision, "pacs") == ["COMMITTED", "COMMITTED"]
    assert [pacs.received.count(d.sop_instance_uid) for d in site.of(revision, "pacs")] == [1, 2]


def test_what_it_never_keeps_is_shown_as_rejected(made, pacs):
    site = made()
    revision = accepted(site)
    pacs.failing = {uid("a", "88.34"): 0x0112}
    for _ in range(14):
        site.tick(30)
    assert site.states_at(revision, "pacs") == ["COMMITTED", "REJECTED"]
    assert pacs.received.count(uid("a", "88.34")) == 3


def test_silence_is_asked_again_and_a_query_tells_found_from_accepted(made, pacs):
    site = made()
    pacs.report_to = "nobody"
    revision = accepted(site)
    for _ in range(4):
        site.tick(5)
    assert len(pacs.transactions) == 1 and site.states_at(revision, "pacs") == ["ACCEPTED", "ACCEPTED"]
    site.tick(600)
    assert len(set(pacs.transactions)) == 2 and site.states_at(revision, "pacs") == ["FOUND", "FOUND"]
    assert open_deliveries(site) == 2
    site.tick(1200)
    site.tick(2400)
    assert len(pacs.transactions) == 3 and open_deliveries(site) == 0
    assert {d.text for d in site.of(revision, "pacs")} == {"found, not committed: 3 requests without a report"}
    # A report that comes days later still counts, whichever request it answers.
    site.ledger.commitments.report(pacs.transactions[0], [uid("a", "88.34")], {}, site.now)
    site.tick(86400)
    assert site.states_at(revision, "pacs") == ["FOUND", "COMMITTED"]
    assert len(pacs.received) == 2


def test_failure_in_an_old_report_is_no_failure_any_more(made, pacs):
    site = made()
    pacs.report_to = "nobody"
    revision = accepted(site)
    site.tick(5)
    site.tick(600)
    site.ledger.commitments.report(pacs.transactions[0], [], {uid("a", "88.34"): 0x0112}, site.now)
    site.tick()
    assert site.states_at(revision, "pacs") == ["FOUND", "FOUND"]


def test_request_is_in_the_ledger_before_it_is_sent(made, pacs):
    site = made()
    revision = accepted(site)
    pacs.abort, pacs.report_to = True, "nobody"  # it dies with our request, and nobody knows whether it has taken it
    site.tick(5)
    asked = site.of(revision, "pacs")
    assert {d.requests for d in asked} == {1} and len({d.transaction_uid for d in asked}) == 1
    assert "commitment not requested: association_lost" in asked[0].text
    assert site.ledger.commitments.report(asked[0].transaction_uid, [d.sop_instance_uid for d in asked], {}, site.now)
    site.tick()
    assert site.states_at(revision, "pacs") == ["COMMITTED", "COMMITTED"]
    assert not site.ledger.commitments.report("1.2.3", [], {}, site.now)  # not ours


@pytest.mark.parametrize(("final", "end"), [("committed", "COMMITTED"), ("found", "FOUND")])
def test_question_that_finds_the_destination_away_counts_for_nothing_and_waits_for_its_return(made, pacs, final, end):
    site = made(final)
    revision = accepted(site)
    pacs.close()
    site.tick(5)
    for _ in range(6):
        site.tick(900)
    assert {d.requests for d in site.of(revision, "pacs")} == {0} and site.ledger.destinations.of("pacs").word == "away"
    again = CommitmentPacs([SEG, SR], port=pacs.port)
    again.series = pacs.series
    try:
        for wait in (900, 5, 5):
            site.tick(wait)
        assert site.states_at(revision, "pacs") == [end, end]
    finally:
        again.close()


def test_found_is_final_where_the_destination_says_so(made, pacs):
    site = made("found")
    revision = accepted(site)
    site.tick(5)
    assert site.states_at(revision, "pacs") == ["FOUND", "FOUND"] and open_deliveries(site) == 0
    assert pacs.transactions == []


def test_what_is_accepted_and_never_found_is_shown(made, pacs):
    site = made("found")
    revision = accepted(site)
    pacs.failing = {uid("a", "88.34"): 0}
    for wait in (5, 600, 1200, 2400):
        site.tick(wait)
    assert site.states_at(revision, "pacs") == ["FOUND", "REJECTED"]
    assert "not found in 3 queries" in site.of(revision, "pacs")[1].text


def test_accepted_is_final_by_default(made, pacs):
    site = made("accepted")
    revision = site.result("a", "pacs")
    site.tick()
    site.tick(86400)
    assert site.states_at(revision, "pacs") == ["ACCEPTED", "ACCEPTED"] and open_deliveries(site) == 0
    assert pacs.transactions == [] and site.count("confirm") == 0


def test_check_tells_whether_a_destination_offers_it(pacs):
    plain = RecordingAcceptor([SEG])
    try:
        found = [commitment.offered(Remote("127.0.0.1", port, "PACS", "OVCF_NODE", 5)) for port in (pacs.port, plain.port)]
    finally:
        plain.close()
    assert found == [True, False]
