"""Signing in: no way around it, no guessing, sessions that end, forms that must be ours, headers on everything."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from operate_site import PASSWORDS, study_path, token_in
from starlette.testclient import TestClient

from ovcf_node.config import Settings
from ovcf_node.errors import Permanent, Transient
from ovcf_node.operate import users
from ovcf_node.operate.users import Role


def attempt(client, account, password):
    form = client.get("/sign-in").text
    return client.post("/sign-in", data={"account": account, "password": password, "token": token_in(form)})


def test_signing_in_and_out(browser):
    client = browser()
    assert attempt(client, "otto", PASSWORDS["otto"]).headers["location"] == "/"
    page = client.get("/")
    assert page.status_code == 200 and "Otto" in page.text
    assert client.post("/sign-out", data={"token": token_in(page.text)}).headers["location"] == "/sign-in"
    assert client.get("/").status_code == 303


def test_session_cookie_is_out_of_reach(browser):
    client = browser()
    cookie = attempt(client, "otto", PASSWORDS["otto"]).headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/")) and "secure" not in cookie
    client = TestClient(client.app, base_url="https://node", follow_redirects=False)
    answer = attempt(client, "otto", PASSWORDS["otto"])
    assert answer.headers["set-cookie"].startswith("__Host-ovcf-session=") and "Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_old_session_is_worth_nothing_after_signing_in(browser):
    client = browser("vera")
    before = client.cookies["ovcf-session"]
    attempt(client, "otto", PASSWORDS["otto"])
    other = browser()
    other.cookies.set("ovcf-session", before)
    assert other.get("/").status_code == 303


@pytest.mark.parametrize(("account", "password"), [
    ("otto", "wrong password"), ("nobody", PASSWORDS["otto"]), ("", ""), ("OTTO", PASSWORDS["otto"]), ("demo", ""),
])
def test_failures_all_sound_the_same(browser, account, password):
    client = browser()
    answer = attempt(client, account, password)
    assert answer.status_code == 403 and "Account and password do not match." in answer.text
    assert 'id="problem"' in answer.text and 'aria-describedby="problem"' in answer.text  # read with the field in focus
    assert client.get("/").status_code == 303


@pytest.mark.parametrize("account", ["otto", "nobody"])
def test_guessing_is_stopped_and_the_wait_ends(site, browser, account):
    client = browser()
    answers = [attempt(client, account, f"guess {n}").status_code for n in range(7)]
    assert answers == [403, 403, 403, 403, 429, 429, 429]
    assert attempt(client, "otto", PASSWORDS["otto"]).status_code == (429 if account == "otto" else 303)
    site.at += 31
    assert attempt(client, "otto", PASSWORDS["otto"]).status_code == 303


def test_guesses_sent_at_once_are_no_more_than_one_after_the_other(browser, monkeypatch):
    tried, meet = [], threading.Barrier(8)

    def slow(user, password):
        tried.append(password)
        time.sleep(0.1)
        return False

    monkeypatch.setattr("ovcf_node.operate.access.password_is", slow)
    client = browser()
    token = token_in(client.get("/sign-in").text)

    def guess(n):
        meet.wait()
        given = {"account": "otto", "password": f"guess {n}", "token": token}
        return TestClient(client.app, cookies=client.cookies).post("/sign-in", data=given).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(guess, range(8)))
    assert len(tried) == 5 and answers.count(429) >= 3


def test_guessing_over_many_accounts_is_stopped_too(site, browser, monkeypatch):
    monkeypatch.setattr("ovcf_node.operate.access.password_is", lambda user, password: False)  # argon2 takes its time
    client = browser()
    answers = [attempt(client, f"account{n}", "guess").status_code for n in range(22)]
    assert answers[18:] == [403, 429, 429, 429]


def test_failed_sign_in_is_logged_without_what_may_be_a_password(browser, capsys):
    attempt(browser(), "my password by mistake", "x")
    attempt(browser(), "otto", "wrong")
    out = capsys.readouterr().out
    assert out.count("sign_in_failed") == 2 and "mistake" not in out and "account=otto" in out


def test_idle_session_ends_and_refreshing_is_not_activity(site, browser):
    client = browser("otto")
    for _ in range(4):
        site.at += 10 * 60
        client.get("/live")
    assert client.get("/live").status_code == 401
    client = browser("otto")
    for _ in range(4):
        site.at += 20 * 60
        assert client.get("/").status_code == 200
    for _ in range(40):
        site.at += 20 * 60
        client.get("/")
    assert client.get("/").status_code == 303  # twelve hours are enough


def test_new_password_and_removal_end_sessions_at_once(site, browser, people):
    client, other = browser("otto"), browser("vera")
    changed = users.make("otto", "Otto^Test", frozenset({Role.OPERATOR}), "another password 9")
    users.save(site.folder / "users.toml", people | {"otto": changed})
    assert (client.get("/").status_code, other.get("/").status_code) == (303, 200)
    users.save(site.folder / "users.toml", {"otto": changed})
    assert other.get("/").status_code == 303


def test_role_taken_away_counts_at_once(site, study, browser, people):
    client = browser("otto")
    less = users.User("otto", "Otto^Test", frozenset({Role.VIEWER}), people["otto"].password)
    users.save(site.folder / "users.toml", people | {"otto": less})
    assert client.get("/configuration").status_code == 403 and "PLANTED-ID" not in client.get("/").text


@pytest.mark.parametrize("token", ["", "0" * 64, "of another session"])
def test_form_that_is_not_ours_does_nothing(site, study, browser, token):
    client = browser("otto")
    if token == "of another session":
        token = token_in(browser("otto").get("/").text)
    assert client.post(f"{study_path(client)}/hold", data={"token": token}).status_code == 403
    assert client.post("/sign-out", data={"token": token}).status_code == 403
    assert site.ledger.holds.all() == [] and client.get("/").status_code == 200


def test_sign_in_form_that_is_not_ours_does_nothing(browser):
    client = browser()
    given = {"account": "otto", "password": PASSWORDS["otto"], "token": "0" * 64}
    assert client.post("/sign-in", data=given).status_code == 403
    client.get("/sign-in")
    assert client.post("/sign-in", data=given).status_code == 403 and client.get("/").status_code == 303


def test_posts_from_other_sites_and_large_ones_are_refused(browser):
    client = browser("otto")
    token = token_in(client.get("/").text)
    answer = client.post("/sign-out", data={"token": token}, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert client.post("/sign-in", data={"account": "a" * 70_000}).status_code == 413
    assert client.post("/sign-in", content=(part for part in (b"account=", b"a"))).status_code == 411


@pytest.mark.parametrize("path", ["/", "/sign-in", "/live", "/static/live.js", "/static/pages.css", "/nowhere"])
def test_headers(browser, path):
    for client in (browser(), browser("otto")):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert headers["cache-control"] == "no-store" and "strict-transport-security" not in headers


def test_page_that_fails_says_so_protected_and_without_details(site, study, browser, monkeypatch):
    client = browser("otto")
    path = study_path(client)

    def fail(*_):
        raise ZeroDivisionError("PLANTED-ID")

    monkeypatch.setattr("ovcf_node.operate.study.Studies.view", fail)
    answer = client.get(path)
    assert answer.status_code == 500 and "default-src 'none'" in answer.headers["content-security-policy"]
    assert "This page failed" in answer.text and "ZeroDivision" not in answer.text
    monkeypatch.setattr("ovcf_node.operate.study.Studies.view", lambda *_: (_ for _ in ()).throw(Transient("ledger_gone")))
    answer = client.get(path)
    assert answer.status_code == 503 and "ledger_gone" in answer.text


def test_pages_hold_nothing_that_the_policy_would_block(site, study, browser):
    client = browser("otto")
    for path in ("/", "/sign-in", "/configuration", study_path(client)):
        html = client.get(path).text
        assert " style=" not in html and "onclick" not in html and "<style" not in html
        assert html.count("<script") == html.count('<script src="/static/')
        assert re.findall(r'(?:src|href|action)="(?!/(?!/)|#)', html) == []


@pytest.mark.parametrize("target", [
    "https://evil.example/", "//evil.example", "/\\evil.example", "/live", "javascript:x", "/study/Doe-1940",
])
def test_sign_in_leads_nowhere_else_and_repeats_nothing(browser, target):
    client = browser()
    form = client.get("/sign-in", params={"next": target}).text
    assert target not in form
    given = {"account": "otto", "password": PASSWORDS["otto"], "token": token_in(form)}
    assert client.post("/sign-in", params={"next": target}, data=given).headers["location"] == "/"


@pytest.mark.parametrize("form_of", ["", "/assess"])  # what is sent after the session ended leads back to the study too
def test_sign_in_leads_back_to_the_study(site, study, browser, form_of):
    path = study_path(browser("otto"))
    client = browser()
    asked = (client.post(path + form_of, data={}) if form_of else client.get(path)).headers["location"]
    form = client.get(asked).text
    given = {"account": "otto", "password": PASSWORDS["otto"], "token": token_in(form)}
    assert client.post(asked, data=given).headers["location"] == path


def test_open_node_needs_no_sign_in_but_a_local_name(site, study):
    site.settings = Settings(**(site.settings.model_dump() | {"web": {"enabled": True, "open": True}}))
    client = TestClient(site.app(), base_url="http://127.0.0.1:8080", follow_redirects=False)
    html = client.get("/").text
    assert "PLANTED-ID" in html and "demo only" in html
    page = client.get(study_path(client)).text
    assert client.post(f"{study_path(client)}/hold", data={"token": token_in(page)}).status_code == 303
    assert TestClient(site.app(), base_url="http://evil.example").get("/").status_code == 421


@pytest.mark.parametrize(("account", "name", "password"), [
    ("", "A^B", "long enough 123"), ("An na", "A^B", "long enough 123"), ("anna", "A\\B", "long enough 123"),
    ("anna", "A^B", "short"), ("anna", "^", "long enough 123"), ("anna", "A^B", "aaaaaaaaaaaa"),
    ("a\nb", "A^B", "long enough 12"),
])
def test_users_that_cannot_be(account, name, password):
    with pytest.raises(Permanent):
        users.make(account, name, frozenset({Role.VIEWER}), password)


def test_users_file_keeps_what_it_was_given_and_is_private(tmp_path):
    made = users.make("anna", 'Müller "x"^Änne', frozenset({Role.READER, Role.OPERATOR}), "long enough 123")
    users.save(tmp_path / "new" / "users.toml", {"anna": made})
    assert users.load(tmp_path / "new" / "users.toml") == {"anna": made}
    assert (tmp_path / "new" / "users.toml").stat().st_mode & 0o777 == 0o600
    assert "long enough" not in (tmp_path / "new" / "users.toml").read_text()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["users.toml"]


@pytest.mark.parametrize("text", [
    "not toml [", "[users.a]\nname = 'x'", "[users.a]\nname='x'\nroles=['king']\npassword='x'",
])
def test_users_file_that_cannot_be_used_is_said_to_be(tmp_path, text):
    (tmp_path / "users.toml").write_text(text)
    with pytest.raises(Permanent):
        users.load(tmp_path / "users.toml")
