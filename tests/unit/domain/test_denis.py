"""The one table: total, and true to Denis."""

from itertools import product

import pytest

from ovcf_node.domain.denis import TABLE, classify


def test_table_covers_every_combination():
    assert set(TABLE) == set(product([False, True], repeat=4))


@pytest.mark.parametrize(
    ("superior", "inferior", "anterior", "denis"),
    [
        (True, True, False, "A"), (True, True, True, "A"), (True, False, False, "B"), (True, False, True, "B"),
        (False, True, False, "C"), (False, True, True, "C"), (False, False, True, "D"), (False, False, False, None),
    ],
)
def test_compression_types(superior, inferior, anterior, denis):
    assert classify(superior=superior, inferior=inferior, anterior=anterior, posterior=False).denis == denis


@pytest.mark.parametrize(("superior", "inferior", "anterior", "ao", "of"), [
    (True, True, False, None, "OF4"), (True, True, True, None, "OF4"), (True, False, False, "A1", "OF2"),
    (True, False, True, "A1", "OF2"), (False, True, False, "A1", "OF2"), (False, True, True, "A1", "OF2"),
    (False, False, True, None, None),
])
def test_what_the_signs_cannot_tell_is_not_named(superior, inferior, anterior, ao, of):
    found = classify(superior=superior, inferior=inferior, anterior=anterior, posterior=False)
    assert (found.ao, found.of) == (ao, of)


@pytest.mark.parametrize(("superior", "inferior", "anterior"), list(product([False, True], repeat=3)))
def test_posterior_wall_is_never_a_compression_type(superior, inferior, anterior):
    found = classify(superior=superior, inferior=inferior, anterior=anterior, posterior=True)
    assert found.fracture and found.denis is None and found.review
