"""The recall of a model bundle: which results it made, where they went, and how they are taken back."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ovcf_node.domain.findings import Findings
from ovcf_node.domain.withdrawal import NOTE_ROLE, Title
from ovcf_node.errors import Permanent
from ovcf_node.ledger import Ledger, Revision
from ovcf_node.ledger.deliveries import ARRIVED
from ovcf_node.storage.results import Results

_AT_ONCE = 200


@dataclass(frozen=True)
class Recallable:
    """One answer of a bundle ("name@version").

    `taken` and `unsent` count its objects by destination; `withdrawn` ones are not counted.
    """

    revision: Revision
    bundle: str
    taken: dict[str, int]
    unsent: dict[str, int]
    withdrawn: int


def made_by(ledger: Ledger, results: Results, bundle: str) -> Iterator[Recallable]:
    """Yield every answer of a bundle, "name" or "name@version", the oldest first.

    Of answers of earlier versions of the node the stored findings say which bundle it was, as long as they are kept.
    """
    for revision in ledger.overview.answered_by(bundle):
        label = revision.bundle or _label(ledger, results, revision)
        if label is None or bundle not in (label, label.partition("@")[0]):
            continue
        own = [d for d in ledger.deliveries.of_revision(revision.id) if d.role != NOTE_ROLE]
        standing = [d for d in own if d.withdrawn_as is None]
        yield Recallable(
            revision, label, dict(Counter(d.destination for d in standing if d.state in ARRIVED)),
            dict(Counter(d.destination for d in standing if d.state not in ARRIVED)), len(own) - len(standing),
        )


def recall(ledger: Ledger, recalled: Collection[Recallable], now: float, who: str, why: str) -> None:
    """Take back these answers: what is unsent is cancelled, no query shows them, the judge sends the rejection notes."""
    ids = [one.revision.id for one in recalled]
    for begin in range(0, len(ids), _AT_ONCE):
        ledger.withdrawals.recall(ids[begin:begin + _AT_ONCE], Title.PATIENT_SAFETY, now, f"recalled by {who}: {why}")


def _label(ledger: Ledger, results: Results, revision: Revision) -> str | None:
    try:
        document = results.get(ledger.revisions.reading(revision).reading_key, "findings.json")
    except Permanent:
        return None
    bundle = Findings.from_json(json.loads(document)).bundle
    return bundle.label if bundle else None
