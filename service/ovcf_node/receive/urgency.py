"""Decide whether a series is urgent: what the sender asks for, what the order says, and what the site configured."""

from ovcf_node.config import Priority
from ovcf_node.receive.header import Header

_STAT = (b"STAT", b"HIGH")


class Urgency:
    """STAT or not, by one instance; one urgent instance makes its series urgent."""

    def __init__(self, settings: Priority):
        self._calling = frozenset(settings.calling_ae_titles)
        self._called = frozenset(settings.called_ae_titles)
        self._rules = tuple((rule.tag, rule.contains.upper().encode("ascii")) for rule in settings.rules)
        self.tags = frozenset(tag for tag, _ in self._rules)
        """The attributes that the rules look at."""

    def is_stat(self, header: Header, calling_ae_title: str, called_ae_title: str, *, high_priority: bool) -> bool:
        """Say so for Priority (0000,0700) HIGH, (0040,1003) STAT or HIGH, a configured title, or a rule."""
        return (
            high_priority
            or header.requested_priority.upper() in _STAT
            or calling_ae_title in self._calling
            or called_ae_title in self._called
            or any(text in header.texts.get(tag, b"").upper() for tag, text in self._rules)
        )
