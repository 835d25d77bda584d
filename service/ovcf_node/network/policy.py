"""Who may open an association with us (PS3.8 9.3.4)."""

import functools
import ipaddress
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from ovcf_node.config import Destination, Peer, Source
from ovcf_node.errors import Permanent

_log = structlog.get_logger(__name__)

_LOOK_UP_S = 60.0  # how long the addresses of a name are believed


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
    entries for a title are alternatives. So they are by a destination, for reports about what it was sent.
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
        self, *, called: str, calling: str, address: str, certificate: frozenset[str] = frozenset()
    ) -> Rejection | None:
        """Return why an association is refused, None when it is welcome; `certificate`: the names it holds."""
        if self.reports(called=called, calling=calling, address=address, certificate=certificate):
            return None
        why = self._stranger(called, calling, address, certificate)
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

    def reports(self, *, called: str, calling: str, address: str, certificate: frozenset[str] = frozenset()) -> bool:
        """Say whether this peer may report commitment of what we sent it."""
        return any(
            (reporter.tls_name is None or reporter.tls_name in certificate) and _comes_from(address, reporter)
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


def _comes_from(address: str, reporter: Destination) -> bool:
    here = plain_address(address)
    for place in reporter.report_from or (reporter.host,):
        try:
            if ipaddress.ip_address(here) in ipaddress.ip_network(place, strict=False):
                return True
        except ValueError:  # a name
            if here in _addresses(place, int(time.monotonic() / _LOOK_UP_S)):
                return True
    return False


@functools.lru_cache(maxsize=64)
def _addresses(name: str, _period: int) -> frozenset[str]:
    try:
        return frozenset(plain_address(str(found[4][0])) for found in socket.getaddrinfo(name, None))
    except (OSError, UnicodeError) as error:  # the latter: no name at all
        _log.warning("name_not_resolved", host=name, error_type=type(error).__name__)
        return frozenset()
