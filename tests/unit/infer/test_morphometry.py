"""Heights of analytic bodies in oblique frames; what is not wholly in the field is not measured."""

import numpy as np
import pytest
from synthetic_spine import VERTEBRA_STAGE, Block

from ovcf_node.infer.cement import Cement
from ovcf_node.infer.label import frame_from
from ovcf_node.infer.morphometry import endplates, measure
from ovcf_node.infer.resample import Crop, crop_grid

_FRAME = frame_from(np.array([0.15, -0.4, 0.9]), np.array([0.97, 0.2, 0.0]))


def _crop(block, hu=300.0, inside=None, centre=None, frame=None):
    stage = VERTEBRA_STAGE
    grid = crop_grid(block.centre if centre is None else centre, block.frame if frame is None else frame,
                     stage.spacing_mm, stage.shape, stage.origin_index)
    points = grid.point_of(np.moveaxis(np.indices(grid.shape), 0, -1))
    body = block.body(points, soft=0.6).astype(np.float32)
    whole = np.maximum(body, block.arch(points)).astype(np.float32)
    values = np.where(body > 0.5, hu, 40.0).astype(np.float32)
    return Crop(grid, values, np.ones(grid.shape, bool) if inside is None else inside(points)), whole, body


def _block(anterior=24.0, posterior=26.0, **more):
    return Block("L1", np.array([12.0, -33.0, 410.0]), _FRAME, anterior, posterior, **more)


@pytest.mark.parametrize(("anterior", "posterior"), [(26.0, 26.0), (24.0, 27.0), (14.0, 26.0), (28.0, 23.0)])
def test_heights_of_a_wedge(anterior, posterior):
    block = _block(anterior, posterior)
    found = measure(*_crop(block))
    assert found.complete
    assert found.heights.anterior == pytest.approx(block.height_at(-0.8 * 17.0), abs=0.4)
    assert found.heights.middle == pytest.approx(block.height_at(0.0), abs=0.3)
    assert found.heights.posterior == pytest.approx(block.height_at(0.8 * 17.0), abs=0.4)
    assert found.width == pytest.approx(44.0, abs=2.0)


def test_a_crop_off_centre_and_askew_measures_the_same():
    block = _block(20.0, 26.0)
    turned = frame_from(_FRAME[2] + 0.05 * _FRAME[1], _FRAME[0])
    found = measure(*_crop(block, centre=block.centre + 2.0 * _FRAME[1] - 1.5 * _FRAME[2], frame=turned))
    assert found.heights.anterior == pytest.approx(block.height_at(-13.6), abs=0.5)
    assert found.heights.posterior == pytest.approx(block.height_at(13.6), abs=0.5)
    assert np.linalg.norm(np.array(found.centroid) - block.centre) < 1.0


@pytest.mark.parametrize("lean", [-0.3, -0.15, 0.15, 0.3])
def test_a_wedge_that_leans_in_its_crop_is_measured_along_its_walls(lean):
    """The crop's w is the mean normal of both plates; one sunken plate turns it against the walls, up to 20 degrees."""
    block = _block(14.0, 26.0)
    leaning = frame_from(_FRAME[2] + lean * _FRAME[1], _FRAME[0])
    found = measure(*_crop(block, frame=leaning))
    for name, v in (("anterior", -13.6), ("middle", 0.0), ("posterior", 13.6)):
        assert getattr(found.heights, name) == pytest.approx(block.height_at(v), abs=0.7), name
        superior, inferior = (np.array(end) for end in getattr(found.lines, name))
        assert abs((superior - inferior) @ _FRAME[1]) < 1.0  # upright, as the walls are


def test_height_lines_end_on_the_endplates_in_patient_space():
    block = _block(18.0, 26.0)
    found = measure(*_crop(block))
    for name, v in (("anterior", -13.6), ("middle", 0.0), ("posterior", 13.6)):
        superior, inferior = (np.array(end) for end in getattr(found.lines, name))
        half = block.height_at(v) / 2
        assert superior == pytest.approx(block.centre + np.array([0, v, half]) @ _FRAME, abs=0.7)
        assert inferior == pytest.approx(block.centre + np.array([0, v, -half]) @ _FRAME, abs=0.7)


