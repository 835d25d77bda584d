"""What `ovcf-node check` says of a node that could serve: every port, and who else may read its data."""

import os

import pytest
from typer.testing import CliRunner

from node_harness import BUNDLE, free_port
from ovcf_node.app import checks
from ovcf_node.app.process import rights_problem
from ovcf_node.cli import app
from ovcf_node.config import Web
from ovcf_node.network import tls
from tls_files import authority, encrypted


@pytest.fixture
def checked(tmp_path):
    def run(extra: str = "", receive: str = "") -> str:
        configuration = tmp_path / "node.toml"
        configuration.write_text(
            f'[node]\ndata = "data"\nbundle = "{BUNDLE}"\n[receive]\nhost = "127.0.0.1"\nmin_free_mb = 1\n'
            f'sources = [{{ ae_title = "CT" }}]\n{receive}\n{extra}\n'
            '[[destinations]]\nname = "pacs"\ntype = "folder"\npath = "pacs"\n'
        )
        result = CliRunner().invoke(app, ["check", "--config", str(configuration)])
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_every_open_port_is_named(tmp_path, checked):
    issuer = authority(tmp_path / "tls")
    certificate, key = issuer.issue("node")
    tls = f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\nca = "{issuer.certificate}"\n'
    plain, encrypted = free_port(), free_port()
    both = checked(tls, f"port = {plain}\ntls_port = {encrypted}")
    assert f"receives on 127.0.0.1, port {plain} (plain) and {encrypted} (TLS), as OVCF_NODE from CT" in both
    one = checked(tls, f"plain = false\ntls_port = {encrypted}")
    assert f"receives on 127.0.0.1, port {encrypted} (TLS), as" in one and "plain" not in one


@pytest.mark.parametrize(("mode", "open_"), [(0o700, False), (0o750, False), (0o755, True), (0o701, True)])
def test_who_may_enter_a_data_folder(tmp_path, mode, open_):
    tmp_path.chmod(mode)
    assert bool(rights_problem(tmp_path)) is open_
    assert not rights_problem(tmp_path / "not made yet")


def test_a_data_folder_that_others_may_enter_is_told(tmp_path, checked):
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    warning, = (line for line in checked(receive=f"port = {free_port()}").splitlines() if line.startswith("WARNING"))
    assert "mode 0755" in warning and f"chmod o= {data}" in warning
    data.chmod(0o700)
    assert "WARNING" not in checked(receive=f"port = {free_port()}")


def test_files_of_the_https_port_that_cannot_be_used_are_told_by_name(tmp_path):
    hospital = authority(tmp_path / "ca")
    certificate, key = hospital.issue("web")
    empty = tmp_path / "empty.pem"
    empty.write_bytes(hospital.certificate.read_bytes())  # certificates and no list: every client would be refused

    def problems(**changes) -> list[str]:
        files = {"certificate": certificate, "key": key, "client_ca": hospital.certificate}
        return [p for p in checks._check_web(Web(**(files | changes))) if p.startswith("web: ")]

    assert problems() == problems(client_crl=hospital.revoke()) == []
    for changes, named in (
        ({"client_crl": empty}, "empty.pem: no revocation list in it"), ({"client_ca": key}, "web.key: "),
        ({"key": encrypted(key, "secret")}, "web.pem with "),
    ):
        problem, = problems(**changes)
        assert named in problem


def test_a_file_that_keeps_its_time_is_read_again_when_it_is_another_one(tmp_path):
    list_ = tmp_path / "list.pem"
    list_.write_text("first")
    times = list_.stat().st_atime_ns, list_.stat().st_mtime_ns
    made = tls.Renewing(list_.read_text, list_)
    assert made.current() == "first"
    list_.write_text("second")
    os.utime(list_, ns=times)
    assert made.current() == "second"
