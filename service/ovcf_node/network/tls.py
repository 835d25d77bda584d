"""TLS contexts: the BCP 195 profile of PS3.15 B.12 (RFC 8996, RFC 9325), for DICOM with mutual certificates.

TLS 1.2 and 1.3 with forward secrecy and authenticated encryption only. A process installs its certificates once; a context
is made anew when one of the files has changed, so that a renewed certificate or revocation list needs no restart. What is
made anew also forgets the sessions of before: nobody resumes one past the list that revokes him.
"""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from ovcf_node.config import Tls, Web
from ovcf_node.errors import Permanent

_log = structlog.get_logger(__name__)

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of TLS 1.3 are all of this kind


_Made = TypeVar("_Made")


class Renewing(Generic[_Made]):
    """What is made of files, and made anew when one of them has changed.

    make   raises OSError (ssl.SSLError is one) where the files cannot be used
    files  those that it reads
    """

    def __init__(self, make: Callable[[], _Made], *files: Path | None):
        self._make = make
        self._files = [path for path in files if path is not None]
        self._lock = threading.Lock()
        self._made: tuple[tuple, _Made] | None = None
        self._bad: tuple | None = None

    def current(self) -> _Made:
        """Return what the files of now make, or the last that could be used. Raises Permanent (`tls`) where none could."""
        with self._lock:
            stamp = tuple(_modified(path) for path in self._files)
            if self._made is not None and stamp in (self._made[0], self._bad):
                return self._made[1]
            try:
                made = self._make()
            except OSError as error:
                words = error.strerror or str(error)
                if self._made is None:
                    raise Permanent("tls", f"certificate, key, ca or crl cannot be used: {words}") from error
                # Half of a renewal: what was good goes on until the other half is there.
                _log.error("tls_files_refused", text=words)
                self._bad = stamp
                return self._made[1]
            if self._made is not None:
                _log.info("tls_files_renewed")
            self._made = (stamp, made)
            return made


class Certificates:
    """The contexts of one identity, for either side of a connection."""

    def __init__(self, settings: Tls):
        self._settings = settings
        self._contexts = Renewing(self._pair, settings.certificate, settings.key, settings.ca, settings.crl)

    def server(self) -> ssl.SSLContext:
        """Return the context of an acceptor: a peer without a valid certificate is refused. Raises Permanent (`tls`)."""
        return self._contexts.current()[0]

    def client(self) -> ssl.SSLContext:
        """Return the context of a requestor, which checks the acceptor's name. Raises Permanent (`tls`)."""
        return self._contexts.current()[1]

    def _pair(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        password = self._settings.key_password
        pair = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for context in pair:
            _harden(context)
            _show(context, self._settings.certificate, self._settings.key, password.get_secret_value() if password else "")
            context.verify_mode = ssl.CERT_REQUIRED
            _trust(context, self._settings.ca, self._settings.crl)
        return pair


def of_web(web: Web) -> Renewing[ssl.SSLContext]:
    """Return the contexts of the HTTPS port: a client's certificate is verified where there is one, and not demanded."""

    def make() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _harden(context)
        _show(context, web.certificate, web.key, "")
        if web.client_ca is not None:
            context.verify_mode = ssl.CERT_OPTIONAL
            _trust(context, web.client_ca, web.client_crl)
        return context

    return Renewing(make, web.certificate, web.key, web.client_ca, web.client_crl)


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _show(context: ssl.SSLContext, certificate: Path, key: Path, password: str) -> None:
    # A function, or OpenSSL would ask at the terminal when the key is encrypted and there is no password.
    with _reading(certificate, key):
        context.load_cert_chain(certificate, key, lambda: password)


def _trust(context: ssl.SSLContext, ca: Path, crl: Path | None) -> None:
    with _reading(ca):
        context.load_verify_locations(ca)
    if crl is not None:
        before = context.cert_store_stats()["crl"]
        with _reading(crl):
            context.load_verify_locations(crl)
            if context.cert_store_stats()["crl"] == before:
                raise OSError("no revocation list in it")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


@contextmanager
def _reading(*files: Path) -> Iterator[None]:
    """Name the files in the words of an OSError; ssl.SSLError is one."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{' with '.join(map(str, files))}: {error.strerror or error}") from error


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


def _modified(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino  # some copies keep the first and the last
