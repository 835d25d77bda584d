"""Target: requests to the running web process of a node, a signed-in person beside.

Addresses, query strings, cookies, form tokens, forms and whole requests changed; lengths that lie, chunks, headers and
bodies of any size; requests that never end. No answer is an error of the server's, and none has a study's identity that the
one who asks may not see.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch
from urllib.parse import urlencode

import httpx
from argon2 import PasswordHasher

from catalogue_rows import SC, SEG, SR, result_object, store
from dicom_peers import uid
from fuzz.mutating import Mutator
from fuzz.siege import besiege, length_of_a_beginning, speak, trickle
from fuzz.tallies import Tally, fast_folder
from ovcf_node.app.connections import server_options
from ovcf_node.app.web import application
from ovcf_node.config import Settings
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.operate import users
from ovcf_node.operate.users import Role
from ovcf_node.storage.results import Results
from web_server import serving

_PASSWORD = "spine reader 2026"
_SECRET = b"PLANTED"
_STUDIES = tuple(f"study {number}" for number in range(4))
_CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
_FIELDS = (b"Cookie: ", b"Accept: ", b"X-Forwarded-For: ", b"Sec-Fetch-Site: ", b"Range: bytes=", b"Host: ")
_WORKERS = 40  # that the server keeps, each with its connection to the ledger
_NOT_OURS = (b"501", b"505")  # methods and versions of HTTP that nobody must know; /ready says 503 here, and is not asked


@dataclass(frozen=True)
class Asked:
    """A request before it becomes bytes; `form` may be None."""

    method: str
    path: bytes
    cookie: bytes = b""
    form: bytes | None = None

    def encoded(self, *headers: bytes, length: bytes | None = None) -> bytes:
        """Return it as HTTP/1.1, with a right Content-Length unless there is another one."""
        lines = [self.method.encode() + b" " + self.path + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *headers]
        if self.cookie:
            lines.append(b"Cookie: " + self.cookie)
        if self.form is not None:
            lines.append(b"Content-Type: application/x-www-form-urlencoded")
            lines.append(b"Content-Length: " + (str(len(self.form)).encode() if length is None else length))
        return b"\r\n".join(lines) + b"\r\n\r\n" + (self.form or b"")


def run(seed: int, going: Callable[[int], bool]) -> Tally:
    """Ask while `going(tried)`."""
    tally = Tally("pages")
    with TemporaryDirectory(dir=fast_folder()) as folder, served(Path(folder)) as port:
        session, requests = signed_in(port)
        whole = [request.encoded() for request in requests]

        def talk(changes: Mutator) -> tuple[str, bytes]:
            data, end = input_of(changes, requests)
            ended, answer = speak(port, data, end=end)
            return judged(tally, ended, answer, data, session.rpartition(b"=")[2]), data

        def linger(changes: Mutator) -> tuple[str, bytes]:
            begin = changes.random.choice([one for one in whole if one.startswith(b"POST")])
            return trickle(port, begin, length_of_a_beginning(changes.random, begin))

        def honest() -> None:
            for path in ("/", "/health"):
                answer = httpx.get(f"http://127.0.0.1:{port}{path}", headers={"Cookie": session.decode()}, timeout=30)
                if answer.status_code != 200:
                    raise AssertionError(f"{path} was answered {answer.status_code}")

        besiege(tally, seed, whole, going, talk=talk, linger=linger, honest=honest, spare=_WORKERS)
    return tally


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """Serve everything that the web process does, over some results; yields the port."""
    url, people = f"sqlite:///{folder / 'ledger.sqlite'}", folder / "users.toml"
    migrate(url)
    with patch.object(users, "_HASHER", _CHEAP), patch.object(users, "_NOBODY", _CHEAP.hash("nobody")):
        roles = frozenset({Role.OPERATOR, Role.READER})
        users.save(people, {"otto": users.make("otto", "Otto^Test", roles, _PASSWORD)})
        settings = Settings(
            node={"data": folder}, web={"enabled": True, "users": people}, engine={"ledger_url": url},
            destinations=[{"name": "pacs", "type": "folder", "path": folder / "pacs"}],
        )
        ledger, results = Ledger(url), Results(folder / "results")
        for name in _STUDIES:
            named = {"PatientName": f"{_SECRET.decode()}^{name}", "AccessionNumber": name}
            store(ledger, [result_object(name, sop_class, **named) for sop_class in (SEG, SC, SR)], results)
        try:
            with serving(application(settings, ledger), **server_options(settings.web)) as port:
                yield port
        finally:
            ledger.close()


def signed_in(port: int) -> tuple[bytes, list[Asked]]:
    """Sign in; returns the session's cookie, and what that person may ask with it."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        form = {"account": "otto", "password": _PASSWORD, "token": _token(client.get("/sign-in").text)}
        before = _cookie(client)
        assert client.post("/sign-in", data=form).status_code == 303
        status = client.get("/").text
        token, session = _token(status), _cookie(client)
    study = status.split('href="/study/')[1].split('"')[0]
    asked = [Asked("GET", path.encode(), session) for path in (
        "/", "/live", "/configuration", "/sign-in?next=/study/1-0123456789ab", f"/study/{study}",
        f"/study/{study}?done=hold", f"/study/{study}/picture/1", "/static/style.css", "/health", "/metrics",
        f"/dicom-web/studies/{uid(_STUDIES[0])}/metadata", "/dicom-web/studies?PatientName=*&limit=2",
    )]
    for path, given in (
        ("/find", {"number": "study 1"}), (f"/study/{study}/retry", {"revision": "1"}), (f"/study/{study}/hold", {}),
        (f"/study/{study}/release", {"stands": "newest"}), ("/destination/pacs/hold", {}), ("/destination/pacs/release", {}),
        (f"/study/{study}/assess", {"revision": "1", "said-L1": "confirmed", "said-L2": "corrected:L3"}),
    ):
        asked.append(Asked("POST", path.encode(), session, urlencode({"token": token} | given).encode()))
    asked.append(Asked("POST", b"/sign-in?next=/configuration", before, urlencode(form).encode()))
    return session, asked


