"""A destination that holds results which the ledger does not know: the study is held, and the reason is the true one."""

import pytest

from catalogue_rows import SEG, SR
from commitment_pacs import CommitmentPacs
from delivery_site import DeliverySite
from dicom_peers import uid
from ovcf_node.config import Destination


@pytest.fixture
def pacs():
    there = CommitmentPacs([SEG, SR])
    there.series["1.2.3.4"] = uid("a", "series", SR)  # of an earlier life of the ledger, or purged from it
    yield there
    there.close()


@pytest.fixture
def site(tmp_path, pacs):
    made = DeliverySite(tmp_path, Destination(
        name="pacs", type="dicom", ae_title="PACS", host="127.0.0.1", port=pacs.port, timeout_s=5,
    ))
    yield made
    made.ledger.close()


def test_a_ledger_that_forgot_holds_and_a_released_study_is_not_held_again(site, pacs):
    revision = site.result("a", "pacs")
    site.tick()
    [hold] = site.ledger.holds.all()
    assert (hold.reason_code, hold.study_instance_uid) == ("older_ledger", revision.study_instance_uid)
    assert "pacs holds 1 results" in hold.reason_text and pacs.received == []
    site.ledger.holds.lift(revision.study_instance_uid, site.now, "anna")
    site.tick()
    assert site.states_at(revision, "pacs") == ["ACCEPTED", "ACCEPTED"] and site.ledger.holds.all() == []


def test_what_was_purged_here_is_said_to_have_been_purged(site, pacs):
    first = site.result("a")
    site.ledger.retention.purge_study(first.study_instance_uid, 1_700_000_000.0, "anna")
    second = site.result("a", "pacs")
    assert second.number == first.number + 1
    site.tick()
    [hold] = site.ledger.holds.all()
    assert hold.reason_code == "purged_before" and "purged here on 2023-11-14 by anna" in hold.reason_text
    assert pacs.received == []


def test_what_the_ledger_knows_holds_nothing(site, pacs):
    pacs.series = {uid("a", SEG): uid("a", "series", SEG)}
    revision = site.result("a", "pacs")
    site.tick()
    assert site.states_at(revision, "pacs") == ["ACCEPTED", "ACCEPTED"] and site.ledger.holds.all() == []


def test_what_was_released_is_not_held_again_under_the_other_name_of_the_same_fact(site, pacs):
    first = site.result("a", "pacs")
    site.tick()
    site.ledger.holds.lift(first.study_instance_uid, site.now, "anna")
    with site.ledger._engine.begin() as connection:  # the rows of the series went, the decision about the study stays
        connection.exec_driver_sql(
            "INSERT INTO tombstones (series_instance_uid, study_instance_uid, last_number, at, by) "
            "VALUES (?, ?, 0, 1.0, 'anna')",
            (first.series_instance_uid, first.study_instance_uid),
        )
    site.tick()
    assert site.states_at(first, "pacs") == ["ACCEPTED", "ACCEPTED"] and site.ledger.holds.all() == []
