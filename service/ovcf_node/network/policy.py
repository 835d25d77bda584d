"""Who may open an association with us (PS3.8 9.3.4)."""

import functools
import ipaddress
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from ovcf_node.config import Destination, Peer, Source
from ovcf_node.errors import Permanent

_log = structlog.get_logger(__name__)

_LOOK_UP_S = 60.0  # how long the addresses of a name are believed
_LOOK_UP_AGAIN_S = 5.0  # after it failed


@dataclass(frozen=True)
class Rejection:
    """The three numbers of an A-ASSOCIATE-RJ and the reason in words."""

    result: int
    source: int
    diagnostic: int
    reason: str


CALLING_UNKNOWN = Rejection(1, 1, 3, "calling AE title not recognised")
CALLING_ADDRESS = Rejection(1, 1, 3, "calling AE title not expected from this address")
CALLING_CERTIFICATE = Rejection(1, 1, 3, "calling AE title not expected with this certificate")
CALLED_UNKNOWN = Rejection(1, 1, 7, "called AE title not recognised")


class AssociationPolicy:
    """Known called and calling AE titles; AE titles are compared without surrounding spaces, with case (PS3.5 6.2).

    A calling AE title, an address and the name in a certificate are bound together by one entry of `sources`; several
    entries for a title are alternatives. So they are by a destination, for reports about what it was sent; its host is
    looked up for those whom no source names, and for those who ask for Storage Commitment: a name service that does not
    answer keeps no scanner waiting.
    """

    def __init__(
        self, called_ae_titles: Iterable[str], sources: Iterable[Source | Peer], *,
        reporters: Iterable[Destination] = (), commits: bool = False,
    ):
        """reporters  destinations that report storage commitment over associations of theirs
        commits    whether sources may ask us for storage commitment
        """
        self._reporters: dict[tuple[str, str], list[Destination]] = {}
        for reporter in reporters:
            titles = reporter.ae_title.strip(), reporter.calling_ae_title.strip()
            self._reporters.setdefault(titles, []).append(reporter)
        self._commits = commits
        self._called = {title.strip() for title in called_ae_titles}
        self._sources: dict[str, list[tuple[str | None, str | None]]] = {}
        for source in sources:
            address = None if source.address is None else plain_address(str(source.address))
            self._sources.setdefault(source.ae_title.strip(), []).append((address, source.certificate_name))

    def rejection(
        self, *, called: str, calling: str, address: str, certificate: frozenset[str] = frozenset(), encrypted: bool = False,
    ) -> Rejection | None:
        """Return why an association is refused, None when it is welcome; `certificate`: the names it holds."""
        why = self._stranger(called, calling, address, certificate)
        if why is None:
            return None
        if self.reports(called=called, calling=calling, address=address, certificate=certificate, encrypted=encrypted):
            return None
        if why in (CALLED_UNKNOWN, CALLING_UNKNOWN) and (here := self._reporters.get((calling.strip(), called.strip()))):
            return CALLING_CERTIFICATE if any(_comes_from(address, reporter) for reporter in here) else CALLING_ADDRESS
        return why

    def _stranger(self, called: str, calling: str, address: str, certificate: frozenset[str]) -> Rejection | None:
        if called.strip() not in self._called:
            return CALLED_UNKNOWN
        entries = self._sources.get(calling.strip())
        if entries is None:
            return CALLING_UNKNOWN
        here = [name for bound, name in entries if bound in (None, plain_address(address))]
        if not here:
            return CALLING_ADDRESS
        if not any(name is None or name in certificate for name in here):
            return CALLING_CERTIFICATE
        return None

    def may_send(self, *, called: str, calling: str, address: str, certificate: frozenset[str] = frozenset()) -> bool:
        """Say whether this peer may store here; one that only reports commitment may not."""
        return self._stranger(called, calling, address, certificate) is None

    def is_called_as_a_reporter(self, *, called: str, calling: str) -> bool:
        """Say whether a peer uses the titles of a destination that reports; whether it is that one, `reports` says."""
        return (calling.strip(), called.strip()) in self._reporters

    def reports(
        self, *, called: str, calling: str, address: str, certificate: frozenset[str] = frozenset(), encrypted: bool = False,
    ) -> bool:
        """Say whether this peer may report commitment of what we sent it; may wait for the name service."""
        return any(
            (encrypted or not reporter.tls) and _holds(certificate, reporter.tls_name) and _comes_from(address, reporter)
            for reporter in self._reporters.get((calling.strip(), called.strip()), ())
        )

    def may_ask_commitment(self, *, called: str, calling: str) -> bool:
        """Say whether this peer may ask us to commit to what it sent."""
        return self._commits and called.strip() in self._called and calling.strip() in self._sources


def plain_address(text: str) -> str:
    """Return an IP address in the one form that addresses are compared in. Raises Permanent for anything else."""
    try:
        parsed = ipaddress.ip_address(text.strip().split("%")[0])
    except ValueError as error:
        raise Permanent("configuration", f"not an IP address: {text}") from error
    mapped = getattr(parsed, "ipv4_mapped", None)  # a dual-stack listener sees IPv4 peers as ::ffff:a.b.c.d
    return str(mapped or parsed)


def _holds(certificate: frozenset[str], expected: str | None) -> bool:
    """Say whether a certificate holds a name, as it is where we connect (RFC 6125 6.4: without case, `*` as first label)."""
    if expected is None:
        return True
    expected = expected.lower()
    _, _, parent = expected.partition(".")
    return not {expected, f"*.{parent}"}.isdisjoint(name.lower() for name in certificate)


def _comes_from(address: str, reporter: Destination) -> bool:
    here = plain_address(address)
    for place in reporter.report_from or (reporter.host,):
        try:
            if ipaddress.ip_address(here) in ipaddress.ip_network(place, strict=False):
                return True
        except ValueError:  # a name
            if _host(place).has(here):
                return True
    return False


class _Host:
    """The addresses of a host name, as the name service last gave them: while it is away, they stay what they were."""

    def __init__(self, name: str):
        self._name = name
        self._addresses: frozenset[str] = frozenset()
        self._due = 0.0  # when to look again, monotonic
        self._looking = threading.Lock()

    def has(self, address: str) -> bool:
        """Say whether it has an address; waits for the name service only where that one is not known to be its."""
        if address not in self._addresses:
            self._look_up()
        elif time.monotonic() >= self._due and not self._looking.locked():
            threading.Thread(target=self._look_up, name="look-up", daemon=True).start()
        return address in self._addresses

    def _look_up(self) -> None:
        with self._looking:  # whoever comes meanwhile gets the answer to the first question
            if time.monotonic() < self._due:
                return
            try:
                found = socket.getaddrinfo(self._name, None)
                self._addresses = frozenset(plain_address(str(one[4][0])) for one in found)
                again_s = _LOOK_UP_S
            except (OSError, UnicodeError) as error:  # the latter: no name at all
                _log.warning("name_not_resolved", host=self._name, error_type=type(error).__name__)
                again_s = _LOOK_UP_AGAIN_S
            self._due = time.monotonic() + again_s


_host = functools.lru_cache(maxsize=256)(_Host)  # for the whole process: policies come and go with the configuration
