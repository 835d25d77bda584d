"""The states of a revision and of a delivery, and every legal move between them.

Two rules for whoever changes the tables: a state means a fact that is already durable, and a move that is not listed
raises and changes nothing.
"""

from enum import StrEnum

from ovcf_node.errors import Permanent


class RevisionState(StrEnum):
    """Where one revision of a series stands."""

    RECEIVING = "RECEIVING"
    """Instances arrived; the quiet period is not over."""
    WAITING = "WAITING"
    """Quiet, but something is missing; the reason says what."""
    COMPLETE = "COMPLETE"
    """Judged complete and eligible; inference is due."""
    INFERRED = "INFERRED"
    """Findings and masks are stored; encoding is due."""
    ENCODED = "ENCODED"
    """Every object of every dialect is stored; deliveries exist."""
    NOT_ASSESSED = "NOT_ASSESSED"
    """Cannot be read, for the reason given; a small SR says so once it is encoded."""
    EXCLUDED = "EXCLUDED"
    """Not for us; recorded and silent."""
    FAILED = "FAILED"
    """Could not even be answered; a person must look."""
    SUPERSEDED = "SUPERSEDED"
    """A newer revision took its place."""


_R = RevisionState

REVISION_MOVES: dict[RevisionState, frozenset[RevisionState]] = {
    _R.RECEIVING: frozenset(
        {_R.WAITING, _R.COMPLETE, _R.EXCLUDED, _R.NOT_ASSESSED, _R.SUPERSEDED, _R.FAILED}
    ),
    _R.WAITING: frozenset(
        {_R.RECEIVING, _R.COMPLETE, _R.EXCLUDED, _R.NOT_ASSESSED, _R.SUPERSEDED, _R.FAILED}
    ),
    _R.COMPLETE: frozenset({_R.INFERRED, _R.EXCLUDED, _R.NOT_ASSESSED, _R.FAILED, _R.SUPERSEDED}),
    _R.INFERRED: frozenset({_R.ENCODED, _R.NOT_ASSESSED, _R.FAILED, _R.SUPERSEDED}),
    _R.ENCODED: frozenset({_R.SUPERSEDED}),
    _R.NOT_ASSESSED: frozenset({_R.SUPERSEDED, _R.FAILED}),
    _R.EXCLUDED: frozenset({_R.SUPERSEDED}),
    _R.FAILED: frozenset({_R.SUPERSEDED}),
    _R.SUPERSEDED: frozenset(),
}


class DeliveryState(StrEnum):
    """Where one object stands at one destination."""

    PENDING = "PENDING"
    """Not accepted yet; `next_attempt_at` says when it is tried."""
    ACCEPTED = "ACCEPTED"
    """The destination answered success (or 'already there')."""
    FOUND = "FOUND"
    """The destination answered a query for it."""
    COMMITTED = "COMMITTED"
    """The destination took responsibility (storage commitment)."""
    REJECTED = "REJECTED"
    """The destination will not take it; its words are kept."""
    CANCELLED = "CANCELLED"
    """Not to be sent, or not again: superseded, discarded or recalled."""


_D = DeliveryState

DELIVERY_MOVES: dict[DeliveryState, frozenset[DeliveryState]] = {
    _D.PENDING: frozenset({_D.ACCEPTED, _D.REJECTED, _D.CANCELLED}),
    # PENDING again: the destination says that it does not have it after all. REJECTED: it says so every time.
    # CANCELLED: it says so of what is not wanted there any more.
    _D.ACCEPTED: frozenset({_D.FOUND, _D.COMMITTED, _D.PENDING, _D.REJECTED, _D.CANCELLED}),
    _D.FOUND: frozenset({_D.COMMITTED, _D.PENDING, _D.REJECTED, _D.CANCELLED}),
    _D.COMMITTED: frozenset(),
    _D.REJECTED: frozenset({_D.PENDING, _D.CANCELLED}),
    _D.CANCELLED: frozenset({_D.ACCEPTED}),  # it was on the wire when it was cancelled
}


class IllegalMove(Permanent):
    """A state was asked to change in a way the table does not list: a defect, never bad input."""

    def __init__(self, old: StrEnum, new: StrEnum):
        super().__init__("illegal_move", f"{old} -> {new}")


def check_revision_move(old: RevisionState, new: RevisionState) -> None:
    """Raise IllegalMove unless a revision may go from `old` to `new`."""
    if new not in REVISION_MOVES[old]:
        raise IllegalMove(old, new)


def check_delivery_move(old: DeliveryState, new: DeliveryState) -> None:
    """Raise IllegalMove unless a delivery may go from `old` to `new`."""
    if new not in DELIVERY_MOVES[old]:
        raise IllegalMove(old, new)
