"""Cement is found in a body, and the picture without it shows the bone around: nothing else changes."""

import numpy as np
import pytest
from synthetic_spine import VERTEBRA_STAGE

from ovcf_node.infer.cement import cement_of, without_cement
from ovcf_node.infer.resample import Crop, crop_grid

_BODY = (slice(15, 41), slice(10, 38), slice(8, 24))  # 26 x 35 x 48 mm


def _crop(hu: float, where: tuple[slice, slice, slice]) -> tuple[Crop, np.ndarray, np.ndarray]:
    stage = VERTEBRA_STAGE
    grid = crop_grid(np.zeros(3), np.eye(3), stage.spacing_mm, stage.shape, stage.origin_index)
    body = np.zeros(grid.shape, dtype=bool)
    body[_BODY] = True
    values = np.where(body, np.random.default_rng(3).normal(150.0, 20.0, grid.shape), 40.0).astype(np.float32)
    values[where] = hu
    return Crop(grid, values, np.ones(grid.shape, bool)), body, body


_MIDDLE, _TOP = (slice(23, 33), slice(20, 28), slice(14, 18)), (slice(33, 41), slice(10, 38), slice(8, 24))


@pytest.mark.parametrize(("hu", "where", "found"), [
    (1900.0, _MIDDLE, True), (1100.0, _MIDDLE, False), (3071.0, (slice(0, 4), slice(60, 72), slice(0, 32)), False),
    (1900.0, (slice(23, 27), slice(20, 24), slice(14, 18)), False),
])
def test_cement_is_bright_in_the_body_and_more_than_a_spot(hu, where, found):
    crop, vertebra, body = _crop(hu, where)
    cement = cement_of(crop, vertebra, body)
    assert (cement is not None) is found
    if cement is not None:
        assert cement.hole[where].all() and not (cement.hole & ~vertebra).any() and not (cement.bone & cement.hole).any()


@pytest.mark.parametrize(("where", "hidden"), [
    (_MIDDLE, (0.0, 0.0)), (_TOP, (0.95, 1.0)), ((slice(36, 41), slice(12, 38), slice(10, 23)), (0.75, 1.0)),  # a plate
    ((slice(17, 39), slice(10, 14), slice(9, 23)), (0.8, 1.0)), (_BODY, (1.0, 1.0)),  # the front wall; everything
])
def test_what_cement_hides_of_a_plate_or_wall(where, hidden):
    cement = cement_of(*_crop(1900.0, where))
    assert hidden[0] <= cement.hidden <= hidden[1] and cement.readable == (where == _MIDDLE)


def test_dense_plates_of_an_old_deformity_are_no_cement():
    crop, vertebra, body = _crop(1900.0, (slice(38, 41), slice(10, 38), slice(8, 24)))
    crop.hu[15:18, 10:38, 8:24] = 1900.0  # 10 cm3 of bone, 3 mm thick
    assert cement_of(crop, vertebra, body) is None
    crop.hu[_MIDDLE] = 1900.0
    assert cement_of(crop, vertebra, body) is not None


def test_a_leak_hides_the_plate_it_lies_on():
    leak = (slice(41, 45), slice(12, 36), slice(9, 23))
    crop, vertebra, body = _crop(1900.0, _MIDDLE)
    crop.hu[leak] = 1900.0
    assert cement_of(crop, vertebra, body).hidden > 0.5


def test_as_bright_an_arch_is_an_implant():
    crop, vertebra, body = _crop(1900.0, _MIDDLE)
    arch = (slice(26, 32), slice(38, 60), slice(12, 16))
    vertebra = vertebra.copy()
    vertebra[arch] = True
    assert cement_of(crop, vertebra, body).readable
    crop.hu[arch] = 1900.0
    assert not cement_of(crop, vertebra, body).readable


def test_the_hole_shows_the_bone_around_and_all_else_stays():
    crop, vertebra, body = _crop(1900.0, _MIDDLE)
    cement = cement_of(crop, vertebra, body)
    before = crop.hu.copy()
    hu = without_cement(crop.hu, cement.hole, cement.bone, crop.grid.spacing)
    assert np.abs(hu[cement.hole] - 150.0).max() < 15.0
    assert np.array_equal(hu[~cement.hole], crop.hu[~cement.hole]) and np.array_equal(before, crop.hu)


def test_a_body_full_of_cement_is_filled_without_bone_to_take_from():
    crop, vertebra, body = _crop(1900.0, _BODY)
    cement = cement_of(crop, vertebra, body)
    hu = without_cement(crop.hu, cement.hole, cement.bone, crop.grid.spacing)
    assert not cement.bone.any() and np.isfinite(hu).all() and hu[body].max() < 1500.0
