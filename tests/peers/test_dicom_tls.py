"""DICOM over TLS with DCMTK and OpenSSL on the other side: who gets in, who does not, and nobody keeps others out."""

import shutil
import socket
import ssl
import subprocess
import time
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from dicom_peers import instance, program, receiving, write
from node_harness import free_port
from ovcf_node.config import Source, Tls
from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import admission, associate, tls
from ovcf_node.network.associate import Remote
from tls_files import authority, encrypted

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def issued(hospital, stranger):
    """Certificate and key of the node, two scanners, and a scanner whose certificate somebody else signed."""
    made = {name: hospital.issue(name) for name in ("node", "ct1", "ct2")}
    return made | {"foreign": stranger.issue("ct1")}


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(tls, "_installed", None)


@contextmanager
def node(folder: Path, hospital, issued, **settings):
    """Run a receiver on a port with TLS only."""
    certificate, key = issued["node"]
    files = {"certificate": certificate, "key": key, "ca": hospital.certificate} | settings.pop("files", {})
    tls.install(Tls(**files))
    port = free_port()
    with receiving(folder, plain=False, tls_port=port, **settings) as (receiver, spool):
        yield receiver, port, spool


def echoscu(port: int, issued, hospital, who: str | None = "ct1", calling: str = "SCANNER") -> subprocess.CompletedProcess:
    own = [] if who is None else ["+tls", issued[who][1], issued[who][0]]
    anonymous = ["+tla"] if who is None else []
    return subprocess.run(
        [program("echoscu"), "-v", *map(str, own), *anonymous, "+cf", str(hospital.certificate), "-aet", calling, "-aec",
         "OVCF_NODE", "-to", "20", "-ta", "20", "127.0.0.1", str(port)], capture_output=True, text=True, timeout=60,
    )


