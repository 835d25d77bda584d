"""The transition tables: every listed move is legal, every other raises."""

from itertools import product

import pytest

from ovcf_node.domain.states import (
    DELIVERY_MOVES,
    REVISION_MOVES,
    DeliveryState,
    IllegalMove,
    RevisionState,
    check_delivery_move,
    check_revision_move,
)


def test_tables_know_every_state():
    assert set(REVISION_MOVES) == set(RevisionState)
    assert set(DELIVERY_MOVES) == set(DeliveryState)


@pytest.mark.parametrize(("old", "new"), list(product(RevisionState, repeat=2)))
def test_revision_moves(old, new):
    if new in REVISION_MOVES[old]:
        check_revision_move(old, new)
    else:
        with pytest.raises(IllegalMove):
            check_revision_move(old, new)


@pytest.mark.parametrize(("old", "new"), list(product(DeliveryState, repeat=2)))
def test_delivery_moves(old, new):
    if new in DELIVERY_MOVES[old]:
        check_delivery_move(old, new)
    else:
        with pytest.raises(IllegalMove):
            check_delivery_move(old, new)


def test_what_a_destination_took_responsibility_for_is_never_unsent():
    assert DELIVERY_MOVES[DeliveryState.COMMITTED] == frozenset()
    assert not REVISION_MOVES[RevisionState.SUPERSEDED]
