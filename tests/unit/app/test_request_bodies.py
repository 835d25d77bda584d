"""How much anybody may send to the web process: forms are small and say how long they are; nothing else takes a body."""

import pytest
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from ovcf_node.app.web import application
from ovcf_node.config import Settings
from ovcf_node.ledger import Ledger, migrate

LARGE = str(2**33)
POSTS = ("/sign-in", "/sign-out", "/find", "/configuration", "/destination/pacs/hold", "/study/1-0123456789ab/retry",
         "/study/1-0123456789ab/assess", "/", "/static/live.js", "/nowhere")
OTHERS = ("/dicom-web/studies", "/dicom-web/studies/1.2.3", "/dicom-web/nowhere", "/health", "/ready", "/metrics")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bodies")
    migrate(f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    yield application(Settings(node={"data": folder}, web={"enabled": True}), ledger)
    ledger.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", POSTS)
def test_the_pages_refuse_a_large_body_before_they_read_it(app, method, path):
    client = TestClient(app, follow_redirects=False)
    assert client.request(method, path, headers={"content-length": LARGE}, content=b"a").status_code == 413
    assert client.request(method, path, headers={"content-length": "65537"}, content=b"a" * 65537).status_code == 413
    assert client.request(method, path, content=(part for part in (b"a", b"b"))).status_code == 411  # without a length


@pytest.mark.parametrize("path", OTHERS)
def test_nothing_else_takes_one(app, path):
    answer = TestClient(app).post(path, headers={"content-length": LARGE}, content=b"a")
    assert answer.status_code in (404, 405, 413) and len(answer.content) < 200


def test_there_is_no_other_way_in(app):
    """Who adds a route that takes bodies outside the pages' protection must bound them."""
    def methods(routes) -> set[str]:
        found = set()
        for route in routes:
            if isinstance(route, Route):
                found |= route.methods
            elif isinstance(route, Mount) and route.path:  # the one at / is the pages, behind their protection
                found |= methods(route.routes)
        return found

    assert methods(app.routes) == {"GET", "HEAD"}


@pytest.mark.parametrize("fields", [1001, 5000])
def test_a_form_of_very_many_fields_is_refused(app, fields):
    body = "&".join("a=" for _ in range(fields)).encode()
    client = TestClient(app, raise_server_exceptions=False)
    answer = client.post("/sign-in", content=body, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code in (400, 403)