def test_storescu_stores_over_tls(tmp_path, hospital, issued):
    file = write(tmp_path / "ct", instance(1))
    with node(tmp_path, hospital, issued) as (_, port, spool):
        done = subprocess.run(
            [program("storescu"), "+tls", issued["ct1"][1], issued["ct1"][0], "+cf", hospital.certificate, "-aet", "SCANNER",
             "-aec", "OVCF_NODE", "127.0.0.1", str(port), file], capture_output=True, text=True, timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert len(list(spool.root.rglob("*.dcm"))) == 1


@pytest.mark.parametrize("who", [None, "foreign"])
def test_who_has_no_certificate_of_the_hospital_does_not_get_in(tmp_path, hospital, issued, who):
    with node(tmp_path, hospital, issued) as (_, port, _):
        assert echoscu(port, issued, hospital, who).returncode != 0
        assert echoscu(port, issued, hospital).returncode == 0


def test_a_peer_without_tls_does_not_get_in(tmp_path, hospital, issued):
    with node(tmp_path, hospital, issued) as (_, port, _), pytest.raises(Transient):
        associate.echo(Remote("127.0.0.1", port, "OVCF_NODE", "SCANNER", timeout_s=5))


@pytest.mark.parametrize(("version", "ciphers"), [
    (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"), (ssl.TLSVersion.TLSv1_2, "AES256-GCM-SHA384"),
    (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES256-SHA:ECDHE-ECDSA-AES256-SHA"),
])
def test_weak_protocols_and_ciphers_are_refused(tmp_path, hospital, issued, version, ciphers):
    warnings.simplefilter("ignore", DeprecationWarning)  # weak on purpose
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
    context.set_ciphers(ciphers)
    context.load_verify_locations(hospital.certificate)
    context.load_cert_chain(*issued["ct1"])
    with (node(tmp_path, hospital, issued) as (_, port, _), socket.create_connection(("127.0.0.1", port), 20) as plain,
          pytest.raises((ssl.SSLError, ConnectionError))):
        context.wrap_socket(plain, server_hostname="localhost")


def test_title_address_and_certificate_are_bound_together(tmp_path, hospital, issued):
    sources = (Source(ae_title="CT1", certificate_name="ct1"), Source(ae_title="CT2", certificate_name="ct2"))
    with node(tmp_path, hospital, issued, sources=sources) as (_, port, _):
        assert echoscu(port, issued, hospital, "ct1", "CT1").returncode == 0
        assert echoscu(port, issued, hospital, "ct2", "CT2").returncode == 0
        refused = echoscu(port, issued, hospital, "ct1", "CT2")
        assert refused.returncode != 0 and "Calling AE Title Not Recognized" in refused.stderr


def test_a_revoked_certificate_is_refused_from_the_next_connection_on(tmp_path, issued, hospital):
    listed = tmp_path / "list.pem"
    shutil.copy(hospital.revoke(), listed)
    gone = hospital.issue("gone")
    with node(tmp_path, hospital, issued, files={"crl": listed}) as (_, port, _):
        assert echoscu(port, {"gone": gone}, hospital, "gone").returncode == 0
        shutil.copy(hospital.revoke(gone[0]), listed)
        assert echoscu(port, {"gone": gone}, hospital, "gone").returncode != 0
        assert echoscu(port, issued, hospital).returncode == 0


def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path, issued, hospital):
    files = {"certificate": tmp_path / "node.pem", "key": tmp_path / "node.key"}
    shutil.copy(issued["node"][0], files["certificate"])
    shutil.copy(issued["node"][1], files["key"])
    renewed = hospital.issue("node-renewed")
    with node(tmp_path, hospital, issued, files=files) as (_, port, _):
        assert shown(port, hospital, issued) >= {"node"}
        shutil.copy(renewed[0], files["certificate"])  # half a renewal: the key does not belong to it
        assert shown(port, hospital, issued) >= {"node"}
        shutil.copy(renewed[1], files["key"])
        assert shown(port, hospital, issued) >= {"node-renewed"}


def shown(port: int, hospital, issued) -> frozenset[str]:
    """Return the names in the certificate that a port shows."""
    context = ssl.create_default_context(cafile=str(hospital.certificate))
    context.load_cert_chain(*issued["ct1"])
    with socket.create_connection(("127.0.0.1", port), 20) as plain, context.wrap_socket(
        plain, server_hostname="localhost"
    ) as wrapped:
        return tls.names(wrapped.getpeercert())


def test_an_encrypted_key_needs_its_password(tmp_path, hospital, issued):
    locked = encrypted(issued["node"][1], "correct horse")
    right = {"key": locked, "key_password": SecretStr("correct horse")}
    with node(tmp_path, hospital, issued, files=right) as (_, port, _):
        assert echoscu(port, issued, hospital).returncode == 0
    for wrong in ({"key": locked}, {"key": locked, "key_password": SecretStr("wrong")}):
        with pytest.raises(Permanent, match="tls"), node(tmp_path / "other", hospital, issued, files=wrong):
            pass


def test_fifty_silent_peers_keep_nobody_out(tmp_path, hospital, issued):
    certificate, key = issued["node"]
    tls.install(Tls(certificate=certificate, key=key, ca=hospital.certificate))
    encrypted_port = free_port()
    with receiving(tmp_path, tls_port=encrypted_port, max_associations=4) as (receiver, _), ExitStack() as silent:
        plain = receiver.port
        for number in range(50):
            silent.enter_context(socket.create_connection(("127.0.0.1", (plain, encrypted_port)[number % 2]), 20))
        begin = time.monotonic()
        assert echoscu(encrypted_port, issued, hospital).returncode == 0
        assert associate.echo(Remote("127.0.0.1", plain, "OVCF_NODE", "SCANNER", timeout_s=20)) < admission.PATIENCE_S
        assert time.monotonic() - begin < admission.PATIENCE_S


def test_a_handshake_is_not_begun_again(tmp_path, hospital, issued):
    """TLS 1.2 lets a peer ask for another handshake, which costs it nothing and us much."""
    with node(tmp_path, hospital, issued) as (_, port, _):
        done = subprocess.run(
            [program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-cert", issued["ct1"][0], "-key",
             issued["ct1"][1], "-CAfile", hospital.certificate], input=b"R\n", capture_output=True, timeout=60,
        )
        assert b"RENEGOTIATING" in done.stdout + done.stderr
        assert done.returncode != 0 and b"no renegotiation" in done.stderr
        assert echoscu(port, issued, hospital).returncode == 0


def test_a_peer_that_shakes_hands_a_byte_at_a_time_is_left(tmp_path, hospital, issued, monkeypatch):
    monkeypatch.setattr(admission, "PATIENCE_S", 1.0)
    with node(tmp_path, hospital, issued) as (_, port, _), socket.create_connection(("127.0.0.1", port), 20) as slow:
        deadline = time.monotonic() + 30
        with pytest.raises(ConnectionError):
            while time.monotonic() < deadline:
                slow.sendall(b"\x16")
                time.sleep(0.1)


@contextmanager
def storescp(folder: Path, issued, hospital):
    """Run DCMTK's storescp over TLS; yields its port."""
    port = free_port()
    server = subprocess.Popen(
        [program("storescp"), "+tls", issued["ct1"][1], issued["ct1"][0], "+cf", hospital.certificate, "-od", folder,
         str(port)],
    )
    try:
        _wait_for(port)
        yield port
    finally:
        server.terminate()
        server.wait(20)


def test_the_node_sends_over_tls_and_checks_the_name(tmp_path, hospital, issued):
    certificate, key = issued["node"]
    tls.install(Tls(certificate=certificate, key=key, ca=hospital.certificate))
    with storescp(tmp_path, issued, hospital) as port:
        pacs = Remote("localhost", port, "STORESCP", "OVCF_NODE", timeout_s=10, encrypted=True)
        assert associate.echo(pacs) < 10
        with pytest.raises(Transient, match="certificate is refused"):
            associate.echo(replace(pacs, expected_name="pacs.example"))


def test_the_node_refuses_an_acceptor_of_another_authority(tmp_path, hospital, stranger, issued):
    certificate, key = issued["node"]
    tls.install(Tls(certificate=certificate, key=key, ca=stranger.certificate))
    with storescp(tmp_path, issued, hospital) as port, pytest.raises(Transient, match="certificate is refused"):
        associate.echo(Remote("localhost", port, "STORESCP", "OVCF_NODE", timeout_s=10, encrypted=True))


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("storescp does not listen")
