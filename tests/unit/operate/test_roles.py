"""Who sees what: nothing without signing in, no identity for viewers, decisions and configuration by role."""

import re

import pytest
from operate_site import IDENTITY, PNG, study_path, token_in

PATHS = ("/", "/live", "/configuration", "{study}", "{study}/picture/{revision}")


def paths(site, client) -> list[str]:
    return [p.format(study=study_path(client), revision=site.newest().id) for p in PATHS]


def test_nobody_sees_anything_without_signing_in(site, study, browser):
    known = paths(site, browser("otto"))
    stranger = browser()
    for path in known:
        answer = stranger.get(path)
        assert answer.status_code == (401 if path == "/live" else 303), path
        assert not answer.text and (path == "/live" or answer.headers["location"].startswith("/sign-in?next=/"))
    for decision in ("retry", "hold", "release", "discard", "assess"):
        assert stranger.post(f"{known[3]}/{decision}", data={}).status_code == 303
    assert site.ledger.holds.all() == []


def test_sign_in_page_says_nothing_of_the_node_s_work(site, study, browser):
    html = browser().get("/sign-in").text
    assert "Research use only" in html and not any(word in html for word in (*IDENTITY, "pacs", "CT_1"))


@pytest.mark.parametrize("account", ["otto", "rita"])
def test_operators_and_readers_see_whose_study_it_is(site, study, browser, account):
    client = browser(account)
    for path in ("/", study_path(client)):
        assert all(word in client.get(path).text for word in IDENTITY[:3])


def test_viewers_see_findings_but_not_whose_they_are(site, study, browser):
    site.ledger.deliveries.again(
        site.ledger.deliveries.of_revision(study.id)[0], site.at, next_attempt_at=site.at + 9, status=0xA900,
        text="Planted is unknown here",
    )
    client = browser("vera")
    for path in ("/", "/live", study_path(client)):
        html = client.get(path).text
        assert not any(word in html for word in (*IDENTITY, study.study_instance_uid)), path
    html = client.get(study_path(client)).text
    assert "fracture suspected" in html and "B: superior endplate" in html and "0xA900" in html
    assert "Planted is unknown here" in browser("otto").get(study_path(client)).text


def test_addresses_hold_neither_uids_nor_identity(site, study, browser):
    client = browser("otto")
    links = [part.split('"')[0] for path in ("/", study_path(client)) for part in client.get(path).text.split('="/')[1:]]
    assert links and not any(word in link for link in links for word in (*IDENTITY, study.study_instance_uid, "1.2."))


@pytest.mark.parametrize("token", ["1-000000000000", "1", "0-abc", "99999999999999999999-0", "1-..%2F..%2Fetc"])
def test_addresses_cannot_be_guessed(site, study, browser, token):
    assert browser("otto").get(f"/study/{token}").status_code == 404


def test_picture(site, study, browser):
    client = browser("vera")
    answer = client.get(f"{study_path(client)}/picture/{study.id}")
    assert (answer.content, answer.headers["content-type"]) == (PNG, "image/png")
    assert client.get(f"{study_path(client)}/picture/999").status_code == 404
    assert client.get(f"{study_path(client)}/picture/{10**30}").status_code == 404


def test_the_log_says_who_looked_at_which_study_and_names_nobody(site, browser, capsys):
    site.receive()
    site.read(catalogued=True)
    client = browser("rita")
    client.post("/find", data={"token": token_in(client.get("/").text), "number": "PLANTED-ACC"})
    client.get(study_path(client))
    pseudonym = study_path(client).rpartition("-")[2]
    out = capsys.readouterr().out
    assert re.search(r"searched +account=rita found=1", out)
    assert re.search(rf"study_shown +account=rita named=True study={pseudonym}", out)
    assert not any(word in out for word in IDENTITY)


def test_configuration_is_for_operators_and_shows_no_secret(site, browser):
    assert browser("vera").get("/configuration").status_code == 403
    assert browser("rita").get("/configuration").status_code == 403
    html = browser("otto").get("/configuration").text
    assert "postgresql+psycopg://***@db/ledger" in html and "hidden-pw" not in html
    assert "quiet_s" in html and "A series is judged when nothing of it arrived" in html


@pytest.mark.parametrize(("account", "decision", "status"), [
    ("vera", "hold", 403), ("rita", "hold", 403), ("otto", "hold", 303), ("vera", "retry", 403), ("rita", "discard", 403),
    ("vera", "assess", 403), ("otto", "assess", 403), ("rita", "assess", 303), ("otto", "explode", 404),
])
def test_who_may_decide(site, study, browser, account, decision, status):
    client = browser(account)
    page = client.get(study_path(client)).text
    given = {"token": token_in(page), "revision": str(study.id), "said-L1": "accepted"}
    assert client.post(f"{study_path(client)}/{decision}", data=given).status_code == status


@pytest.mark.parametrize(("number", "status"), [
    ("PLANTED-ACC", 303), ("PLANTED-ID", 303), ("PLANTED", 200), ("*", 200), ("?" * 11, 200), ("", 200), ("a\\b", 200),
    ("a\x00b", 200), ("x" * 5000, 200),
])
def test_study_is_found_by_its_numbers(site, browser, number, status):
    site.receive()
    site.read(catalogued=True)
    client = browser("rita")
    answer = client.post("/find", data={"token": token_in(client.get("/").text), "number": number})
    assert answer.status_code == status
    if status == 303:
        assert answer.headers["location"] == study_path(client)
    else:
        assert "No studies found" in answer.text


def test_viewers_cannot_look_for_people(site, study, browser):
    client = browser("vera")
    assert "/find" not in client.get("/").text
    assert client.post("/find", data={"token": token_in(client.get("/").text), "number": "1"}).status_code == 403


def test_buttons_are_only_there_for_those_who_may_press_them(site, study, browser):
    offered = {}
    for account in ("vera", "otto", "rita"):
        client = browser(account)
        html = client.get(study_path(client)).text
        offered[account] = {d for d in ("hold", "retry", "assess") if f"/{d}\"" in html}
    assert offered == {"vera": set(), "otto": {"hold", "retry"}, "rita": {"assess"}}
