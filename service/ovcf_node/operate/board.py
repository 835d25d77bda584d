"""The status page's data: alarms, what is going on, each destination's health, each scanner's last sign of life.

Made at most once in two seconds, however many people look, and without patient identity: that is added for those who
may see it when their page is made.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ovcf_node.config import Settings
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.ledger import PROCESS, DestinationHealth, DestinationStanding, Hold, Ledger, Revision
from ovcf_node.operate.moments import ago, span
from ovcf_node.operate.standing import ORDER, Stage, Standing, standing

_FRESH_S = 2.0
_RECENT = 40
_DAY_S = 86400.0
_REJECTED_S = 30 * _DAY_S  # an old rejection stays in the destination's count; the list is for what may still be mended

_ENDS = {
    "read": RevisionState.ENCODED, "not assessed": RevisionState.NOT_ASSESSED, "not for us": RevisionState.EXCLUDED,
    "failed": RevisionState.FAILED,
}


@dataclass(frozen=True)
class Alarm:
    """Something a person should look at; `advice` says what to do."""

    text: str
    advice: str


@dataclass(frozen=True)
class Row:
    """One study: its foremost series and where that one stands; `series` counts all of them."""

    revision: Revision
    standing: Standing
    series: int


@dataclass(frozen=True)
class DestinationRow:
    name: str
    kind: str
    configured: bool
    health: DestinationHealth
    stands: DestinationStanding


@dataclass(frozen=True)
class ScannerRow:
    ae_title: str
    last_sent: float | None
    silent: bool


@dataclass(frozen=True)
class Board:
    at: float
    alarms: tuple[Alarm, ...]
    counts: dict[Stage, int]
    ended: dict[str, int]
    rows: tuple[Row, ...]
    destinations: tuple[DestinationRow, ...]
    scanners: tuple[ScannerRow, ...]

    @property
    def summary(self) -> str:
        """What a screen reader is told when it changes."""
        alarms = f"{len(self.alarms)} alarm{'' if len(self.alarms) == 1 else 's'}" if self.alarms else "no alarms"
        going = ", ".join(f"{self.counts[s]} {s.value}" for s in ORDER[:5] if self.counts.get(s))
        return f"{alarms}; {going or 'nothing going on'}"


class Boards:
    """Makes the board and keeps it for a moment."""

    def __init__(
        self, settings: Settings, ledger: Ledger, free_mb: Callable[[], int], clock: Callable[[], float] = time.time,
    ):
        self._settings = settings
        self._ledger = ledger
        self._free_mb = free_mb
        self._clock = clock
        self._lock = threading.Lock()
        self._made: Board | None = None

    def now(self) -> Board:
        """Return the board, at most two seconds old."""
        with self._lock:
            at = self._clock()
            if self._made is None or at - self._made.at > _FRESH_S:
                self._made = self._make(at)
            return self._made

    def forget(self) -> None:
        """Make it anew at the next question: somebody decided something and looks what became of it."""
        with self._lock:
            self._made = None

    def _make(self, now: float) -> Board:
        holds = {hold.study_instance_uid: hold for hold in self._ledger.holds.all()}
        stands = self._ledger.destinations.all()
        rows = self._rows(holds, now, stands)
        counts: dict[Stage, int] = {}
        for row in rows:
            counts[row.standing.stage] = counts.get(row.standing.stage, 0) + 1
        destinations = self._destinations(stands)
        scanners = tuple(self._scanner(source.ae_title, now) for source in self._settings.receive.sources)
        ended = {what: self._ledger.overview.changed_since(now - _DAY_S, state) for what, state in _ENDS.items()}
        alarms = (*self._processes(now), *self._disk(), *_of_studies(rows), *_unseen(set(holds), rows),
                  *_of_destinations(destinations, self._settings, now), *_of_scanners(scanners, now))
        return Board(now, alarms, counts, ended, rows, destinations, scanners)

    def _rows(self, holds: dict[str, Hold], now: float, standings: dict[str, DestinationStanding]) -> tuple[Row, ...]:
        overview = self._ledger.overview
        found = [*overview.open(200), *self._ledger.revisions.newest(_RECENT),
                 *overview.undelivered(DeliveryState.REJECTED, now - _REJECTED_S, 100),
                 *overview.undelivered(DeliveryState.PENDING, 0.0, 200)]
        studies = {revision.study_instance_uid for revision in found} | set(holds)
        series = overview.of_studies(studies)
        deliveries: dict[int, list] = {}
        for delivery in overview.deliveries_of({revision.id for revision in series}):
            deliveries.setdefault(delivery.revision_id, []).append(delivery)
        arriving = {r.series_instance_uid for r in series if r.state is RevisionState.RECEIVING}
        instances = overview.instances_of(arriving)
        by_study: dict[str, list[tuple[Revision, Standing]]] = {}
        for revision in series:
            stands = standing(
                revision, deliveries.get(revision.id, []), holds.get(revision.study_instance_uid),
                instances.get(revision.series_instance_uid, 0), self._settings, now,
                standings,
            )
            by_study.setdefault(revision.study_instance_uid, []).append((revision, stands))
        rows = [
            Row(*min(group, key=lambda pair: (ORDER.index(pair[1].stage), -pair[0].updated_at)), len(group))
            for group in by_study.values()
        ]
        rows.sort(key=lambda row: (_group(row.standing.stage), -row.revision.updated_at))
        return tuple(rows)

    def _destinations(self, stands: dict[str, DestinationStanding]) -> tuple[DestinationRow, ...]:
        configured = {destination.name: destination.type for destination in self._settings.destinations}
        names = [*configured, *sorted(self._ledger.overview.pending_destinations() - set(configured))]
        return tuple(
            DestinationRow(name, configured.get(name, ""), name in configured, self._ledger.overview.destination(name),
                           stands.get(name, DestinationStanding(name)))
            for name in names
        )

    def _scanner(self, ae_title: str, now: float) -> ScannerRow:
        last = self._ledger.overview.last_sent(ae_title)
        return ScannerRow(ae_title, last, last is not None and now - last > self._settings.web.silent_scanner_h * 3600)

    def _processes(self, now: float) -> list[Alarm]:
        living = self._ledger.leases.living("", now)
        alarms = []
        if "judge" not in living:
            alarms.append(Alarm("No judge is at work: nothing new is read.", "Look at the log of the worker process."))
        for role, heartbeat, loss in (
            ("receiver", f"{PROCESS}receiver@", "scanners get no answer"),
            ("worker", "executor:worker-", "series are not read"),
            ("sender", "executor:sender-", "results are not delivered"),
        ):
            if not any(name.startswith(heartbeat) for name in living):
                alarms.append(Alarm(f"No {role} is alive: {loss}.", f"Look at the log of the {role} process."))
        return alarms

    def _disk(self) -> list[Alarm]:
        free, needed = self._free_mb(), self._settings.receive.min_free_mb
        if free >= needed:
            return []
        return [Alarm(f"The data volume has {free} MB left, below {needed} MB: scanners are refused (0xA700).",
                      "Make room on the volume.")]


def _group(stage: Stage) -> int:
    """First what needs a person, then what moves, then what is over."""
    return 0 if stage is Stage.STUCK else 2 if stage in (Stage.DONE, Stage.EXCLUDED) else 1


def _of_studies(rows: tuple[Row, ...]) -> list[Alarm]:
    stuck: dict[str, int] = {}
    for row in rows:
        if row.standing.stage is Stage.STUCK:
            stuck[row.standing.what] = stuck.get(row.standing.what, 0) + 1
    return [Alarm(f"{count} {'study is' if count == 1 else 'studies are'} {what}.", "They are first in the list below.")
            for what, count in stuck.items()]


def _unseen(held: set[str], rows: tuple[Row, ...]) -> list[Alarm]:
    """Warn of studies that were held from their first instance on: nothing of them was ever opened, so they have no page."""
    count = len(held - {row.revision.study_instance_uid for row in rows})
    if not count:
        return []
    which = "One more study is" if count == 1 else f"{count} more studies are"
    return [Alarm(f"{which} held of which nothing was read: no page shows it.",
                  "`ovcf-node jobs list` names it, `ovcf-node jobs release` and `discard` decide about it.")]


def _of_destinations(rows: tuple[DestinationRow, ...], settings: Settings, now: float) -> list[Alarm]:
    alarms = []
    silenced = {d.name for d in settings.destinations} - {d.name for d in settings.delivering}  # shadow mode
    for row in (row for row in rows if row.name not in silenced):
        if row.stands.held_since is not None:
            alarms.append(Alarm(f"{row.name} is held by {row.stands.held_by}: {row.health.pending} wait.",
                                "Release it when its reason is over."))
            continue
        if row.stands.refuses:
            alarms.append(Alarm(f"{row.name} refuses us: nothing is sent there.",
                                "Its administrator must know our AE title, or the credentials are wrong."))
            continue
        waits = now - row.health.oldest_pending if row.health.oldest_pending else 0.0
        if waits > 600:
            alarms.append(Alarm(f"{row.name} has not taken results for {span(waits)}: {row.health.pending} wait.",
                                f"Try `ovcf-node echo {row.name}`, then look at that system."))
    return alarms


def _of_scanners(rows: tuple[ScannerRow, ...], now: float) -> list[Alarm]:
    return [Alarm(f"{row.ae_title} last sent {ago(now - row.last_sent)}.", "Is its routing rule still on?")
            for row in rows if row.silent]
