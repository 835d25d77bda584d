"""A destination that is away, held or refuses us; each kind of refusal, told by a real SCP that answers so."""

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE, evt

from catalogue_rows import SEG, SR
from delivery_site import DeliverySite
from dicom_peers import RecordingAcceptor, free_port, uid
from ovcf_node.config import Destination
from ovcf_node.operate import decisions

SR_33 = SR.replace("88.34", "88.33")
DAY_S = 86400.0


def pacs(port: int, name: str = "pacs", **changes) -> Destination:
    values = {"name": name, "type": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout_s": 3}
    return Destination(**(values | changes))


@pytest.fixture
def made(tmp_path: Path):
    sites = []

    def make(*destinations: Destination) -> DeliverySite:
        sites.append(DeliverySite(tmp_path, *destinations))
        return sites[-1]

    yield make
    for site in sites:
        site.ledger.close()


@contextmanager
def recording(*sop_classes: str, **options) -> Iterator[RecordingAcceptor]:
    acceptor = RecordingAcceptor(sop_classes or (SEG, SR), **options)
    try:
        yield acceptor
    finally:
        acceptor.close()


def folder_of_nobody(tmp_path: Path) -> Destination:
    """Return a destination that is away: its folder is a file."""
    (tmp_path / "share").write_text("in the way")
    return Destination(name="share", type="folder", path=tmp_path / "share", retry_first_s=10, retry_cap_s=3600)


def test_outage_of_three_days_is_one_probe_an_hour(made, tmp_path):
    site = made(folder_of_nobody(tmp_path), Destination(name="other", type="folder", path=tmp_path / "other"))
    first = site.result("a", "share", "other")
    site.tick()
    assert site.states_at(first, "other") == ["ACCEPTED", "ACCEPTED"]  # at once, whatever the other one does
    later = [site.result(f"study-{number}", "share") for number in range(6)]
    sent_before, end = site.count("deliver"), site.now + 3 * DAY_S
    while site.now < end:
        stands = site.ledger.destinations.of("share")
        site.tick(max(0.001, stands.probe_at - site.now))
    assert site.count("deliver") == sent_before  # no attempt, no association, for none of the 7 studies
    assert [d.attempts for d in site.of(first, "share")] == [1, 1]
    probes = [at for at, workflow, _ in site.ran if workflow == "probe"]
    gaps = [after - before for before, after in itertools.pairwise(probes)]
    assert gaps == sorted(gaps[:7]) + gaps[7:] and 9 < gaps[0] < 41  # doubling
    assert all(0.74 * 3600 <= gap <= 3601 for gap in gaps[9:])  # up to the cap, spread by up to a quarter
    assert 72 <= len(probes) <= 110
    (tmp_path / "share").unlink()
    site.tick(3601)
    assert {s for revision in (first, *later) for s in site.states_at(revision, "share")} == {"ACCEPTED"}
    assert site.ledger.destinations.of("share").failures == 0


def test_retry_by_hand_probes_at_once(made, tmp_path):
    site = made(folder_of_nobody(tmp_path))
    revision = site.result("a", "share")
    for _ in range(4):
        site.tick(300)
    (tmp_path / "share").unlink()
    site.tick()
    assert site.states_at(revision, "share") == ["PENDING", "PENDING"]
    decisions.retry(site.ledger, site.ledger.revisions.get(revision.id), site.now, "anna")
    site.tick()
    assert site.states_at(revision, "share") == ["ACCEPTED", "ACCEPTED"]


def test_held_destination_gets_nothing_until_it_is_released(made, tmp_path):
    site = made(Destination(name="share", type="folder", path=tmp_path / "there"))
    decisions.hold_destination(site.ledger, "share", site.now, "anna")
    with pytest.raises(decisions.NotPossible):
        decisions.hold_destination(site.ledger, "share", site.now, "otto")
    revision = site.result("a", "share")
    site.tick(DAY_S)
    assert site.ran == [] and site.ledger.destinations.of("share").held_by == "anna"
    decisions.release_destination(site.ledger, "share", site.now, "anna")
    site.tick()
    assert site.states_at(revision, "share") == ["ACCEPTED", "ACCEPTED"]


def test_return_of_a_pacs_is_noticed_by_a_c_echo_and_everything_goes(made):
    port = free_port()
    site = made(pacs(port, retry_first_s=10, retry_cap_s=60))
    revisions = [site.result(name, "pacs") for name in "abc"]
    site.tick()
    site.tick(15)
    assert site.count("probe") == 1
    with restarted(port) as acceptor:
        site.tick(60)
        assert {s for r in revisions for s in site.states_at(r, "pacs")} == {"ACCEPTED"}
        assert len(acceptor) == 6


@contextmanager
def restarted(port: int) -> Iterator[list[str]]:
    received: list[str] = []

    def store(event: evt.Event) -> int:
        received.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    ae = AE("PACS")
    for sop_class in (SEG, SR, "1.2.840.10008.1.1"):
        ae.add_supported_context(sop_class)
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield received
    finally:
        ae.shutdown()


@pytest.mark.parametrize(
    ("status", "state", "attempts"),
    [(0xA700, "PENDING", 2), (0xA900, "REJECTED", 1), (0xC000, "REJECTED", 1), (0x0110, "REJECTED", 1)],
)
def test_status_about_an_instance_stops_that_instance_alone(made, status, state, attempts):
    with recording() as acceptor:
        site = made(pacs(acceptor.port))
        bad, good = site.result("bad", "pacs"), site.result("good", "pacs")
        acceptor.statuses[site.of(bad, "pacs")[1].sop_instance_uid] = (status, "its words")
        site.tick()
        site.tick(60)
        segmentation, report = site.of(bad, "pacs")
        assert (str(segmentation.state), str(report.state), report.attempts) == ("ACCEPTED", state, attempts)
        assert f"0x{status:04X}" in report.text and "its words" in report.text
        assert site.states_at(good, "pacs") == ["ACCEPTED", "ACCEPTED"]
        assert not site.ledger.destinations.of("pacs").stopped
        if state == "PENDING":  # out of resources passes
            acceptor.statuses.clear()
            site.tick(60)
            assert site.states_at(bad, "pacs") == ["ACCEPTED", "ACCEPTED"]


@pytest.mark.parametrize("how", ["no context", 0xA900, 0x0122])
def test_report_falls_back_to_the_next_dialect_that_is_allowed(made, how):
    with recording(SEG, SR_33, *([] if how == "no context" else [SR])) as acceptor:
        site = made(pacs(acceptor.port, sr_fallback=["88.33"]))
        revision = site.result("a", "pacs", srs=("88.34", "88.33"))
        if how != "no context":
            acceptor.statuses[uid("a", "88.34")] = how
        site.tick()
        site.tick()
        assert site.states_at(revision, "pacs") == ["ACCEPTED", "CANCELLED", "ACCEPTED"]
        assert uid("a", "88.33") in acceptor.received
        assert "sent as 88.33/air instead" in site.of(revision, "pacs")[1].text


def test_without_a_fallback_or_after_the_last_it_stops_and_shows(made):
    with recording(SEG) as acceptor:
        site = made(pacs(acceptor.port, sr_fallback=["88.33"]))
        revision = site.result("a", "pacs", srs=("88.34", "88.33"))
        for _ in range(3):
            site.tick()
        assert site.states_at(revision, "pacs") == ["ACCEPTED", "CANCELLED", "REJECTED"]
        assert "no presentation context" in site.of(revision, "pacs")[2].text
        plain = made(pacs(acceptor.port))
        revision = plain.result("bb", "pacs")
        plain.tick()
        assert plain.states_at(revision, "pacs") == ["ACCEPTED", "REJECTED"]


def test_unknown_calling_ae_title_stops_the_destination_and_is_shown(made):
    with recording(callers=["SOMEBODY_ELSE"]) as acceptor:
        site = made(pacs(acceptor.port, retry_first_s=1, retry_cap_s=900))
        revision = site.result("a", "pacs")
        site.tick()
        for _ in range(60):
            site.tick(10)
        stands = site.ledger.destinations.of("pacs")
        assert stands.refuses and "calling AE title not recognised" in stands.text
        assert site.count("deliver") == 1 and site.count("probe") == 0  # not within ten minutes
        acceptor._ae.require_calling_aet = []  # the administrator enters our AE title
        site.tick(900)
        assert site.states_at(revision, "pacs") == ["ACCEPTED", "ACCEPTED"]
        assert not site.ledger.destinations.of("pacs").refuses


def test_unknown_called_ae_title_stops_too(made):
    with recording(ae_title="ANOTHER") as acceptor:
        site = made(pacs(acceptor.port))
        site.result("a", "pacs")
        site.tick()
        stands = site.ledger.destinations.of("pacs")
        assert stands.refuses and "called AE title not recognised" in stands.text


@pytest.mark.parametrize(("result", "source", "diagnostic"), [(2, 3, 1), (2, 3, 2), (1, 3, 1), (2, 1, 1)])
def test_congestion_passes(made, result, source, diagnostic):
    with rejecting(result, source, diagnostic) as port:
        site = made(pacs(port, retry_first_s=10))
        site.result("a", "pacs")
        site.tick()
        stands = site.ledger.destinations.of("pacs")
        assert stands.away_since and not stands.refuses and "association_rejected" in stands.text
        assert stands.probe_at - site.now <= 10


@contextmanager
def rejecting(result: int, source: int, diagnostic: int) -> Iterator[int]:
    """Answer every association request with one A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(bytes([3, 0, 0, 0, 0, 4, 0, result, source, diagnostic]))
                    connection.recv(16)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