def input_of(changes: Mutator, requests: list[Asked]) -> tuple[bytes, str]:
    """Return what a hostile browser or program sends, and how it leaves."""
    chance = changes.random
    one = chance.choice(requests)

    def changed(part: bytes) -> bytes:
        return Mutator(chance.getrandbits(32), (part or b"x",)).one().replace(b"\n", b"").replace(b"\r", b"")

    kind = chance.randrange(8)
    if kind == 0:
        return replace(one, path=b"/" + changed(one.path[1:])).encoded(), "wait"
    if kind == 1:
        return replace(one, cookie=changed(one.cookie)).encoded(), "wait"
    if kind == 2 and one.form is not None:  # a field, the token among them, or all of it
        fields = one.form.split(b"&")
        at = chance.randrange(len(fields))
        fields[at] = changed(fields[at])
        return replace(one, form=b"&".join(fields)).encoded(), "wait"
    if kind == 3:
        length = chance.choice((b"-1", b"0", b"1", b"65536", b"65537", b"9" * 30, b"1e3", b"\xb2", b"", b"4, 4", b"0x10"))
        return replace(one, form=one.form or b"a=b").encoded(length=length), chance.choice(("close", "half"))
    if kind == 4:
        body = changed(b"5\r\nabcde\r\n0\r\n\r\n").replace(b"abcde", b"token")
        return replace(one, form=None).encoded(b"Transfer-Encoding: chunked") + body, chance.choice(("close", "half"))
    if kind == 5:
        field = chance.choice(_FIELDS) + chance.randbytes(4).hex().encode() * chance.choice((1, 20, 9000))
        return one.encoded(*[field] * chance.choice((1, 90))), "half"
    if kind == 6:
        size = chance.choice((100, 65_000, 65_536, 70_000, 400_000))
        return replace(one, form=(one.form or b"a=b") + b"&pad=" + b"x" * size).encoded(), "half"
    return changes.one(), chance.choice(("close", "reset", "half"))


def judged(tally: Tally, ended: str, answer: bytes, data: bytes, session: bytes) -> str:
    """Look at an answer; returns the outcome. `session`: the key that opens names."""
    status = answer[9:12] if answer.startswith(b"HTTP/1.") else b""
    if status.startswith(b"5") and status not in _NOT_OURS:
        tally.found(f"an error of the server's: {status.decode()}", data)
    if _SECRET in answer and session not in data:
        tally.found("identity for somebody who is not signed in", data)
    return status.decode() or ended


def _token(page: str) -> str:
    return page.split('name="token" value="')[1].split('"')[0]


def _cookie(client: httpx.Client) -> bytes:
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items()).encode()
