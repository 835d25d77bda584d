"""Prometheus metrics of the whole node, derived at the moment of the scrape from ledger, disk and bundle.

Nothing is counted in memory: the figures survive restarts, hold for every process and machine behind one ledger, and any
web process may be asked. Labels are states, coded reasons, configured names and AE titles: few, and no identity. Names and
meanings are an interface: `deploy/monitoring/` builds on them.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ovcf_node import __version__
from ovcf_node.config import Settings
from ovcf_node.domain import reasons
from ovcf_node.domain.findings import BundleIdentity
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import PROCESS, Ledger
from ovcf_node.storage.outbox import Outbox

_LOG = structlog.get_logger("operate")
_S = RevisionState
_WINDOW_S = 3600.0  # durations are those of the last hour
_FORGOTTEN_S = 3600.0  # a process that ended without a word is shown as down for this long
_QUANTILES = (0.5, 0.95, 1.0)
_PRIORITIES = {False: "routine", True: "stat"}
_STAGES = ("receiving", "waiting", "reading")
_HEARTBEATS = (PROCESS, "executor:")
# From zero on, so that a change from nothing to something is a change.
_SERIES = [
    *((str(state), "") for state in _S if state not in (_S.EXCLUDED, _S.NOT_ASSESSED, _S.SUPERSEDED)),
    *((str(_S.EXCLUDED), code) for code in reasons.EXCLUDED),
    *((str(_S.NOT_ASSESSED), code) for code in reasons.NOT_ASSESSED),
]

_ANSWERED = [key for key in _SERIES if key[0] in (_S.ENCODED, _S.NOT_ASSESSED)]
_WINDOWS = {"1h": 3600.0, "24h": 86400.0}

JUDGE_LEASE = "judge"


class NodeCollector(Collector):
    """What `/metrics` says. `bundle` returns the identity of the configured bundle or raises OvcfError."""

    def __init__(self, settings: Settings, ledger: Ledger, bundle: Callable[[], BundleIdentity],
                 clock: Callable[[], float] = time.time):
        self._settings = settings
        self._ledger = ledger
        self._bundle = bundle
        self._clock = clock

    def describe(self) -> list[Metric]:
        return []  # registering must not ask the ledger

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; without the ledger, those that need none and `ovcf_node_ledger_up 0`."""
        now = self._clock()
        yield from self._static()
        yield from self._disk()
        yield from self._audit(now)
        try:
            found = [*self._received(), *self._series(now), *self._deliveries(now), *self._durations(now),
                     *self._processes(now)]
        except OvcfError as error:
            _LOG.error("scrape_without_ledger", code=error.code)
            found = []
        yield _gauge("ledger_up", "1 when the ledger's database answered this scrape.", [((), float(bool(found)))])
        yield from found

    def _static(self) -> Iterator[Metric]:
        yield _gauge("build_info", "The running program.", [((__version__,), 1.0)], "version")
        try:
            who = self._bundle()
        except OvcfError as error:
            _LOG.error("scrape_without_bundle", code=error.code)
            return
        yield _gauge("bundle_info", "The configured model bundle.", [((who.name, who.version, who.status, who.digest), 1.0)],
                     "name", "version", "status", "digest")

    def _disk(self) -> Iterator[Metric]:
        try:
            usage = shutil.disk_usage(self._settings.node.data)
        except OSError:
            return  # absent: an alert of its own says so
        yield _gauge("disk_free_bytes", "Free space of the data volume.", [((), usage.free)])
        yield _gauge("disk_size_bytes", "Size of the data volume.", [((), usage.total)])
        watermark = self._settings.receive.min_free_mb * 2**20
        yield _gauge("disk_watermark_bytes", "Free space below which C-STORE answers 0xA700.", [((), watermark)])

    def _audit(self, now: float) -> Iterator[Metric]:
        if self._settings.audit.host is None:
            return
        try:
            oldest = Outbox(self._settings.node.data / "audit").oldest_at()
        except OvcfError:
            return  # absent: that the data folder cannot be looked at has an alert of its own
        yield _gauge("audit_oldest_seconds", "How long the oldest message of the audit trail waits for the collector.",
                     [((), max(0.0, now - oldest) if oldest is not None else 0.0)])

    def _received(self) -> Iterator[Metric]:
        figures = self._ledger.figures
        received = CounterMetricFamily("ovcf_node_instances_received", "Instances recorded since installation.")
        received.add_metric((), figures.received())
        yield received
        titles = {source.ae_title for source in self._settings.receive.sources}
        yield _gauge(
            "last_receipt_timestamp_seconds", "When a configured source last sent an instance; absent if it never did.",
            [((title,), at) for title, at in sorted(figures.last_received(titles).items())], "calling_ae_title",
        )

    def _series(self, now: float) -> Iterator[Metric]:
        figures = self._ledger.figures
        counts = dict.fromkeys(_SERIES, 0) | {(c.state, c.reason_code): c.count for c in figures.series()}
        yield _gauge("series", "Series by state and coded reason.", sorted(counts.items()), "state", "reason")
        queues = {(q.stage, q.stat): q for q in figures.queues()}
        every = [(stage, stat) for stage in _STAGES for stat in _PRIORITIES]
        yield _gauge(
            "queue_series", "Series that are not answered yet, by stage and priority.",
            [((stage, _PRIORITIES[stat]), queues[stage, stat].count if (stage, stat) in queues else 0)
             for stage, stat in every], "stage", "priority",
        )
        yield _gauge(
            "queue_oldest_seconds", "Time since the last instance of the series that waits longest.",
            [((stage, _PRIORITIES[stat]), max(0.0, now - queues[stage, stat].oldest_at) if (stage, stat) in queues else 0.0)
             for stage, stat in every], "stage", "priority",
        )
        answered = {(window, *key): 0 for window in _WINDOWS for key in _ANSWERED} | {
            (window, c.state, c.reason_code): c.count
            for window, seconds in _WINDOWS.items() for c in figures.outcomes(now - seconds)
        }
        yield _gauge("answered_series", "Series answered within the last hour and day, by state and coded reason.",
                     sorted(answered.items()), "window", "state", "reason")
        count, since = figures.held()
        yield _gauge("held_studies", "Studies held until a person decides.", [((), count)])
        yield _gauge("held_oldest_seconds", "How long the longest of them is held.", [((), now - since if since else 0.0)])

    def _deliveries(self, now: float) -> Iterator[Metric]:
        figures = self._ledger.figures
        configured = [destination.name for destination in self._settings.destinations]
        counts = {(name, str(state)): 0 for name in configured for state in DeliveryState}
        counts |= {(c.destination, c.state): c.count for c in figures.deliveries()}
        yield _gauge("deliveries", "Objects by destination and state.", sorted(counts.items()), "destination", "state")
        stands = self._ledger.destinations.all()
        words = {(name, word): 0.0 for name in configured for word in ("away", "refuses us", "held")}
        words |= {(one.name, one.word): 1.0 for one in stands.values() if one.stopped and one.name in configured}
        yield _gauge(
            "destination_stopped", "1 while nothing is sent to a destination: it is away, refuses us, or a person holds it.",
            sorted(words.items()), "destination", "why",
        )
        ages = dict.fromkeys(configured, 0.0)
        idle = {d.name for d in self._settings.destinations} - {d.name for d in self._settings.delivering}
        ages |= {name: max(0.0, now - since) for name, since in figures.oldest_pending().items() if name not in idle}
        yield _gauge(
            "delivery_oldest_pending_seconds",
            "Time since the series of the oldest undelivered object was answered; held studies and idle destinations apart.",
            [((name,), age) for name, age in sorted(ages.items())], "destination",
        )

    def _durations(self, now: float) -> Iterator[Metric]:
        answered = self._ledger.figures.answered(now - _WINDOW_S)
        read = [a for a in answered if a.inferred_at is not None and a.analysis_started_at is not None]
        stages = {
            "queue": [a.analysis_started_at - a.last_received_at for a in read],
            "reading": [a.inferred_at - a.analysis_started_at for a in read],
            "encoding": [a.answered_at - a.inferred_at for a in read],
        }
        yield _gauge(
            "stage_seconds", "Durations of the last hour: last instance -> queue -> reading -> encoding -> answered.",
            _quantiles(stages), "stage", "quantile",
        )
        delivered = {
            d.name: self._ledger.figures.delivered(d.name, now - _WINDOW_S) for d in self._settings.destinations
        }
        yield _gauge(
            "delivery_seconds", "From answered to taken by the destination, objects of the last hour.",
            _quantiles({name: [d.delivered_at - d.answered_at for d in found] for name, found in delivered.items()}),
            "destination", "quantile",
        )
        yield _gauge(
            "turnaround_seconds", "From the last instance received to taken by the destination, objects of the last hour.",
            _quantiles({name: [d.delivered_at - d.last_received_at for d in found] for name, found in delivered.items()}),
            "destination", "quantile",
        )

    def _processes(self, now: float) -> Iterator[Metric]:
        expiries = self._ledger.leases.expiries(now - _FORGOTTEN_S)
        yield _gauge("judge_up", "1 while some worker judges series and enqueues work.",
                     [((), float(expiries.get(JUDGE_LEASE, 0.0) >= now))])
        alive = self._ledger.leases.roles_alive(now)
        yield _gauge("role_up", "1 while a process of a role is alive, on whatever machine.",
                     [((role,), float(role in alive)) for role in self._settings.roles], "role")
        beating = {
            name.removeprefix(prefix): expires_at
            for prefix in _HEARTBEATS for name, expires_at in expiries.items() if name.startswith(prefix)
        }
        yield _gauge(
            "process_up", "Heartbeats: 1 alive, 0 ended without a word within the last hour.",
            [((name,), float(expires_at >= now)) for name, expires_at in sorted(beating.items())], "process",
        )


def registry(collector: NodeCollector) -> CollectorRegistry:
    """Return a registry with this node's metrics only: those of the Python process would not be the node's."""
    made = CollectorRegistry(auto_describe=False)
    made.register(collector)
    return made


def _gauge(name: str, text: str, values: Sequence[tuple[tuple[str, ...], float]], *labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"ovcf_node_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _quantiles(durations: dict[str, list[float]]) -> list[tuple[tuple[str, str], float]]:
    """Return quantiles (nearest rank) of each list; nothing for an empty one, because no duration is not 0 s."""
    found = []
    for name, values in sorted(durations.items()):
        ordered = sorted(values)
        for quantile in _QUANTILES if ordered else ():
            rank = max(0, math.ceil(quantile * len(ordered)) - 1)
            found.append(((name, f"{quantile:g}"), max(0.0, ordered[rank])))
    return found
