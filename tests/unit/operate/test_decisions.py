"""What people decide changes the ledger as it should, says who it was, and is refused where it makes no sense."""

import pytest
from operate_site import study_path, token_in

from ovcf_node.domain.assessments import Assessment, Verdict
from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.ledger.retention import Due, Phase
from ovcf_node.operate import decisions

S = RevisionState


def post(client, decision, **given):
    path = study_path(client)
    return client.post(f"{path}/{decision}", data={"token": token_in(client.get(path).text), **given})


def history(site):
    return [f"{event.kind}: {event.text}" for event in site.ledger.events.of_study(site.newest().study_instance_uid)]


def test_retry_sends_at_once_what_was_rejected(site, study, browser):
    delivery = site.ledger.deliveries.of_revision(study.id)[0]
    site.ledger.deliveries.finished(delivery, DeliveryState.REJECTED, site.at, status=0xA900, text="no")
    client = browser("otto")
    assert post(client, "retry", revision=study.id).headers["location"].endswith("?done=retry")
    assert [d.state for d in site.ledger.deliveries.due(site.at)] == ["PENDING", "PENDING"]
    assert "retried: by otto: 2 deliveries are tried again" in history(site)


@pytest.mark.parametrize("state", [S.NOT_ASSESSED, S.EXCLUDED, S.FAILED])
def test_retry_reads_again_what_was_not_read(site, browser, state):
    site.receive()
    site.ledger.revisions.move(site.newest(), state, site.at, reason=Reason("incomplete", "slices are missing"))
    post(browser("otto"), "retry", revision=site.newest().id)
    assert (site.newest().number, site.newest().state) == (2, S.RECEIVING)


def test_decision_about_a_series_that_moved_on_is_refused(site, study, browser):
    site.receive(2)
    for account, decision in (("otto", "retry"), ("rita", "assess")):
        answer = post(browser(account), decision, revision=study.id, **{"said-L1": "accepted"})
        assert answer.status_code == 409 and "the series changed since this page was made" in answer.text
    assert [r.state for r in site.ledger.revisions.of_series(study.series_instance_uid)] == [S.SUPERSEDED, S.RECEIVING]


def test_hold_and_release(site, study, browser):
    client = browser("otto")
    assert post(client, "release").status_code == 409
    post(client, "hold")
    assert "1 study is held" in client.get("/").text  # at once, though the page was made a moment ago
    assert site.ledger.deliveries.due(site.at + 9) == [] and post(client, "hold").status_code == 409
    post(client, "release")
    assert len(site.ledger.deliveries.due(site.at + 9)) == 2
    post(client, "hold")  # what was released may be held again
    assert len(site.ledger.holds.all()) == 1
    assert history(site)[-3:] == ["held: by_person: held by otto", "hold_lifted: by otto", "held: by_person: held by otto"]


def test_discard_needs_a_hold_and_ends_the_study(site, study, browser):
    client = browser("otto")
    assert post(client, "discard").status_code == 409
    post(client, "hold")
    post(client, "discard")
    assert site.newest().state is S.SUPERSEDED and site.ledger.instances.originals(study.series_instance_uid) == []
    assert "discarded" in client.get(study_path(client)).text


@pytest.mark.parametrize(("stands", "kept"), [("first", "digest 1"), ("newest", "other")])
def test_release_says_what_stands_after_a_conflict(site, browser, stands, kept):
    site.receive()
    site.read()
    [original] = site.ledger.instances.originals(site.newest().series_instance_uid)
    again = site.receipt(original, digest="other")
    site.ledger.instances.record(again)
    [variant] = site.ledger.instances.of_kind("variant")
    site.ledger.instances.set_kind([variant.id], "conflict")
    site.ledger.holds.place(original.study_instance_uid, Reason("content_conflict", "other content"), site.at)
    client = browser("otto")
    assert "what came last" in client.get(study_path(client)).text
    post(client, "release", stands=stands)
    assert [i.digest for i in site.ledger.instances.originals(original.series_instance_uid)] == [kept]
    assert site.newest().number == (1 if stands == "first" else 2)


@pytest.mark.parametrize(("decide", "numbers"), [
    (lambda *given: decisions.release(*given, newest=True), [S.SUPERSEDED, S.RECEIVING]),
    (decisions.discard, [S.SUPERSEDED]),
])
def test_a_decision_about_a_study_stands_though_a_worker_moves_its_series_meanwhile(site, monkeypatch, decide, numbers):
    site.receive()
    first = site.newest()
    site.ledger.holds.place(first.study_instance_uid, Reason("by_person", "held"), site.at)

    def seen_before_it_moves(study, look=site.ledger.revisions.newest_of_study):
        seen = look(study)
        if seen[0].id == first.id and seen[0].state is first.state:
            site.ledger.revisions.move(seen[0], S.COMPLETE, site.at)
        return seen

    monkeypatch.setattr(site.ledger.revisions, "newest_of_study", seen_before_it_moves)
    decide(site.ledger, first.study_instance_uid, site.at, "otto")
    assert [r.state for r in site.ledger.revisions.of_series(first.series_instance_uid)] == numbers
    assert site.ledger.holds.all() == []


