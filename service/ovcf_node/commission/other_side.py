"""Their side: destinations, archives, the count source; the PACS calling us; TLS."""

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

from ovcf_node import deliver
from ovcf_node.app import fetch
from ovcf_node.commission.check import Check, Outcome, tried
from ovcf_node.commission.own_side import PREFERRED, local
from ovcf_node.config import Archive, Destination, Settings, ports_in_words
from ovcf_node.errors import OvcfError, Permanent, Transient
from ovcf_node.network import associate
from ovcf_node.receive.listening import Heard, Listening

GROUP = "Connections"
_LOOK_S = 0.5
_CERTIFICATE_DAYS = 14

_ADVICE = {
    "dicom": "Is the address right, the port open on every firewall between, our calling AE title known on the other side?",
    "folder": "The folder must be mounted and writable by the user of the node (10001 in the container).",
    "stow": "Is the url right, and the token or certificate valid? Redirects and proxies are not followed.",
}


def check(settings: Settings) -> list[Check]:
    """Try every system the node talks to, and TLS where it has any."""
    found = [
        tried(GROUP, f"Destination {d.name} ({d.type}) answers", lambda d=d: deliver.echo(d), _ADVICE[d.type])
        for d in settings.destinations
    ]
    found = found or [Check(GROUP, "Destinations", Outcome.NOT_CONFIGURED, "none", "Results are kept and go nowhere.")]
    found += [_stow_tls(d, found) for d in settings.destinations if d.type == "stow"]
    found += [
        tried(GROUP, f"Archive {a.name} answers", lambda a=a: _archive(settings, a), _ADVICE["dicom"])
        for a in settings.archives
    ] or [Check(GROUP, "Archives to fetch from", Outcome.NOT_CONFIGURED, "none", "`ovcf-node fetch` cannot be used.")]
    source = settings.assemble.count_source
    if source is None:
        found.append(Check(GROUP, "Count source", Outcome.NOT_CONFIGURED, "none",
                           "Quiet time and geometry alone decide when a series is complete."))
    else:
        remote = fetch.count_remote(source)
        found.append(tried(GROUP, "Count source answers", lambda: f"C-ECHO, {associate.echo(remote) * 1000:.0f} ms",
                           _ADVICE["dicom"]))
    return found + [_pages(settings), _pages_tls(settings)]


def _archive(settings: Settings, archive: Archive) -> str:
    seconds = associate.echo(fetch.remote_of(archive))
    obstacles = fetch.obstacles(settings, archive)
    if obstacles:
        raise Permanent("configuration", "; ".join(obstacles))
    return f"C-ECHO to {archive.ae_title}, {seconds * 1000:.0f} ms"


def _stow_tls(destination: Destination, tried_so_far: list[Check]) -> Check:
    name = f"TLS to {destination.name}"
    if urlsplit(destination.url).scheme != "https":
        return Check(GROUP, name, Outcome.NOT_CONFIGURED, "plain HTTP",
                     "Use https where the way leaves the imaging network; a token is only sent over https.")
    echoed = next(c for c in tried_so_far if c.name.startswith(f"Destination {destination.name} "))
    if echoed.outcome is Outcome.FAIL:
        return Check(GROUP, name, Outcome.NOT_TRIED, "the destination does not answer", "See the row of the destination.")
    mutual = ", we present a client certificate" if destination.certificate else ""
    return Check(GROUP, name, Outcome.PASS, f"TLS 1.2 or newer, the server's certificate was verified{mutual}")


# --- pages ---------------------------------------------------------------------------------------------------------


def _pages(settings: Settings) -> Check:
    name = "The node calls itself ready (/ready)"
    if not settings.web.enabled:
        return Check(GROUP, name, Outcome.NOT_CONFIGURED, "web.enabled is false", "No pages, no DICOMweb, no metrics.")

    def ready() -> str:
        status, body = _get(settings, "/ready")
        answer = json.loads(body) if status in (200, 503) else {}
        if status != 200 or not answer.get("ready"):
            raise Transient("not_ready", "; ".join(answer.get("problems", [])) or f"HTTP {status}")
        return "ready: it can accept a series and answer it"

    return tried(GROUP, name, ready, "`ovcf-node check` says more about each problem.")


