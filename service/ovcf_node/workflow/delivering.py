"""The recorded steps of workflows `deliver` and `probe`, which senders run.

deliver  send what is pending of one revision to one destination
probe    find out whether a destination that is away is back

An outage is a row of the destination and the rows that wait for it: nothing is sent, one cheap probe is tried after a delay
that doubles up to a cap, and the first one that succeeds lets everything go.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from ovcf_node import deliver
from ovcf_node.config import Destination, Settings
from ovcf_node.domain.states import DeliveryState
from ovcf_node.domain.withdrawal import NOTE_ROLE
from ovcf_node.engine import Engine
from ovcf_node.ledger import Delivery, DestinationStanding, Ledger
from ovcf_node.observe import audit
from ovcf_node.observe.audit import Code, Participant
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.storage import identities
from ovcf_node.storage.results import Results
from ovcf_node.workflow.answering import dialects_of
from ovcf_node.workflow.restored import OlderLedger

_LOG = structlog.get_logger("workflow")
_CONFIRM_FIRST_S = 3.0  # many a PACS answers a C-STORE before it can find what it took


class Sender:
    """The steps of workflows `deliver` and `probe`."""

    def __init__(self, settings: Settings, ledger: Ledger, results: Results, pseudonyms: Pseudonyms,
                 clock: Callable[[], float] = time.time, go_on: Callable[[], None] = deliver.always):
        """`go_on` is asked before each object and raises Transient when another sender may be sending it by now."""
        self._destinations = {d.name: d for d in settings.delivering}
        self._ledger = ledger
        self._results = results
        self._hash = pseudonyms
        self._clock = clock
        self._older_ledger = OlderLedger(ledger, pseudonyms)
        self._go_on = go_on

    def register(self, engine: Engine) -> None:
        """Give the workflow to the engine."""

        @engine.workflow("deliver")
        def send(revision_id: int, destination: str) -> str:
            return engine.step("send", self.send, revision_id, destination)

        @engine.workflow("probe")
        def probe(destination: str) -> str:
            return engine.step("probe", self.probe, destination)

    def send(self, revision_id: int, name: str) -> str:
        """Send what is pending of one revision to one destination, in order, and record every answer."""
        destination = self._destinations.get(name)
        if destination is None:
            return "unknown destination"  # removed from the configuration, or shadow mode; the rows stay visible
        standing = self._ledger.destinations.of(name)
        if standing.stopped or self._ledger.deliveries.held(revision_id):
            return "held"  # or away
        begun = self._clock()
        # One that is due takes all with it: the report of a second reading must not overtake images that wait longer.
        pending = [
            d for d in self._ledger.deliveries.of_revision(revision_id, name)
            if d.state is DeliveryState.PENDING and d.withdrawn_as is None
        ]
        if all(d.next_attempt_at > begun for d in pending):
            return "nothing due"
        revision = self._ledger.revisions.get(revision_id)
        if self._older_ledger.holds(destination, revision, begun):
            return "held"
        outcomes = self._in_order(destination, pending)
        by_uid = {d.sop_instance_uid: d for d in pending}
        now = self._clock()
        for outcome in outcomes:
            self._record(destination, by_uid[outcome.sop_instance_uid], outcome, now)
        self._judge_destination(destination, standing, outcomes, now)
        _LOG.info("sent", series=self._hash(revision.series_instance_uid), destination=name,
                  outcomes=[o.state for o in outcomes])
        return "ok"

    def probe(self, name: str) -> str:
        """Try a destination that is away; what waits for it is due the moment it answers."""
        destination, standing = self._destinations.get(name), self._ledger.destinations.of(name)
        if destination is None or standing.away_since is None:
            return "nothing to probe"
        found, text = deliver.probe(destination)
        now = self._clock()
        if found == "answers":
            self._ledger.destinations.back(name, now)
            _LOG.info("destination_back", destination=name, away_s=round(now - standing.away_since))
        else:
            note_away(self._ledger, destination, now, refuses=found == "refused", text=text)
        return found

    def _record(self, destination: Destination, delivery: Delivery, outcome: deliver.Outcome, now: float) -> None:
        if outcome.state == "retry":
            wait = deliver.delay(
                delivery.attempts + 1, destination.retry_first_s, destination.retry_cap_s,
                f"{delivery.revision_id}:{destination.name}",
            )
            self._ledger.deliveries.again(delivery, now, next_attempt_at=now + wait, status=outcome.status,
                                          text=outcome.text)
        elif outcome.state == "accepted":
            confirm_at = None if destination.final == "accepted" else now + _CONFIRM_FIRST_S
            self._ledger.deliveries.finished(
                delivery, DeliveryState.ACCEPTED, now, status=outcome.status, text=outcome.text, confirm_at=confirm_at,
            )
        elif not (outcome.cause == "form" and self._fell_back(destination, delivery, outcome, now)):
            self._ledger.deliveries.finished(
                delivery, DeliveryState.REJECTED, now, status=outcome.status, text=outcome.text
            )

    def _fell_back(self, destination: Destination, delivery: Delivery, outcome: deliver.Outcome, now: float) -> bool:
        """Plan the report in the next dialect that the configuration allows, if there is one."""
        chain = [dialect.key for dialect in dialects_of(destination)]
        if delivery.role != "sr" or delivery.dialect not in chain[:-1]:
            return False
        following = chain[chain.index(delivery.dialect) + 1]
        _LOG.warning("dialect_fallback", destination=destination.name, refused=delivery.dialect, next=following)
        return self._ledger.deliveries.fall_back(delivery, following, now, status=outcome.status, text=outcome.text)

    def _judge_destination(
        self, destination: Destination, standing: DestinationStanding, outcomes: list[deliver.Outcome], now: float
    ) -> None:
        about_it = [o for o in outcomes if o.cause in ("unreachable", "refused")]
        if about_it:
            note_away(self._ledger, destination, now, refuses=about_it[0].cause == "refused", text=about_it[0].text)
        elif standing.failures and any(o.state == "accepted" for o in outcomes):
            self._ledger.destinations.took(destination.name)

    def _in_order(self, destination: Destination, pending: list[Delivery]) -> list[deliver.Outcome]:
        """Send the SR after what it refers to, and a rejection note when everything new has arrived."""
        notes = [d for d in pending if d.role == NOTE_ROLE]
        reports = [d for d in pending if d.role == "sr"]
        images = [d for d in pending if d not in (*notes, *reports)]
        outcomes: list[deliver.Outcome] = []
        for batch in (images, reports, notes):
            if any(o.state == "retry" for o in outcomes):
                text = "waits for the objects it refers to" if batch is reports else "waits for what replaces them"
                outcomes += [deliver.Outcome(d.sop_instance_uid, "retry", None, text) for d in batch]
            else:
                outcomes += self._send(destination, batch)
        return outcomes

    def _send(self, destination: Destination, batch: list[Delivery]) -> list[deliver.Outcome]:
        unsent = {d.sop_instance_uid: self._unsendable(d) for d in batch}
        files = [
            (self._results.root / d.path, d.sop_class_uid, d.sop_instance_uid)
            for d in batch if unsent[d.sop_instance_uid] is None
        ]
        return (self._transfer(destination, files) if files else []) + [one for one in unsent.values() if one]

    def _transfer(self, destination: Destination, files: list[tuple[Path, str, str]]) -> list[deliver.Outcome]:
        """Send files, and enter it in the audit trail."""
        studies = identities.studies(path for path, _, _ in files) if audit.wanted() else []
        us = audit.ourselves(Code.SOURCE, requestor=True, ae_title=destination.calling_ae_title)
        them = Participant(destination.ae_title or destination.name, False, Code.DESTINATION, destination.ae_title or "",
                           destination.host or "")
        for study in studies:
            audit.begin_transfer(us, them, study)
        outcomes = deliver.send(destination, files, self._go_on)
        missing = sum(outcome.state != "accepted" for outcome in outcomes)
        for study in studies:
            audit.transferred(us, them, study, f"{missing} of {len(files)} not taken" if missing else "")
        return outcomes

    def _unsendable(self, delivery: Delivery) -> deliver.Outcome | None:
        """What is said of an object that is not stored as it was made; a disk that does not answer may do so later."""
        state, text = "rejected", "the stored object is missing or changed: not sent"
        try:
            if hashlib.sha256((self._results.root / delivery.path).read_bytes()).hexdigest() == delivery.sha256:
                return None
        except FileNotFoundError:
            pass
        except OSError as error:
            state, text = "retry", f"the stored object cannot be read now: {error.strerror}"
        return deliver.Outcome(delivery.sop_instance_uid, state, None, text)


def note_away(ledger: Ledger, destination: Destination, now: float, *, refuses: bool, text: str) -> None:
    """Record that a destination did not answer or refused us, and when it is probed."""
    # Nobody mends a refusal within seconds, and a PACS may count the attempts of a stranger as an attack.
    first = destination.retry_cap_s if refuses else destination.retry_first_s
    failures = ledger.destinations.of(destination.name).failures
    wait = deliver.delay(failures + 1, first, destination.retry_cap_s, destination.name)
    ledger.destinations.away(destination.name, now, probe_at=now + wait, refuses=refuses, text=text)
    _LOG.warning("destination_refuses" if refuses else "destination_away", destination=destination.name,
                 next_probe_s=round(wait))
