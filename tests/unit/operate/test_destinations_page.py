"""The status page says which destination gets nothing and why; operators hold and release it there."""

from operate_site import token_in

from ovcf_node.domain.states import DeliveryState


def decide(client, decision, name="pacs"):
    return client.post(f"/destination/{name}/{decision}", data={"token": token_in(client.get("/").text)})


def test_hold_and_release_on_the_status_page(site, study, browser):
    client = browser("otto")
    assert decide(client, "release").status_code == 409
    assert decide(client, "hold").status_code == 303
    page = client.get("/").text
    assert "pacs is held by otto: 2 wait." in page and "destination held" in page and ">Release " in page
    assert site.ledger.deliveries.due(site.at + 9) == []
    assert decide(client, "hold").status_code == 409
    decide(client, "release")
    assert len(site.ledger.deliveries.due(site.at + 9)) == 2
    assert decide(client, "hold", "nowhere").status_code == 404 and decide(client, "explode").status_code == 404


def test_only_operators_hold(site, study, browser):
    for account in ("vera", "rita"):
        client = browser(account)
        assert "/destination/pacs/hold" not in client.get("/").text
        answer = client.post("/destination/pacs/hold", data={"token": token_in(client.get("/").text)})
        assert answer.status_code == 403
    assert not site.ledger.destinations.of("pacs").stopped


def test_a_destination_that_refuses_us_is_an_alarm_and_its_words_are_for_those_who_may(site, study, browser):
    site.ledger.destinations.away("pacs", site.at, probe_at=site.at + 900, refuses=True, text="their words")
    seen = {account: browser(account).get("/").text for account in ("otto", "vera")}
    assert all("pacs refuses us: nothing is sent there." in text for text in seen.values())
    assert "their words" in seen["otto"] and "their words" not in seen["vera"]


def test_taken_and_not_confirmed_is_no_end(site, study, browser):
    for delivery in site.ledger.deliveries.of_revision(study.id):
        site.ledger.deliveries.finished(
            delivery, DeliveryState.ACCEPTED, site.at, status=0, text="", confirm_at=site.at + 60
        )
    page = browser("otto").get("/").text
    assert "pacs took it and has not said that it keeps it" in page and "2 taken and not confirmed" in page
