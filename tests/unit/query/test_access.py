"""Who may ask: tokens, client certificates, permissions, ends, too many failures; and nothing of it in the log."""

import io
import json
import shutil
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from starlette.applications import Starlette
from typer.testing import CliRunner

from catalogue_rows import SR, result_object, store
from ovcf_node.app.connections import server_options
from ovcf_node.cli import app as cli
from ovcf_node.config import Destination, Settings, Web
from ovcf_node.errors import Permanent
from ovcf_node.network import tls
from ovcf_node.observe import logging
from ovcf_node.query import tokens
from ovcf_node.query.dicomweb import dicomweb, rendering
from ovcf_node.query.dicomweb.access import Failures
from tls_files import authority
from web_server import serving


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokens.toml"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_a_token_nobody_gets_in(served, file):
    for web in ({"tokens": file}, {}):
        client = served.client(open=False, **web)
        for header in (None, b"Bearer", b"Bearer ovcf_wrong", b"Basic YTpi", b"Bearer \xe4\xff"):
            answer = client.get("/studies", headers={"Authorization": header} if header else {})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith('Bearer realm="DICOMweb"')


def test_a_token_works_from_when_it_is_added_until_it_is_removed(served, file):
    client = served.client(open=False, tokens=file)
    token = tokens.add(file, "ohif", tokens.PERMISSIONS, None)
    assert client.get("/studies", headers=bearer(token)).status_code == 200
    assert client.get(served.path("sr"), headers=bearer(token)).status_code == 200
    tokens.remove(file, "ohif")
    assert client.get("/studies", headers=bearer(token)).status_code == 401


def test_open_is_only_open_under_a_loopback_name(served):
    client = served.client()
    assert client.get("/studies", headers={"Host": "localhost:8080"}).status_code == 200
    assert client.get("/studies", headers={"Host": "evil.example"}).status_code == 403


def test_permissions(served, file):
    client = served.client(open=False, tokens=file)
    finder, getter = (tokens.add(file, name, [name], None) for name in ("query", "retrieve"))
    asked = {"/studies": finder, served.path("sr"): getter, served.path("sr", "study") + "/metadata": getter}
    for path, good in asked.items():
        assert client.get(path, headers=bearer(good)).status_code == 200
        answer = client.get(path, headers=bearer(getter if good == finder else finder))
        assert answer.status_code == 403
        assert "insufficient_scope" in answer.headers["www-authenticate"]


def test_an_ended_token_is_refused(served, file):
    token = tokens.add(file, "old", tokens.PERMISSIONS, datetime.now(UTC) - timedelta(seconds=1))
    assert served.client(open=False, tokens=file).get("/studies", headers=bearer(token)).status_code == 401


def test_a_file_that_became_unreadable_lets_nobody_in(served, file):
    token = tokens.add(file, "ohif", tokens.PERMISSIONS, None)
    client = served.client(open=False, tokens=file)
    assert client.get("/studies", headers=bearer(token)).status_code == 200
    file.write_text("[[tokens]\n")
    assert client.get("/studies", headers=bearer(token)).status_code == 401


def test_too_many_wrong_tokens_and_the_right_one_still_works(served, file):
    client = served.client(open=False, tokens=file)
    token = tokens.add(file, "ohif", tokens.PERMISSIONS, None)
    statuses = [client.get("/studies", headers=bearer(f"wrong-{n}")).status_code for n in range(Failures.LIMIT + 2)]
    assert statuses == [401] * Failures.LIMIT + [429, 429]
    assert client.get("/studies", headers=bearer("wrong")).headers["retry-after"]
    assert client.get("/studies", headers=bearer(token)).status_code == 200


def test_failures_are_forgotten_and_memory_is_bounded():
    failures = Failures()
    assert [bool(failures.add("a", 0.0)) for _ in range(11)] == [False] * 10 + [True]
    assert failures.add("a", Failures.WINDOW_S) == 0
    for n in range(5000):
        failures.add(f"10.0.{n // 256}.{n % 256}", 1.0)
    assert len(failures._counts) == Failures._ADDRESSES


@pytest.mark.parametrize(
    "text", ["[[tokens]]\nname = 'x'", "tokens = 1", "[[tokens]", "[[tokens]]\nname='x'\nsha256='short'"],
)
def test_a_node_does_not_start_with_a_file_it_cannot_read(served, file, text):
    file.write_text(text)
    with pytest.raises(Permanent, match="tokens"):
        dicomweb(Settings(web=Web(tokens=file)), served.ledger, served.results.root)


