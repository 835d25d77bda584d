"""The status page: every state in words with its reason, and an alarm for everything a person should look at."""

from dataclasses import replace

import pytest
from operate_site import study_path

from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.operate.board import Boards
from ovcf_node.operate.standing import Stage, standing

S = RevisionState


def stands(site):
    revision = site.newest()
    hold = next(iter(site.ledger.holds.all()), None)
    return standing(revision, site.ledger.deliveries.of_revision(revision.id), hold, 7, site.settings, site.at,
                    site.ledger.destinations.all())


def board(site, free_mb=1000):
    return Boards(site.settings, site.ledger, lambda: free_mb, site.clock).now()


def alarms(site, **given):
    return [alarm.text for alarm in board(site, **given).alarms]


def alive(site, *names):
    for name in names or ("judge", "process:receiver@here", "executor:worker-0", "executor:sender-0"):
        site.ledger.leases.take(name, "me", site.at, 15.0)


def test_receiving(site):
    site.receive()
    site.at += 4
    assert stands(site).what == "receiving" and stands(site).why == "7 instances so far, the last 4 seconds ago"


def test_incomplete_says_until_when(site):
    site.receive()
    site.ledger.revisions.move(site.newest(), S.WAITING, site.at, reason=Reason("missing_slices", "3 slices are missing"))
    assert stands(site).stage is Stage.WAITING
    assert stands(site).why.startswith("3 slices are missing; answered “not assessed” at ")


def test_queued_reading_and_trying_again(site):
    site.receive()
    queued = site.ledger.revisions.move(site.newest(), S.COMPLETE, site.at, verdict={})
    assert (stands(site).stage, stands(site).what) == (Stage.WAITING, "queued")
    site.ledger.revisions.start(queued, site.at)
    assert (stands(site).stage, stands(site).what) == (Stage.RUNNING, "reading")
    site.ledger.revisions.failed(site.newest(), site.at, not_before=site.at + 5, text="child_died")
    assert (stands(site).stage, stands(site).what) == (Stage.WAITING, "tries again")
    assert "attempt 2 of 3" in stands(site).why


def test_shadow_results_say_so_and_what_was_pending_waits(site, study):
    shadow = site.settings.model_copy(update={"node": site.settings.node.model_copy(update={"mode": "shadow"})})
    deliveries = site.ledger.deliveries.of_revision(study.id)
    waits = standing(study, deliveries, None, 7, shadow, site.at, {})
    assert (waits.stage, waits.why) == (Stage.WAITING, "shadow mode: pacs gets nothing until it ends")
    kept = standing(replace(study, verdict={"shadow": True}), [], None, 7, shadow, site.at, {})
    assert (kept.stage, kept.what) == (Stage.DONE, "read, shadow") and "sent nowhere" in kept.why


def test_delivering_rejected_and_delivered(site, study):
    assert (stands(site).stage, stands(site).why) == (Stage.DELIVERING, "2 objects left for pacs")
    first = site.ledger.deliveries.of_revision(study.id)[0]
    site.ledger.deliveries.again(first, site.at, next_attempt_at=site.at + 9, status=None, text="connection refused")
    assert "tried 1 times, again at" in stands(site).why and stands(site).peer_words == "connection refused"
    first = site.ledger.deliveries.of_revision(study.id)[0]
    site.ledger.deliveries.finished(first, DeliveryState.REJECTED, site.at, status=0xA900, text="will not")
    assert (stands(site).stage, stands(site).peer_words) == (Stage.STUCK, "0xA900 will not")
    site.ledger.deliveries.retry(study.id, site.at)
    for delivery in site.ledger.deliveries.of_revision(study.id):
        site.ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, site.at, status=0, text="")
    assert (stands(site).stage, stands(site).what) == (Stage.DONE, "read, delivered")
    assert stands(site).why == "pacs has everything"


def test_destination_that_is_no_longer_configured(site, study):
    site.settings = site.settings.model_copy(update={"destinations": ()})
    assert (stands(site).stage, stands(site).what) == (Stage.STUCK, "undeliverable")
    assert [(d.name, d.configured, d.health.pending) for d in board(site).destinations] == [("pacs", False, 2)]


