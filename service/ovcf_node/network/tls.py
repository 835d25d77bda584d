"""TLS contexts of DICOM associations: the BCP 195 profile of PS3.15 B.12 (RFC 8996, RFC 9325), mutual certificates.

TLS 1.2 and 1.3 with forward secrecy and authenticated encryption only. A process installs its certificates once; a context
is made anew when one of the files has changed, so that a renewed certificate or revocation list needs no restart.
"""

import ssl
import threading
from pathlib import Path

import structlog

from ovcf_node.config import Tls
from ovcf_node.errors import Permanent

_log = structlog.get_logger(__name__)

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of TLS 1.3 are all of this kind


class Certificates:
    """The contexts of one identity, for either side of a connection."""

    def __init__(self, settings: Tls):
        self._settings = settings
        self._lock = threading.Lock()
        self._made: tuple[tuple, dict[ssl.Purpose, ssl.SSLContext]] | None = None
        self._bad: tuple | None = None

    def server(self) -> ssl.SSLContext:
        """Return the context of an acceptor: a peer without a valid certificate is refused. Raises Permanent (`tls`)."""
        return self._contexts()[ssl.Purpose.CLIENT_AUTH]

    def client(self) -> ssl.SSLContext:
        """Return the context of a requestor, which checks the acceptor's name. Raises Permanent (`tls`)."""
        return self._contexts()[ssl.Purpose.SERVER_AUTH]

    def _contexts(self) -> dict[ssl.Purpose, ssl.SSLContext]:
        with self._lock:
            stamp = self._stamp()
            if self._made is not None and stamp in (self._made[0], self._bad):
                return self._made[1]
            try:
                contexts = {purpose: self._make(purpose) for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH)}
            except OSError as error:  # ssl.SSLError is one
                words = error.strerror or str(error)
                if self._made is None:
                    raise Permanent("tls", f"certificate, key, ca or crl cannot be used: {words}") from error
                # Half of a renewal: what was good goes on until the other half is there.
                _log.error("tls_files_refused", text=words)
                self._bad = stamp
                return self._made[1]
            if self._made is not None:
                _log.info("tls_files_renewed")
            self._made = (stamp, contexts)
            return contexts

    def _stamp(self) -> tuple:
        named = (self._settings.certificate, self._settings.key, self._settings.ca, self._settings.crl)
        return tuple(_modified(path) for path in named if path is not None)

    def _make(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        acceptor = purpose is ssl.Purpose.CLIENT_AUTH
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if acceptor else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.verify_mode = ssl.CERT_REQUIRED
        password = self._settings.key_password
        # A function, or OpenSSL would ask at the terminal when the key is encrypted and there is no password.
        context.load_cert_chain(
            self._settings.certificate, self._settings.key, lambda: password.get_secret_value() if password else "",
        )
        context.load_verify_locations(self._settings.ca)
        if self._settings.crl is not None:
            context.load_verify_locations(self._settings.crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return context


_installed: Certificates | None = None


def install(settings: Tls) -> None:
    """Make these the certificates of this process; files are read when a connection needs them."""
    global _installed  # one process, one identity: every acceptor and requestor in it has the same
    _installed = Certificates(settings) if settings.ready else None


def certificates() -> Certificates:
    """Return the certificates of this process. Raises Permanent (`tls`) where there are none."""
    if _installed is None:
        raise Permanent("tls", "no certificates: set certificate, key and ca in [tls]")
    return _installed


def names(certificate: dict | None) -> frozenset[str]:
    """Return what a verified certificate (`SSLSocket.getpeercert`) calls its owner: common and DNS alternative names."""
    if not certificate:
        return frozenset()
    common = {value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"}
    return frozenset(common | {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"})


def _modified(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