def test_assessment_becomes_a_second_reading(site, study, browser):
    said = {"said-L1": "accepted", "said-L3": "rejected", "said-L4": "corrected:L5", "said-S1": "accepted", "said-T12": ""}
    answer = post(browser("rita"), "assess", revision=study.id, **said)
    assert answer.headers["location"].endswith("?done=assess")
    second = site.ledger.assessments.of_revision(site.newest().id)
    assert (second.reader, second.name, second.at) == ("rita", "Rita^Test", site.at)
    assert second.assessments == (
        Assessment("L1", Verdict.ACCEPTED), Assessment("L3", Verdict.REJECTED), Assessment("L4", Verdict.CORRECTED, "L5"),
    )
    assert site.newest().state is S.INFERRED and site.newest().reading_of == study.id
    assert history(site)[-1] == "assessed: revision 2: second reading by rita"


@pytest.mark.parametrize(("said", "status", "words"), [
    ({}, 409, "no finding was assessed"), ({"said-L1": ""}, 409, "no finding was assessed"),
    ({"said-S1": "accepted"}, 409, "no finding was assessed"), ({"said-L1": "perhaps"}, 400, "cannot be said"),
    ({"said-L1": "corrected:L1"}, 400, "cannot be said"), ({"said-L1": "corrected"}, 400, "cannot be said"),
])
def test_assessment_that_says_nothing(site, study, browser, said, status, words):
    answer = post(browser("rita"), "assess", revision=study.id, **said)
    assert answer.status_code == status and words in answer.text
    assert site.newest().id == study.id


def test_two_findings_are_never_said_to_be_of_one_level(site, study, browser):
    said = {"said-L3": "corrected:L4", "said-L4": "accepted"}
    answer = post(browser("rita"), "assess", revision=study.id, **said)
    assert answer.status_code == 409 and "two findings cannot be of one level (L4)" in answer.text
    assert site.newest().id == study.id
    assert 'value="corrected:L4" selected' in answer.text and 'value="accepted" selected' in answer.text  # nothing is lost
    assert post(browser("rita"), "assess", revision=study.id, **said | {"said-L4": "rejected"}).status_code == 303


def test_held_study_is_not_assessed(site, study, browser):
    decisions.hold(site.ledger, study.study_instance_uid, site.at, "otto")
    assert "<select" not in browser("rita").get(study_path(browser("rita"))).text
    assert post(browser("rita"), "assess", revision=study.id, **{"said-L1": "accepted"}).status_code == 409


def test_the_same_said_twice_is_said_once(site, study, browser):
    client = browser("rita")
    post(client, "assess", revision=study.id, **{"said-L1": "accepted"})
    second = site.newest()
    site.ledger.revisions.answered(second, [], {}, site.at)
    answer = post(client, "assess", revision=second.id, **{"said-L1": "accepted"})
    assert answer.status_code == 409 and "nothing changed" in answer.text
    assert post(client, "assess", revision=second.id, **{"said-L1": "rejected"}).status_code == 303


def test_a_reader_s_form_shows_what_that_reader_said_and_nobody_else_s(site, study, browser):
    post(browser("rita"), "assess", revision=study.id, **{"said-L1": "rejected"})
    site.ledger.revisions.answered(site.newest(), [], {}, site.at)
    assert '"rejected" selected' in browser("rita").get(study_path(browser("rita"))).text
    site.people("ruth", "reader")
    html = browser("ruth").get(study_path(browser("ruth"))).text
    assert " selected" not in html and "Rita Test: rejected" in html.replace("Test Rita", "Rita Test")


def test_late_slice_makes_the_page_say_that_a_second_reading_no_longer_stands(site, study, browser):
    post(browser("rita"), "assess", revision=study.id, **{"said-L1": "accepted"})
    site.receive(2)
    client = browser("vera")
    assert "no longer stands" in client.get(study_path(client)).text
    site.read()
    html = client.get(study_path(client)).text
    assert "no longer stands" in html and "Second reading by" not in html


def test_failed_second_reading_is_reported_again_not_read_again(site, study, browser):
    post(browser("rita"), "assess", revision=study.id, **{"said-L1": "accepted"})
    said = site.ledger.assessments.of_revision(site.newest().id)
    site.ledger.revisions.move(site.newest(), S.FAILED, site.at, reason=Reason("encode", "could not be encoded"))
    post(browser("otto"), "retry", revision=site.newest().id)
    assert (site.newest().number, site.newest().state, site.newest().reading_of) == (3, S.INFERRED, study.id)
    assert site.ledger.assessments.of_revision(site.newest().id) == said


def purge(site, study, phase: Phase) -> None:
    for delivery in site.ledger.deliveries.of_revision(study.id):
        site.ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, site.at, status=0, text="")
    due = Due(site.at + 2e6, site.at + 1e6, ("pacs",), failed_too=True)
    assert site.ledger.retention.purge(phase, study.study_instance_uid, due)


def test_without_its_images_a_series_is_shown_and_not_assessed(site, study, browser):
    client = browser("rita")
    page = client.get(study_path(client)).text
    assert "stay here until" in page and 'name="said-' in page
    purge(site, study, Phase.IMAGES)
    page = client.get(study_path(client))
    assert page.status_code == 200 and 'name="said-' not in page.text and "L1" in page.text
    assert "No second reading any more" in page.text and "send it again" in page.text
    answer = post(client, "assess", revision=study.id, **{"said-L1": "accepted"})  # from a page that was open before
    assert answer.status_code == 409 and "Not done: its images were purged" in answer.text
    viewer = browser("vera").get(study_path(browser("vera"))).text
    assert "received images were purged" in viewer and "No second reading" not in viewer


def test_purged_results_are_said_to_be_purged(site, study, browser):
    client = browser("rita")
    path = study_path(client)
    purge(site, study, Phase.RESULTS)
    site.results.purge(study.result_key)
    page = client.get(path)
    assert page.status_code == 200 and "were purged here at" in page.text and "ACCEPTED" in page.text.upper()
