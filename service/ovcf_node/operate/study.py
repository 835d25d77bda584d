"""The study page's data: per series where it stands, what was read, who said what of it, where its objects are."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ovcf_node.config import Settings
from ovcf_node.domain.assessments import SecondReading, assessable
from ovcf_node.domain.findings import Findings
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.domain.withdrawal import NOTE_ROLE
from ovcf_node.errors import Permanent
from ovcf_node.ledger import Delivery, Event, Hold, Ledger, Revision
from ovcf_node.ledger.catalogue import BadKey, Level, Query, dialect_for
from ovcf_node.operate.objects import Identity, Words, identity_of, words_of
from ovcf_node.operate.standing import ORDER, Standing, standing
from ovcf_node.operate.vertebrae import VertebraRow, vertebra_row
from ovcf_node.storage.results import Results

_ROLES = {
    "seg_vertebrae": "Segmentation: vertebrae", "seg_fractures": "Segmentation: fracture regions",
    "summary": "Summary picture", "sr": "Structured report",
    NOTE_ROLE: "Rejection note",
}
_HISTORY = 200
_MOST_FOUND = 20


@dataclass(frozen=True)
class ObjectRow:
    """One object at one destination; `words` is what the destination said and may quote identity."""

    what: str
    destination: str
    state: DeliveryState
    attempts: int
    next_attempt_at: float | None
    status: int | None
    words: str


@dataclass(frozen=True)
class SeriesView:
    """One series.

    newest    its newest revision;  reading  the one whose findings are shown
    second    the second reading that the newest report contains
    outdated  a second reading of an earlier state of the series, which the newest report does not contain
    can_assess, can_retry  whether the decision makes sense now
    too_late_to_assess     it would, had retention not removed the images that a second report must refer to
    kept_until  findings and objects are here at least until then; None where there are none, or no more
    """

    newest: Revision
    reading: Revision
    standing: Standing
    findings: Findings | None
    words: Words | None
    vertebrae: tuple[VertebraRow, ...]
    picture: bool
    second: SecondReading | None
    outdated: SecondReading | None
    objects: tuple[ObjectRow, ...]
    earlier: tuple[Revision, ...]
    instances: int
    kept_until: float | None

    @property
    def can_assess(self) -> bool:
        return self._has_findings and self.newest.images_purged_at is None

    @property
    def too_late_to_assess(self) -> bool:
        return self._has_findings and self.newest.images_purged_at is not None

    @property
    def _has_findings(self) -> bool:
        return self.newest.state is RevisionState.ENCODED and any(row.assessable for row in self.vertebrae)

    @property
    def can_retry(self) -> bool:
        unread = (RevisionState.FAILED, RevisionState.NOT_ASSESSED, RevisionState.EXCLUDED)
        open_ = (DeliveryState.PENDING, DeliveryState.REJECTED)
        unread_here = self.newest.state in unread and self.newest.images_purged_at is None
        return unread_here or any(o.state in open_ for o in self.objects)


@dataclass(frozen=True)
class StudyView:
    """One study, the series that was read first. Of what repeats itself the history has the last, and how often."""

    series: tuple[SeriesView, ...]
    hold: Hold | None
    history: tuple[tuple[Event, int], ...]
    history_cut: bool


class Studies:
    """Looks studies up."""

    def __init__(self, settings: Settings, ledger: Ledger, results: Results, spool: Path):
        self._settings = settings
        self._ledger = ledger
        self._results = results
        self._spool = spool
        self._listed = lru_cache(maxsize=4096)(lambda study_instance_uid, _revision_id: self.identity(study_instance_uid))

    def identities(self, revisions: Iterable[Revision]) -> dict[str, Identity | None]:
        """Return who the patients of a list are, by study. What was found is kept until a revision follows."""
        return {r.study_instance_uid: self._listed(r.study_instance_uid, r.id) for r in revisions}

    def identity(self, study_instance_uid: str) -> Identity | None:
        """Return who the patient is, from a source image or, when those are gone, from a result."""
        for revision in self._ledger.revisions.newest_of_study(study_instance_uid):
            source = self._ledger.instances.first_path(revision.series_instance_uid)
            paths = [self._spool / source] if source else []
            reading = self._ledger.revisions.reading(revision)
            paths += [self._results.root / result.path for result in self._ledger.deliveries.results_of(reading.id)]
            for path in paths:
                found = identity_of(path)
                if found is not None:
                    return found
        return None

    def find(self, number: str) -> list[Revision]:
        """Return a revision of each answered study with this accession number or Patient ID, at most 20."""
        wanted = number.translate({ord(c): None for c in "*?\\"})
        dialect = dialect_for(self._settings.destinations, None)
        found: dict[str, Revision] = {}
        for keyword in ("AccessionNumber", "PatientID") if wanted else ():
            query = Query(Level.STUDY, {keyword: wanted}, dialect, computed=(), limit=_MOST_FOUND)
            try:
                matches = self._ledger.catalogue.find(query)
            except BadKey:
                continue  # no number of anything
            for match in matches:
                uid = match.attributes["0020000D"]["Value"][0]
                found.setdefault(uid, self._ledger.revisions.newest_of_study(uid)[0])
        return list(found.values())[:_MOST_FOUND]

    def view(self, study_instance_uid: str, now: float) -> StudyView:
        """Return everything about a study but the identity."""
        hold = next((h for h in self._ledger.holds.all() if h.study_instance_uid == study_instance_uid), None)
        revisions = self._ledger.revisions.newest_of_study(study_instance_uid)
        series = [self._series(revision, hold, now) for revision in revisions]
        series.sort(key=lambda s: (s.findings is None, ORDER.index(s.standing.stage), -s.newest.updated_at))
        events = self._ledger.events.of_study(study_instance_uid)
        lines = _folded(events)
        return StudyView(tuple(series), hold, tuple(lines[:_HISTORY]), len(lines) > _HISTORY)

    def picture(self, study_instance_uid: str, revision_id: int) -> bytes:
        """Return the summary picture (PNG) of a reading. Raises KeyError where the study has none of that number."""
        revision = self._ledger.revisions.get(revision_id)
        if revision.study_instance_uid != study_instance_uid:
            raise KeyError(revision_id)
        try:
            return self._results.get(revision.reading_key, "summary.png")
        except Permanent as error:
            raise KeyError(revision_id) from error

    def findings(self, reading: Revision) -> Findings | None:
        """Return what was read; None while there is nothing."""
        try:
            return Findings.from_json(json.loads(self._results.get(reading.reading_key, "findings.json")))
        except Permanent:
            return None

    def _series(self, newest: Revision, hold: Hold | None, now: float) -> SeriesView:
        revisions = self._ledger.revisions.of_series(newest.series_instance_uid)
        reading = self._ledger.revisions.reading(newest)
        second = self._ledger.assessments.of_revision(newest.id)
        findings = self.findings(reading)
        deliveries = self._ledger.deliveries.of_revision(newest.id)
        if newest is not reading:
            # The images delivered before the newest report are part of the answer, the superseded reports are not.
            before = [d for r in revisions[:-1] if self._ledger.revisions.reading(r) == reading
                      for d in self._ledger.deliveries.of_revision(r.id) if d.role != "sr"]
            deliveries = before + deliveries
        instances = self._ledger.overview.instances_of([newest.series_instance_uid])
        count = instances.get(newest.series_instance_uid, 0)
        can = {v.level for v in assessable(findings)} if findings else set()
        return SeriesView(
            newest=newest, reading=reading, findings=findings, words=self._words(newest, reading), instances=count,
            standing=standing(newest, deliveries, hold, count, self._settings, now, self._ledger.destinations.all()),
            vertebrae=tuple(
                vertebra_row(v, second.of(v.level) if second else None, v.level in can) for v in findings.vertebrae
            ) if findings else (),
            picture="summary.png" in self._results.names(reading.reading_key),
            second=second, outdated=None if second else self._outdated(revisions),
            objects=tuple(_object(delivery) for delivery in deliveries), earlier=tuple(revisions[:-1]),
            kept_until=self._kept_until(newest),
        )

    def _kept_until(self, newest: Revision) -> float | None:
        if not newest.answered or newest.results_purged_at is not None:
            return None
        return newest.updated_at + self._settings.retention.results_days * 86400.0

    def _words(self, newest: Revision, reading: Revision) -> Words | None:
        """Return what the newest stored report says; a second reading that is not written yet leaves the first."""
        for revision in (newest, reading):
            reports = [r for r in self._ledger.deliveries.results_of(revision.id) if r.role == "sr"]
            if reports:
                return words_of(self._results.root / reports[0].path)
        return None

    def _outdated(self, revisions: Sequence[Revision]) -> SecondReading | None:
        for revision in reversed(revisions):
            if revision.reading_of is not None:
                return self._ledger.assessments.of_revision(revision.id)
        return None


def _folded(events: Sequence[Event]) -> list[tuple[Event, int]]:
    """Return the history, newest first, without what was repeated later: attempts at a destination that is away."""
    times: dict[tuple[str, str], int] = {}
    for event in events:
        times[event.kind, event.text] = times.get((event.kind, event.text), 0) + 1
    lines = []
    for event in reversed(events):
        count = times.pop((event.kind, event.text), 0)
        if count:
            lines.append((event, count))
    return lines


def _object(delivery: Delivery) -> ObjectRow:
    pending = delivery.state is DeliveryState.PENDING
    return ObjectRow(
        _ROLES.get(delivery.role, delivery.role), delivery.destination, delivery.state, delivery.attempts,
        delivery.next_attempt_at if pending else None, delivery.status,
        f"{delivery.text or ''} (withdrawn as {delivery.withdrawn_as})".strip() if delivery.withdrawn_as
        else delivery.text or "",
    )