def test_commands(tmp_path, file):
    configuration = tmp_path / "node.toml"
    configuration.write_text('[web]\ntokens = "tokens.toml"\n')

    def run(*arguments: str):
        return CliRunner().invoke(cli, ["tokens", *arguments, "--config", str(configuration)])

    token = run("add", "ohif", "--permission", "query", "--days", "30").stdout.strip()
    assert token.startswith("ovcf_") and len(token) > 40
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert run("add", "ohif").exit_code == 1
    assert run("add", "Not A Name").exit_code == 1
    listed = run("list").stdout
    assert "ohif" in listed and "query" in listed and "until " in listed and token not in listed
    (entry,) = tokens.read(file)
    assert timedelta(days=29) < entry.expires - datetime.now(UTC) < timedelta(days=31)
    file.chmod(0o640)
    assert run("add", "for-ever", "--days", "0").exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o640
    assert run("remove", "ohif").exit_code == 0
    assert run("remove", "ohif").exit_code == 1
    assert [t.name for t in tokens.read(file)] == ["for-ever"]


def test_commands_without_a_file(tmp_path):
    configuration = tmp_path / "node.toml"
    configuration.write_text("")
    done = CliRunner().invoke(cli, ["tokens", "list", "--config", str(configuration)])
    assert done.exit_code == 2 and "web.tokens is not set" in done.stderr


def test_a_client_certificate_is_enough_and_none_is_needed_to_connect(served, tmp_path):
    ours, theirs = authority(tmp_path / "ours"), authority(tmp_path / "theirs")
    certificate, key = ours.issue("server")
    web = Web(certificate=certificate, key=key, client_ca=ours.certificate)
    application = Starlette(routes=[dicomweb(Settings(web=web), served.ledger, served.results.root)])

    def status(port: int, client: tuple | None) -> int:
        context = ssl.create_default_context(cafile=ours.certificate)
        if client:
            context.load_cert_chain(*client)
        return httpx.get(f"https://127.0.0.1:{port}/dicom-web/studies", verify=context).status_code

    with serving(application, **server_options(web)) as port:
        assert status(port, ours.issue("client")) == 200
        assert status(port, None) == 401
        with pytest.raises(httpx.TransportError):
            status(port, theirs.issue("stranger"))


