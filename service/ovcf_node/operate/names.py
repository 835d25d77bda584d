"""Opaque names of studies in our URLs: they hold no identity, cannot be guessed, and match the names in the log."""

import hmac
import re

from ovcf_node.ledger import Ledger, Revision
from ovcf_node.observe.logging import Pseudonyms

TOKEN = re.compile(r"([1-9][0-9]{0,17})-([0-9a-f]{12})")
"""What a name of a study looks like."""


class Names:
    """A name is the number of one of the study's revisions and the keyed hash of its UID."""

    def __init__(self, pseudonyms: Pseudonyms, ledger: Ledger):
        self._hash = pseudonyms
        self._ledger = ledger

    def study(self, revision: Revision) -> str:
        """Return the name of a revision's study."""
        return f"{revision.id}-{self._hash(revision.study_instance_uid)}"

    def shown(self, uid: str) -> str:
        """Return the pseudonym of a study or series as the log has it."""
        return self._hash(uid)

    def resolve(self, token: str) -> str:
        """Return the Study Instance UID behind a name. Raises KeyError for one that we never gave."""
        found = TOKEN.fullmatch(token)
        if not found:
            raise KeyError(token)
        uid = self._ledger.revisions.get(int(found[1])).study_instance_uid
        if not hmac.compare_digest(self._hash(uid), found[2]):
            raise KeyError(token)
        return uid
