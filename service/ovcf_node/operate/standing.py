"""Where a series stands, in words for people: one stage of seven, what it is doing, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ovcf_node.config import Settings
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.ledger import Delivery, DestinationStanding, Hold, Revision
from ovcf_node.operate.moments import ago, clock


class Stage(StrEnum):
    """In the order in which they deserve attention: a study stands where its foremost series stands."""

    STUCK = "stuck"
    RUNNING = "running"
    WAITING = "waiting"
    RECEIVING = "receiving"
    DELIVERING = "delivering"
    DONE = "final"
    EXCLUDED = "not for us"


ORDER = tuple(Stage)


@dataclass(frozen=True)
class Standing:
    """`what` in a word or two, `why` in a sentence; `peer_words` is what a destination said: it may quote identity."""

    stage: Stage
    what: str
    why: str = ""
    peer_words: str = ""


def standing(
    revision: Revision, deliveries: Sequence[Delivery], hold: Hold | None, instances: int, settings: Settings, now: float,
    stands: Mapping[str, DestinationStanding],
) -> Standing:
    """Return where the newest revision of a series stands. `instances` counts what arrived of it.

    stands  how destinations stand, by name; one that never had trouble may be left out
    """
    if revision.state is RevisionState.SUPERSEDED:
        return Standing(Stage.EXCLUDED, "discarded", "a person discarded the study")
    if hold is not None:
        return Standing(Stage.STUCK, "held", f"{hold.reason_text}: a person must release or discard the study")
    if revision.state is RevisionState.FAILED:
        return Standing(Stage.STUCK, "failed", f"{revision.reason_text}: a person must look, then try again")
    if revision.state is RevisionState.RECEIVING:
        text = f"{instances} instances so far, the last {ago(now - revision.last_received_at)}"
        return Standing(Stage.RECEIVING, "receiving", text)
    if revision.state is RevisionState.WAITING:
        limit = clock(revision.last_received_at + settings.assemble.incomplete_limit_s, now)
        why = f"{revision.reason_text}; answered “not assessed” at {limit} if nothing comes"
        return Standing(Stage.WAITING, "incomplete", why)
    if revision.state is RevisionState.EXCLUDED:
        return Standing(Stage.EXCLUDED, "not for us", revision.reason_text or "")
    if not revision.answered:
        return _at_work(revision, settings, now)
    waits = {d.name for d in settings.destinations} - {d.name for d in settings.delivering}
    if any(d.state is DeliveryState.PENDING and d.destination in waits for d in deliveries):
        return Standing(Stage.WAITING, "waits", f"shadow mode: {', '.join(sorted(waits))} gets nothing until it ends")
    return _delivered(revision, deliveries, {d.name: d.final for d in settings.destinations}, now, stands)


def _at_work(revision: Revision, settings: Settings, now: float) -> Standing:
    tried = f"attempt {revision.failures + 1} of {settings.infer.attempts}" if revision.failures else ""
    if revision.not_before > now:
        return Standing(Stage.WAITING, "tries again", f"{tried}, at {clock(revision.not_before, now)}")
    if revision.state is RevisionState.COMPLETE and revision.analysis_started_at is None:
        return Standing(Stage.WAITING, "queued", f"complete; waits for a free worker{', urgent' if revision.stat else ''}")
    if revision.state is RevisionState.COMPLETE:
        return Standing(Stage.RUNNING, "reading", tried or f"since {clock(revision.analysis_started_at, now)}")
    what = "second reading" if revision.reading_of is not None else "writing the answer"
    return Standing(Stage.RUNNING, what, tried)


def _delivered(
    revision: Revision, deliveries: Sequence[Delivery], configured: Mapping[str, str], now: float,
    stands: Mapping[str, DestinationStanding],
) -> Standing:
    unread = revision.state is RevisionState.NOT_ASSESSED
    outcome = "not assessed" if unread else "second reading" if revision.reading_of is not None else "read"
    outcome += ", shadow" if revision.shadow else ""
    reason = f"not assessed: {revision.reason_text}. " if unread else ""
    rejected = [d for d in deliveries if d.state is DeliveryState.REJECTED]
    if rejected:
        names = ", ".join(sorted({d.destination for d in rejected}))
        return Standing(Stage.STUCK, "rejected", f"{reason}{names} will not take {_objects(len(rejected))}",
                        _words(rejected[-1]))
    pending = [d for d in deliveries if d.state is DeliveryState.PENDING]
    orphaned = sorted({d.destination for d in pending} - set(configured))
    if orphaned:
        return Standing(Stage.STUCK, "undeliverable", f"{', '.join(orphaned)}: no longer configured as a destination")
    if pending:
        waits = sorted({d.destination for d in pending})
        stopped = [stands[name] for name in waits if name in stands and stands[name].stopped]
        if stopped:
            which = ", ".join(f"{one.name} ({one.word})" for one in stopped)
            text = f"{reason}{_objects(len(pending))} left; {which}: sent as soon as that ends"
            return Standing(Stage.DELIVERING, f"destination {stopped[0].word}", text, stopped[0].text or "")
        tried = max(pending, key=lambda d: d.attempts)
        again = f"; tried {tried.attempts} times, again at {clock(tried.next_attempt_at, now)}" if tried.attempts else ""
        text = f"{reason}{_objects(len(pending))} left for {', '.join(waits)}{again}"
        return Standing(Stage.DELIVERING, "delivering", text, _words(tried) if tried.attempts else "")
    if not deliveries:
        why = "made in shadow mode: kept here, sent nowhere" if revision.shadow else "no destination wants an object of it"
        return Standing(Stage.DONE, outcome, f"{reason}{why}")
    unconfirmed = [d for d in deliveries if d.confirm_at is not None]
    if unconfirmed:
        names = ", ".join(sorted({d.destination for d in unconfirmed}))
        return Standing(Stage.DELIVERING, "accepted", f"{reason}{names} took it and has not said that it keeps it")
    loose = sorted({d.destination for d in deliveries if configured.get(d.destination) == "committed"
                    and d.state in (DeliveryState.ACCEPTED, DeliveryState.FOUND)})
    if loose:
        return Standing(Stage.DONE, f"{outcome}, not committed",
                        f"{reason}{', '.join(loose)} took it and never said that it keeps it")
    names = ", ".join(sorted({d.destination for d in deliveries}))
    return Standing(Stage.DONE, f"{outcome}, delivered", f"{reason}{names} has everything" if "," not in names
                    else f"{reason}{names} have everything")


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def _words(delivery: Delivery) -> str:
    status = f"0x{delivery.status:04X} " if delivery.status is not None else ""
    return f"{status}{delivery.text or ''}".strip()
