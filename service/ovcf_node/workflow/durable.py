"""The recorded steps of workflow `read`, which workers run: infer, encode.

A step is repeated only when the process died inside it, so each is idempotent: files are written whole, rows are guarded
by the attempt, UIDs and bytes of results are deterministic. A reading is published once, by the first attempt that is done
with it while its process counts as alive; a later one, whose bytes may differ on another CPU, takes what is there.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from ovcf_node import infer
from ovcf_node.config import Settings
from ovcf_node.domain.findings import Findings
from ovcf_node.domain.reasons import TECHNICAL, Reason
from ovcf_node.domain.states import RevisionState
from ovcf_node.engine import Engine
from ovcf_node.errors import MACHINE_SHORT, OvcfError, Permanent
from ovcf_node.ledger import Ledger, Revision, StaleAttempt
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.storage.results import Results
from ovcf_node.workflow.answering import answer, source_paths
from ovcf_node.workflow.child import Children, Crashed
from ovcf_node.workflow.reading import SOFTWARE, Read, findings_bytes

_LOG = structlog.get_logger("workflow")
_RETRY_S = 5.0  # a technical failure is retried soon: the reader is waiting
_SHORT_S = 10.0  # a full disk does not become free at once


class Worker:
    """The steps of workflow `read`."""

    def __init__(self, settings: Settings, ledger: Ledger, spool: Path, results: Results, children: Children,
                 pseudonyms: Pseudonyms, clock: Callable[[], float] = time.time, alive: Callable[[], None] = lambda: None):
        """`alive` returns only while this process counts as alive: before that, others may be reading the same."""
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._results = results
        self._children = children
        self._hash = pseudonyms
        self._clock = clock
        self._alive = alive

    def register(self, engine: Engine) -> None:
        """Give the workflow to the engine."""

        @engine.workflow("read")
        def read(revision_id: int, attempt: int) -> str:
            for name, step in (("infer", self.infer), ("encode", self.encode)):
                outcome = engine.step(name, step, revision_id, attempt)
                if outcome != "ok":
                    return outcome
            return "ok"

    def infer(self, revision_id: int, attempt: int) -> str:
        """Read the series in a child process and store what it found; returns "ok", "stale" or an error code."""
        return self._guarded("infer", revision_id, attempt, self._infer)

    def encode(self, revision_id: int, attempt: int) -> str:
        """Encode the answer, store its bytes and plan its deliveries; returns "ok", "stale" or an error code."""
        return self._guarded("encode", revision_id, attempt, self._encode)

    def _guarded(self, stage: str, revision_id: int, attempt: int, step: Callable[[Revision], None]) -> str:
        revision = self._ledger.revisions.get(revision_id)
        log = _LOG.bind(series=self._hash(revision.series_instance_uid), revision=revision.number, stage=stage)
        if revision.attempt != attempt:
            return "stale"
        begun, crashed = time.perf_counter(), False
        try:
            step(revision)
        except StaleAttempt:
            log.info("stale")
            return "stale"
        except OvcfError as error:
            code, text, delay = error.code, error.text, _RETRY_S * (revision.failures + 1)
            crashed = isinstance(error, Crashed)
            if code in MACHINE_SHORT:
                delay = _SHORT_S
        except Exception as error:
            # The one boundary of the stage: a defect becomes a recorded, counted failure and at last the answer "not
            # assessed", never a finding. Let through, it would end the workflow and the series would wait without a reason.
            # Its kind alone is recorded; the log gives its place and drops foreign messages, which may quote the data set.
            log.error("defect", error_type=type(error).__name__, exc_info=True)
            code, text, delay = "defect", type(error).__name__, _RETRY_S
        else:
            log.info("stage_done", seconds=round(time.perf_counter() - begun, 2))
            return "ok"
        now = self._clock()
        self._ledger.revisions.failed(revision, now, not_before=now + delay, text=f"{stage}: {code}: {text}",
                                      counts=code not in MACHINE_SHORT, crashed=crashed)
        log.warning("stage_failed", code=code)
        return code

    def _infer(self, revision: Revision) -> None:
        if revision.state is not RevisionState.COMPLETE:
            return  # done before a crash
        key = revision.reading_key
        if not self._results.has(key):  # else published before a crash
            revision = self._ledger.revisions.begin_reading(revision, self._clock())
            key = revision.reading_key
            self._read(revision, key)
        findings = self._findings(key)
        states = {"excluded": RevisionState.EXCLUDED, "not_assessed": RevisionState.NOT_ASSESSED}
        state = states.get(findings.status, RevisionState.INFERRED)
        why = findings.reasons[0] if findings.reasons and state is not RevisionState.INFERRED else None
        with self._purged_with(revision):
            self._ledger.revisions.move(revision, state, self._clock(), reason=why)

    def _findings(self, key: str) -> Findings:
        """Return what was published under `key`. What cannot be understood goes, so that the next attempt reads anew."""
        try:
            return Findings.from_json(json.loads(self._results.get(key, "findings.json")))
        except (Permanent, ValueError, TypeError, LookupError, AttributeError) as error:  # none, or not ours
            self._results.purge(key)
            raise Permanent("reading_damaged", type(error).__name__) from error

    @contextmanager
    def _purged_with(self, revision: Revision) -> Iterator[None]:
        """Remove what was written for a revision that turns out to be purged meanwhile: nothing stays after a deletion."""
        try:
            yield
        except StaleAttempt:
            now = self._ledger.revisions.of_series(revision.series_instance_uid)
            if all(other.number != revision.number or other.results_purged_at for other in now):
                for key in revision.keys:
                    self._results.purge(key)
            raise

    def _read(self, revision: Revision, key: str) -> None:
        """Read in a child and publish what it found under `key`, unless another attempt has done so meanwhile."""
        instances = self._ledger.instances.originals(revision.series_instance_uid, revision.through_instance_id)
        problem = (revision.verdict or {}).get("problem")
        log = _LOG.bind(series=self._hash(revision.series_instance_uid), revision=revision.number)
        attempt = uuid.uuid4().hex
        try:
            self._children.read(
                source_paths(self._spool, instances), self._results.root, attempt,
                given_up=Reason(**problem) if problem else None,
                progress=lambda stage, fraction: log.info("progress", stage=stage, fraction=round(fraction, 2)),
            )
            self._alive()
            if not self._results.publish(attempt, key):
                log.warning("read_by_another", attempt=revision.attempt)
        finally:
            self._results.drop(attempt)

    def _encode(self, revision: Revision) -> None:
        if revision.answered or revision.state not in (RevisionState.INFERRED, RevisionState.NOT_ASSESSED):
            return  # excluded series are silent; answered ones are done
        self._ledger.revisions.start(revision, self._clock())
        revision = self._ledger.revisions.get(revision.id)
        instances = self._ledger.instances.originals(revision.series_instance_uid, revision.through_instance_id)
        read = self._read_of(revision)
        made = answer(revision, instances, read, self._settings, self._ledger, self._results, self._spool)
        bundle = read.findings.bundle
        with self._purged_with(revision):
            self._ledger.revisions.answered(revision, made.results, made.plan, self._clock(), made.entries,
                                            bundle=bundle.label if bundle else None)

    def _read_of(self, revision: Revision) -> Read:
        """Return the stored reading, or the plain fact that there is none and why."""
        if revision.reason_code not in TECHNICAL:
            return self._stored(self._ledger.revisions.reading(revision))
        try:
            bundle = infer.load_identity(self._settings.node.bundle)
        except OvcfError:
            bundle = None  # the bundle may be what failed; the answer must leave all the same
        findings = Findings(
            status="not_assessed", reasons=(revision.reason,), software=SOFTWARE, bundle=bundle,
            series_instance_uid=revision.series_instance_uid,
        )
        self._results.put(revision.reading_key, "findings.json", findings_bytes(findings))
        return Read(findings, None, (), None)

    def _stored(self, revision: Revision) -> Read:
        key = revision.reading_key
        names = [name for name in self._results.names(key) if not name.endswith(".dcm")]
        return Read.from_files({name: self._results.get(key, name) for name in names})
