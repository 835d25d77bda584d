"""The results as a PACS or a viewer sees them: searched by C-FIND and QIDO-RS, found again for C-GET, C-MOVE and WADO-RS.

`keys`      which attribute belongs to which level, and which can be matched
`entry`     one stored object -> one row
`matching`  one key of a query -> one SQL condition (PS3.4 C.2.2.2)
`queries`   the table: find, headers, retrieve, catch up

What a query shows is the current truth: of every series the objects of the revision in force, one report a revision (in the
dialect of whoever asks). What a late slice superseded is shown and retrieved only by its SOP Instance UID; nothing of a held
study, and nothing that a person discarded or replaced, is shown at all.
"""

from ovcf_node.ledger.catalogue.entry import Entry, entry_of
from ovcf_node.ledger.catalogue.keys import COMPUTED, KEYS, Level, is_listed, level_of
from ovcf_node.ledger.catalogue.matching import BadKey
from ovcf_node.ledger.catalogue.queries import Catalogue, Match, Query, TooManyMatches, dialect_for

__all__ = [
    "COMPUTED", "KEYS", "BadKey", "Catalogue", "Entry", "Level", "Match", "Query", "TooManyMatches", "dialect_for",
    "entry_of", "is_listed", "level_of",
]