def test_a_revoked_client_certificate_is_refused_from_the_next_connection_on(served, tmp_path):
    hospital = authority(tmp_path / "ca")
    certificate, key = hospital.issue("server")
    gone, stays, listed = hospital.issue("gone"), hospital.issue("stays"), tmp_path / "list.pem"
    shutil.copy(hospital.revoke(), listed)
    web = Web(certificate=certificate, key=key, client_ca=hospital.certificate, client_crl=listed)
    application = Starlette(routes=[dicomweb(Settings(web=web), served.ledger, served.results.root)])
    trust = {client: ssl.create_default_context(cafile=hospital.certificate) for client in (gone, stays, None)}
    for client in (gone, stays):
        trust[client].load_cert_chain(*client)

    def status(port: int, client: tuple | None, session: ssl.SSLSession | None = None) -> tuple:
        """Return the status, b"" for a connection that was refused, and the session."""
        with socket.create_connection(("127.0.0.1", port), 20) as plain, suppress(ssl.SSLError, ConnectionError):
            connection = trust[client].wrap_socket(plain, server_hostname="localhost", session=session)
            connection.sendall(b"GET /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(100)[9:12], connection.session
        return b"", None

    with serving(application, **server_options(web)) as port:
        answered, session = status(port, gone)
        assert answered == b"200"
        shutil.copy(hospital.revoke(gone[0]), listed)
        assert status(port, gone, session)[0] == b""  # a session of before opens no door either
        assert status(port, gone)[0] == b""
        assert status(port, stays)[0] == b"200"
        assert status(port, None)[0] == b"401"
        listed.write_text("half a list")  # as while it is being copied: the list of before goes on
        assert status(port, gone)[0] == b""
        assert status(port, stays)[0] == b"200"


def test_a_renewed_certificate_of_the_port_is_shown_without_a_restart(served, tmp_path):
    hospital = authority(tmp_path / "ca")
    files = [tmp_path / "web.pem", tmp_path / "web.key"]
    web = Web(certificate=files[0], key=files[1])
    application = Starlette(routes=[dicomweb(Settings(web=web), served.ledger, served.results.root)])

    def shown(port: int) -> frozenset[str]:
        trust = ssl.create_default_context(cafile=hospital.certificate)
        with socket.create_connection(("127.0.0.1", port), 20) as plain, trust.wrap_socket(
            plain, server_hostname="localhost"
        ) as connection:
            return tls.names(connection.getpeercert())

    with pytest.raises(Permanent, match="tls"):
        server_options(web)
    for source, target in zip(hospital.issue("first"), files, strict=True):
        shutil.copy(source, target)
    with serving(application, **server_options(web)) as port:
        assert "first" in shown(port)
        for source, target in zip(hospital.issue("second"), files, strict=True):
            shutil.copy(source, target)
        assert "second" in shown(port)


def test_other_origins_only_where_configured(served):
    preflight = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET",
                 "Access-Control-Request-Headers": "authorization"}
    assert "access-control-allow-origin" not in served.client().options("/studies", headers=preflight).headers
    client = served.client(origins=("https://viewer.example",), open=False)
    answer = client.options("/studies", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://viewer.example"
    stranger = client.get("/studies", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize("origins", [["*"], ["https://a/path"], ["viewer"]])
def test_origins_are_exact(origins):
    with pytest.raises(ValueError, match="origins"):
        Web(origins=origins)


def test_the_log_names_the_route_and_nobody(served, file):
    stream = io.StringIO()
    logging.configure("DEBUG", "json", stream)
    token = tokens.add(file, "ohif", tokens.PERMISSIONS, None)
    client = served.client(open=False, tokens=file)
    client.get("/studies?PatientName=Yamada*&PatientID=PLANTED-ID", headers=bearer(token))
    client.get(served.path("sr", "study") + "/series?AccessionNumber=PLANTED-ACC", headers=bearer(token))
    client.get(served.path("sr"), headers=bearer(token))
    client.get("/studies?StudyDate=Yamada", headers=bearer("ovcf_wrong"))
    text = stream.getvalue()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["route"] for line in lines if line["event"] == "dicomweb"] == [
        "/studies", "/studies/{study}/series", "/studies/{study}/series/{series}/instances/{instance}", "/studies",
    ]
    assert [line["caller"] for line in lines if line["event"] == "dicomweb"] == ["ohif"] * 3 + [None]
    assert {line["address"] for line in lines if line["event"] == "dicomweb"} == {"127.0.0.1"}  # who guesses is found
    for secret in ("Yamada", "PLANTED", token, "wrong", str(served.objects["sr"].StudyInstanceUID)):
        assert secret not in text


def test_a_defect_and_an_outage_say_nothing(served, monkeypatch):
    stream = io.StringIO()
    logging.configure("DEBUG", "json", stream)
    client = served.client()

    def defect(*_):
        raise ValueError("Yamada^Tarou")

    monkeypatch.setattr(rendering.pixels, "picture", defect)
    answer = client.get(served.path("summary") + "/rendered")
    assert (answer.status_code, answer.json()) == (500, {"status": 500, "title": "failed"})
    with served.ledger._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE catalogue")
    answer = client.get("/studies?PatientName=Yamada")
    assert (answer.status_code, answer.json()) == (503, {"status": 503, "title": "not now"})
    assert "Yamada" not in stream.getvalue() and "ValueError" in stream.getvalue()


def test_whose_dialect_is_served(served):
    folder = {"type": "folder", "path": "x"}
    destinations = Destination(name="a", **folder), Destination(name="b", sr_class="88.33", **folder)
    other = result_object("other", SR)
    older = result_object("other", SR, SOPInstanceUID="1.2.3.4")
    store(served.ledger, [other, older], served.results, dialects={"1.2.3.4": "88.33/air"})
    shown = {"StudyInstanceUID": str(other.StudyInstanceUID)}
    for chosen, uid in (("a", str(other.SOPInstanceUID)), ("b", "1.2.3.4"), (None, str(other.SOPInstanceUID))):
        (found,) = served.client(*destinations, dialect_of=chosen).get("/instances", params=shown).json()
        assert found["00080018"]["Value"] == [uid]
    with pytest.raises(ValueError, match=r"web\.dialect_of"):
        Settings(web=Web(dialect_of="c"))
