"""The web process: pages and DICOMweb on one TLS port, seen from outside, gone soon after SIGTERM."""

import signal
import ssl
import subprocess
import sys

import httpx
import pytest

from dicom_peers import free_port, wait_until
from ovcf_node.app import checks
from ovcf_node.config import load
from ovcf_node.operate import users
from ovcf_node.operate.users import Role
from tls_files import authority

PASSWORD = "spine reader 2026"


@pytest.fixture
def configuration(tmp_path):
    ca = authority(tmp_path)
    cert, key = ca.issue("server")
    users.save(tmp_path / "users.toml", {"anna": users.make("anna", "B^A", frozenset({Role.VIEWER}), PASSWORD)})
    path = tmp_path / "node.toml"
    path.write_text(f"""
[node]
data = "data"
[receive]
port = {free_port()}
[web]
enabled = true
host = "0.0.0.0"
port = {free_port()}
certificate = "{cert}"
key = "{key}"
users = "users.toml"
""")
    return path, ca


def test_web_process(configuration, tmp_path):
    path, ca = configuration
    settings = load(path)
    assert "web" in settings.roles and any(p.startswith("web: ") for p in checks.alive(settings))
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen([sys.executable, "-m", "ovcf_node", "run", "web", "--config", str(path)], stdout=log,
                                   stderr=log)
        try:
            wait_until(lambda: not any(p.startswith("web: ") for p in checks.alive(settings)), 60)
            trust = ssl.create_default_context(cafile=ca.certificate)
            with httpx.Client(base_url=f"https://127.0.0.1:{settings.web.port}", verify=trust) as client:
                form = client.get("/sign-in")
                assert form.headers["strict-transport-security"] and "server" not in form.headers
                token = form.text.split('name="token" value="')[1].split('"')[0]
                given = {"account": "anna", "password": PASSWORD, "token": token}
                signed = client.post("/sign-in", data=given)
                assert signed.status_code == 303 and "Secure" in signed.headers["set-cookie"]
                assert "No judge is at work" in client.get("/").text
                assert client.get("/dicom-web/studies").status_code == 401
                process.send_signal(signal.SIGTERM)  # with a connection open
                assert process.wait(25) == 0  # sooner than the supervisor kills
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        text = log.read()
        assert "signed_in" in text and PASSWORD not in text and "Traceback" not in text
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://127.0.0.1:{settings.web.port}/", verify=trust)


def test_check_names_what_keeps_people_out(configuration, tmp_path):
    path, _ = configuration
    key = (tmp_path / "server.key").read_text()
    (tmp_path / "users.toml").write_text("not toml [")
    (tmp_path / "server.key").write_text("no key")
    (tmp_path / "clients.pem").write_text("no authority")
    path.write_text(path.read_text().replace("[web]\n", f'[web]\nclient_ca = "{tmp_path / "clients.pem"}"\n'))

    def found() -> list[str]:
        return [p for p in checks.check(load(path)) if p.startswith("web")]

    assert any("web.users: cannot read the users file" in p for p in found())
    assert any("server.key" in p or "server.pem" in p for p in found()), found()
    (tmp_path / "server.key").write_text(key)  # the files are tried as the server tries them: the first bad one is named
    assert any("clients.pem" in p for p in found()), found()
