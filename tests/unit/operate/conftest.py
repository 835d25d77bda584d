"""Pages over a real ledger with one read study in it, and people who may sign in."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from operate_site import PASSWORDS, PEOPLE, Site, token_in
from starlette.testclient import TestClient

from ovcf_node.config import Settings
from ovcf_node.ledger import Ledger, Revision, migrate
from ovcf_node.operate import users
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool


@pytest.fixture(scope="session", autouse=True)
def _cheap_hashes() -> Iterator[None]:
    """Real Argon2 with the least work: these tests sign in hundreds of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        patch.setattr(users, "_NOBODY", users._HASHER.hash("nobody"))
        yield


@pytest.fixture(scope="session")
def people(_cheap_hashes) -> dict[str, users.User]:
    return {a: users.make(a, f"{a.title()}^Test", frozenset(r), PASSWORDS[a]) for a, r in PEOPLE.items()}


@pytest.fixture
def site(tmp_path: Path, people) -> Iterator[Site]:
    users.save(tmp_path / "users.toml", people)
    settings = Settings(
        node={"data": tmp_path}, web={"enabled": True, "users": tmp_path / "users.toml"},
        receive={"sources": [{"ae_title": "CT_1"}, {"ae_title": "CT_2"}], "min_free_mb": 0},
        destinations=[{"name": "pacs", "type": "folder", "path": tmp_path / "pacs"}],
        engine={"ledger_url": "postgresql+psycopg://node:hidden-pw@db/ledger"},
    )
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    ledger = Ledger(url)
    made = Site(settings, ledger, Results(tmp_path / "results"), Spool(tmp_path / "spool"), tmp_path)
    yield made
    ledger.close()


@pytest.fixture
def study(site: Site) -> Revision:
    """One study that is read and waits for delivery."""
    site.receive()
    return site.read()


@pytest.fixture
def browser(site: Site) -> Callable[..., TestClient]:
    """Return a function that gives a browser, signed in if an account is named; all share one running application."""
    app = site.app()

    def open_(account: str | None = None) -> TestClient:
        client = TestClient(app, follow_redirects=False, raise_server_exceptions=False)
        if account:
            form = client.get("/sign-in").text
            given = {"account": account, "password": PASSWORDS[account], "token": token_in(form)}
            assert client.post("/sign-in", data=given).status_code == 303
        return client

    return open_