def _pages_tls(settings: Settings) -> Check:
    name = "Pages and DICOMweb over HTTPS"
    if not settings.web.enabled or settings.web.certificate is None:
        why = "plain HTTP on loopback" if settings.web.enabled else "web.enabled is false"
        return Check(GROUP, name, Outcome.NOT_CONFIGURED, why, "Anything but loopback needs web.certificate and web.key.")

    def handshake() -> str:
        connection = _connection(settings)
        with _http_errors():
            connection.connect()
        try:
            version, certificate = connection.sock.version(), connection.sock.getpeercert()
        finally:
            connection.close()
        end = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
        days = (end - datetime.now(UTC)).days
        if days < _CERTIFICATE_DAYS:
            raise Permanent("certificate_ends", f"the certificate ends on {end:%Y-%m-%d}, in {days} days")
        return f"{version}, the certificate is valid until {end:%Y-%m-%d}"

    return tried(GROUP, name, handshake, "Renew web.certificate and web.key, then restart the node.")


def _connection(settings: Settings) -> http.client.HTTPConnection:
    host, port = local(settings.web.host), settings.web.port
    if settings.web.certificate is None:
        return http.client.HTTPConnection(host, port, timeout=15)
    # Its own certificate is what it must show: whoever signed it, and whatever names it has, is for browsers to judge.
    context = ssl.create_default_context(cafile=settings.web.certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return http.client.HTTPSConnection(host, port, timeout=15, context=context)


def _get(settings: Settings, path: str) -> tuple[int, bytes]:
    connection = _connection(settings)
    with _http_errors():
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read(2**16)
        finally:
            connection.close()


@contextmanager
def _http_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:  # ssl.SSLError is an OSError
        raise Transient("web", getattr(error, "strerror", None) or type(error).__name__) from error


# --- who calls us ----------------------------------------------------------------------------------------------------


def listen(settings: Settings, seconds: float, say: Callable[[str], None]) -> Check:
    """Ask the operator for a C-ECHO from the PACS and wait for it; whoever is rejected meanwhile is told at once."""
    name = "The PACS or a scanner reaches us (C-ECHO)"
    if not seconds:
        return Check(GROUP, name, Outcome.NOT_TRIED, "nobody was asked",
                     "Run with --wait-echo 120 and start a C-ECHO (“verify”, “DICOM ping”) at the PACS.")
    listening = Listening(settings.node.data)
    begin, told = time.monotonic(), 0
    try:
        with listening.during(seconds):
            say(f"waiting {seconds:.0f} s: start a C-ECHO from the PACS or a scanner to {settings.receive.ae_titles[0]}, "
                f"port {ports_in_words(settings.receive)}")
            while time.monotonic() - begin < seconds:
                knocks = listening.so_far()
                for knock in knocks[told:]:
                    say(_words(knock))
                told = len(knocks)
                answered = [k for k in knocks if not k.rejected and k.calling_ae_title != PREFERRED]
                if answered:
                    return Check(GROUP, name, Outcome.PASS, _words(answered[0]), seconds=time.monotonic() - begin)
                time.sleep(_LOOK_S)
            rejected = [_words(k) for k in listening.so_far() if k.rejected]
    except OvcfError as error:
        return Check(GROUP, name, Outcome.FAIL, str(error), "The data folder must be writable for whoever commissions.")
    return Check(GROUP, name, Outcome.FAIL, "; ".join(dict.fromkeys(rejected)) or f"nobody called within {seconds:.0f} s",
                 "A rejected AE title belongs into receive.sources, exactly as written. If nobody called: address and port "
                 "in the PACS, firewall, published port.", time.monotonic() - begin)


def _words(knock: Heard) -> str:
    who = f"{knock.calling_ae_title} at {knock.address}"
    return f"{who} was rejected: {knock.rejected} (it called {knock.called_ae_title})" if knock.rejected else f"{who} called"