@pytest.mark.parametrize(("state", "stage"), [
    (S.EXCLUDED, Stage.EXCLUDED), (S.FAILED, Stage.STUCK), (S.NOT_ASSESSED, Stage.RUNNING), (S.SUPERSEDED, Stage.EXCLUDED),
])
def test_every_end_has_words(site, state, stage):
    site.receive()
    site.ledger.revisions.move(site.newest(), state, site.at, reason=Reason("scout", "a scout image"))
    assert stands(site).stage is stage and stands(site).what


def test_hold_outranks_everything(site, study):
    site.ledger.holds.place(study.study_instance_uid, Reason("two_patients", "one study, two Patient IDs"), site.at)
    assert (stands(site).stage, stands(site).what) == (Stage.STUCK, "held")
    alive(site)
    assert alarms(site) == ["1 study is held."]


def test_no_alarms_while_all_is_well(site, study):
    alive(site)
    assert alarms(site) == []
    assert board(site).summary == "no alarms; 1 delivering"


def test_dead_processes_and_a_full_disk_raise_alarms(site):
    alive(site, "executor:worker-0")
    site.settings = site.settings.model_copy(
        update={"receive": site.settings.receive.model_copy(update={"min_free_mb": 2048})}
    )
    assert [text.split(":")[0].split(" has")[0] for text in alarms(site, free_mb=7)] == [
        "No judge is at work", "No receiver is alive", "No sender is alive", "The data volume",
    ]


def test_a_held_study_without_a_page_raises_an_alarm(site, study):
    alive(site)
    site.ledger.holds.place("9.8.7", Reason("identity_conflict", "the same instance came again"), site.at)
    assert alarms(site) == ["One more study is held of which nothing was read: no page shows it."]
    site.ledger.holds.lift("9.8.7", site.at, "anna")
    assert alarms(site) == []


def test_silent_scanner_raises_an_alarm_and_a_new_one_does_not(site, study):
    site.at += 80 * 3600
    alive(site)
    assert "CT_1 last sent 3 days ago." in alarms(site) and not any("CT_2" in text for text in alarms(site))
    assert [(s.ae_title, s.silent) for s in board(site).scanners] == [("CT_1", True), ("CT_2", False)]


def test_destination_that_takes_nothing_for_long_raises_an_alarm(site, study):
    first = site.ledger.deliveries.of_revision(study.id)[0]
    site.ledger.deliveries.again(first, site.at, next_attempt_at=site.at, status=None, text="connection refused")
    site.at += 1200
    alive(site)
    assert alarms(site) == ["pacs has not taken results for 20 minutes: 2 wait."]
    health = board(site).destinations[0].health
    assert (health.pending, health.rejected, health.last_success, health.words) == (2, 0, None, "connection refused")


def test_study_stands_where_its_foremost_series_stands(site, study):
    site.receive(5, series="other", SeriesInstanceUID="1.2.3.9")
    rows = board(site).rows
    assert [(row.series, row.standing.stage) for row in rows] == [(2, Stage.RECEIVING)]


def test_old_rejection_and_failure_stay_visible_beyond_the_newest(site, study):
    first = site.ledger.deliveries.of_revision(study.id)[0]
    site.ledger.deliveries.finished(first, DeliveryState.REJECTED, site.at, status=0xA900, text="no")
    for number in range(50):
        site.at += 1
        site.receive(100 + number, StudyInstanceUID=f"1.2.9.{number}", SeriesInstanceUID=f"1.2.8.{number}")
        site.ledger.revisions.move(site.newest(), S.EXCLUDED, site.at, reason=Reason("scout", "a scout"))
    rows = board(site).rows
    assert rows[0].revision.id == study.id and rows[0].standing.stage is Stage.STUCK and len(rows) == 41


def test_the_board_is_made_once_for_everybody(site, study):
    boards = Boards(site.settings, site.ledger, lambda: 1000, site.clock)
    first = boards.now()
    site.at += 1
    assert boards.now() is first
    site.at += 2
    assert boards.now() is not first


def test_live_part_is_the_same_as_the_page_s(site, study, browser):
    client = browser("otto")
    live = client.get("/live").text
    assert live in client.get("/").text and "<html" not in live and study_path(client) in live
