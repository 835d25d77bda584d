"""Who may open an association with us (PS3.8 9.3.4)."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from ovcf_node.config import Peer, Source
from ovcf_node.errors import Permanent


@dataclass(frozen=True)
class Rejection:
    """The three numbers of an A-ASSOCIATE-RJ and the reason in words."""

    result: int
    source: int
    diagnostic: int
    reason: str


CALLING_UNKNOWN = Rejection(1, 1, 3, "calling AE title not recognised")
CALLING_ADDRESS = Rejection(1, 1, 3, "calling AE title not expected from this address")
CALLED_UNKNOWN = Rejection(1, 1, 7, "called AE title not recognised")


class AssociationPolicy:
    """Known called and calling AE titles; AE titles are compared without surrounding spaces, with case (PS3.5 6.2)."""

    def __init__(
        self, called_ae_titles: Iterable[str], sources: Iterable[Source | Peer], *,
        reporters: Iterable[tuple[str, str]] = (), commits: bool = False,
    ):
        """reporters  (calling, called) AE titles of destinations that report storage commitment over associations of theirs
        commits    whether sources may ask us for storage commitment
        """
        self._reporters = {(calling.strip(), called.strip()) for calling, called in reporters}
        self._commits = commits
        self._called = {title.strip() for title in called_ae_titles}
        self._sources: dict[str, set[str | None]] = {}
        for source in sources:
            address = None if source.address is None else plain_address(str(source.address))
            self._sources.setdefault(source.ae_title.strip(), set()).add(address)

    def rejection(self, *, called: str, calling: str, address: str) -> Rejection | None:
        """Return why an association is refused, None when it is welcome."""
        return None if self.reports(called=called, calling=calling) else self._stranger(called, calling, address)

    def _stranger(self, called: str, calling: str, address: str) -> Rejection | None:
        if called.strip() not in self._called:
            return CALLED_UNKNOWN
        addresses = self._sources.get(calling.strip())
        if addresses is None:
            return CALLING_UNKNOWN
        if None not in addresses and plain_address(address) not in addresses:
            return CALLING_ADDRESS
        return None

    def may_send(self, *, called: str, calling: str, address: str) -> bool:
        """Say whether this peer may store here; one that only reports commitment may not."""
        return self._stranger(called, calling, address) is None

    def reports(self, *, called: str, calling: str) -> bool:
        """Say whether this peer may report commitment of what we sent it."""
        return (calling.strip(), called.strip()) in self._reporters

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