def test_endplates_cross_between_voxels():
    for height in (24.0, 24.3, 24.6):
        block = _block(height, height)
        _, _, body = _crop(block)
        superior, inferior = endplates(body)
        assert np.nanmedian(superior - inferior) == pytest.approx(height, abs=0.1)
        assert np.isnan(superior[0, 0])


def test_volume_and_trabecular_ct_number():
    block = _block()
    crop, whole, body = _crop(block, hu=150.0)
    rim = (body > 0.5) & (body < 1.0)
    crop.hu[rim] = 900.0  # cortex must not leak into the trabecular mean
    found = measure(crop, whole, body)
    assert found.mean_hu == pytest.approx(150.0, abs=0.1)
    points = crop.grid.point_of(np.moveaxis(np.indices(crop.grid.shape), 0, -1))
    truth = (np.maximum(block.body(points), block.arch(points)) > 0.5).sum() * 3.75 / 1000
    assert found.volume_cm3 == pytest.approx(truth, rel=0.02)
    assert truth == pytest.approx(44 * 34 * 25 / 1000 + 18 * 29 * 14 / 1000, rel=0.1)


@pytest.mark.parametrize(("margin", "complete"), [(5.0, True), (3.5, True), (0.5, False), (-6.0, False)])
def test_a_body_nearer_than_two_millimetres_to_the_edge_is_incomplete(margin, complete):
    block = _block(26.0, 26.0)
    edge = 13.0 + margin
    crop, whole, body = _crop(block, inside=lambda points: (points - block.centre) @ _FRAME[2] < edge)
    whole, body = whole * crop.inside, body * crop.inside
    found = measure(crop, whole, body)
    assert found.complete is complete
    assert (found.heights.middle is not None) is complete
    if margin < 0:
        assert found.volume_cm3 is None


@pytest.mark.parametrize(("row", "complete"), [(1, True), (0, False)])
def test_a_lip_may_come_near_the_edge_of_the_crop_and_not_touch_it(row, complete):
    crop, whole, body = _crop(_block())
    body[36:38, row:12, 14:17] = 1.0
    assert measure(crop, np.maximum(whole, body), body).complete is complete


@pytest.mark.parametrize(("slices", "known"), [(1, True), (8, False)])
def test_a_vertebra_that_is_wider_than_its_crop_has_no_volume(slices, known):
    crop, whole, body = _crop(_block())
    whole[20:20 + 4 * slices, 30:38, :] = 1.0  # a process that runs out of both sides
    assert (measure(crop, whole, body).volume_cm3 is not None) is known


def test_a_cut_spinous_process_leaves_the_body_complete_without_a_volume():
    block = _block()
    crop, whole, body = _crop(block, inside=lambda points: (points - block.centre) @ _FRAME[1] < 30.0)
    found = measure(crop, whole * crop.inside, body)
    assert found.complete and found.volume_cm3 is None and found.heights.anterior is not None


def test_screws_are_metal_calcium_is_not_and_beside_cement_no_ct_number_is_given():
    for place, hu, metal in (((28, 24, 15), 3000.0, True), ((28, 40, 20), 3000.0, True), ((28, 24, 15), 1100.0, False),
                             ((4, 66, 2), 3000.0, False)):
        crop, whole, body = _crop(_block())
        z, y, x = place
        crop.hu[z - 4 : z + 5, y - 4 : y + 5, x - 2 : x + 3] = hu
        found = measure(crop, whole, body)
        assert found.metal is metal, (place, hu)
        assert (found.mean_hu is None) is metal, "metal leaves no CT number to trust"
    crop, whole, body = _crop(_block())
    assert measure(crop, whole, body).mean_hu is not None
    for readable in (True, False):
        found = measure(crop, whole, body, Cement(body > 1, body > 0.5, 0.1, readable))
        assert found.cement and found.metal is not readable and found.mean_hu is None
