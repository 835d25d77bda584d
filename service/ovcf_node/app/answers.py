"""What a series was answered, seen from outside: its newest revision, the reading, where the objects are."""

import json
from dataclasses import dataclass

from ovcf_node.app.process import results_root
from ovcf_node.config import Settings
from ovcf_node.domain.findings import Findings
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Delivery, Ledger, Revision
from ovcf_node.storage.results import Results


@dataclass(frozen=True)
class SeriesAnswer:
    """The end of one series; `findings` is None where there was no reading (excluded, failed)."""

    revision: Revision
    findings: Findings | None
    deliveries: tuple[Delivery, ...]

    @property
    def well(self) -> bool:
        """Whether it ended as meant: an answer that every destination took, or nothing to answer."""
        refused = any(delivery.state is DeliveryState.REJECTED for delivery in self.deliveries)
        return self.revision.state is not RevisionState.FAILED and not refused


def answer(settings: Settings, ledger: Ledger, series_instance_uid: str) -> SeriesAnswer | None:
    """Return the answer of a series, None while it is still at work or on its way to a destination."""
    revisions = ledger.revisions.of_series(series_instance_uid)
    instances = ledger.instances.originals(series_instance_uid)
    if not revisions or not instances or revisions[-1].through_instance_id < instances[-1].id:
        return None
    newest = revisions[-1]
    if newest.state in (RevisionState.EXCLUDED, RevisionState.FAILED):
        return SeriesAnswer(newest, None, ())
    deliveries = tuple(ledger.deliveries.of_revision(newest.id))
    if not newest.answered or any(delivery.state is DeliveryState.PENDING for delivery in deliveries):
        return None
    return SeriesAnswer(newest, findings_of(settings, ledger.revisions.reading(newest)), deliveries)


def findings_of(settings: Settings, revision: Revision) -> Findings | None:
    """Return what a revision read, None where nothing is stored."""
    try:
        data = Results(results_root(settings)).get(revision.reading_key, "findings.json")
    except OvcfError:
        return None  # purged, or on another machine's disk: the state still says what it was
    return Findings.from_json(json.loads(data))
