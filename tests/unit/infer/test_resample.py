"""Resampling keeps patient space: a ramp in LPS comes out as the same ramp from every kind of grid."""

import numpy as np
import pytest

from ovcf_node.domain.volume import OUTSIDE_HU, FrameSource, Volume
from ovcf_node.infer.label import frame_from
from ovcf_node.infer.resample import AIR_HU, crop_grid, isotropic, padded, sample_crop, window

_SLOPE = np.array([2.0, -3.0, 1.5])  # HU per mm along x, y, z


def _affine(slice_step, row_step, column_step, middle, shape):
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([slice_step, row_step, column_step])
    affine[:3, 3] = np.asarray(middle) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def _oblique(angle=0.35):
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return turn @ np.diag([0.9, 0.9, 1.5])[:, [2, 1, 0]]


GRIDS = {
    "axial": ([0, 0, 1.25], [0, 0.8, 0], [0.8, 0, 0], (90, 150, 160)),
    "tilted": ([0, -0.6, 1.9], [0, 0.8, 0], [0.8, 0, 0], (60, 150, 160)),  # sheared: slices shift along the rows
    "sagittal": ([2.0, 0, 0], [0, 0, -0.8], [0, 0.8, 0], (70, 150, 150)),
    "coronal": ([0, 2.0, 0], [0, 0, -0.8], [0.9, 0, 0], (60, 150, 140)),
    "oblique": (*_oblique().T, (70, 130, 140)),
    "thick": ([0, 0, 8.0], [0, 0.8, 0], [0.8, 0, 0], (16, 150, 160)),
}


def _ramp_volume(name):
    *steps, shape = GRIDS[name]
    affine = _affine(*steps, (10.0, -20.0, 300.0), shape)
    index = np.indices(shape).reshape(3, -1)
    points = affine[:3, :3] @ index + affine[:3, 3:]
    hu = (_SLOPE @ (points - np.array([[10.0], [-20.0], [300.0]])) + 100).reshape(shape)
    sources = tuple(FrameSource(f"1.2.{k}") for k in range(shape[0]))
    return Volume(np.round(hu).astype(np.int16), affine, sources, "axial", "1.2")


def _expected(points):
    return (points - np.array([10.0, -20.0, 300.0])) @ _SLOPE + 100


@pytest.mark.parametrize("name", GRIDS)
def test_isotropic_field_keeps_a_ramp_in_patient_space(name):
    volume = _ramp_volume(name)
    field = isotropic(volume, 6.0)
    index = np.argwhere(field.inside)
    error = np.abs(field.hu[field.inside] - _expected(field.point_of(index)))
    # Voxels at the very rim repeat the last block mean: half a block of ramp.
    assert np.percentile(error, 60) < 1.0
    assert error.max() < 3.5 * np.abs(_SLOPE).sum()
    covered = field.inside.sum() * 6.0**3
    volume_mm3 = abs(np.linalg.det(volume.affine[:3, :3])) * volume.hu.size
    assert covered == pytest.approx(volume_mm3, rel=0.15)
    assert np.all(field.hu[~field.inside] == AIR_HU)


@pytest.mark.parametrize("name", GRIDS)
def test_crop_keeps_a_ramp_in_an_oblique_frame(name):
    volume = _ramp_volume(name)
    frame = frame_from(np.array([0.1, -0.3, 1.0]))
    grid = crop_grid(np.array([10.0, -20.0, 300.0]), frame, (1.0, 1.25, 3.0), (30, 32, 16), (14.5, 15.5, 7.5))
    crop = sample_crop(volume, grid)
    assert crop.inside.all()
    points = grid.point_of(np.moveaxis(np.indices(grid.shape), 0, -1))
    assert np.abs(crop.hu - _expected(points)).max() < 2.0


def test_crop_outside_the_field_is_air_and_not_covered():
    volume = _ramp_volume("axial")
    top = volume.affine[2, 3] + 1.25 * 89
    grid = crop_grid(np.array([10.0, -20.0, top]), np.eye(3), (1.0, 1.25, 3.0), (40, 20, 10), (19.5, 9.5, 4.5))
    crop = sample_crop(volume, grid)
    heights = grid.point_of(np.moveaxis(np.indices(grid.shape), 0, -1))[..., 2]
    assert np.array_equal(crop.inside, heights <= top + 0.625)
    assert np.all(crop.hu[~crop.inside] == AIR_HU)
    assert window(crop.hu, (-300.0, 1300.0))[~crop.inside] == pytest.approx(-1.0)
    far = sample_crop(volume, crop_grid(np.array([9e3, 0, 0]), np.eye(3), (1, 1, 1), (4, 4, 4), (2, 2, 2)))
    assert not far.inside.any() and np.all(far.hu == AIR_HU)


def test_padding_of_the_scanner_is_outside_not_tissue():
    volume = _ramp_volume("axial")
    hu = volume.hu.copy()
    hu[:, :, :60] = OUTSIDE_HU
    cut = Volume(hu, volume.affine, volume.sources, "axial", "1.2")
    field = isotropic(cut, 6.0)
    x = field.point_of(np.argwhere(field.inside))[:, 0]
    edge = volume.affine[0, 3] + 0.8 * 59.5
    assert x.min() == pytest.approx(edge, abs=6.0)
    grid = crop_grid(np.array([edge, -20.0, 300.0]), np.eye(3), (1, 1, 1), (6, 6, 20), (2.5, 2.5, 9.5))
    crop = sample_crop(cut, grid)
    assert crop.inside[..., 12:].all() and not crop.inside[..., :8].any()


def test_window_and_padding():
    assert window(np.array([-1000.0, -300.0, 300.0, 900.0, 3000.0]), (-300.0, 900.0)) == pytest.approx([-1, -1, 0, 1, 1])
    grown = padded(np.zeros((5, 8, 9), np.float32), 8, -1.0)
    assert grown.shape == (8, 8, 16) and grown[5:].max() == -1.0


def test_a_plate_that_runs_aslant_between_slices_stays_a_line():
    """An endplate at 20 degrees in slices of 2.5 mm, as a scanner averages it: its ridge does not fall apart into dots."""
    shape, steps = (40, 100, 20), ([0, 0, 2.5], [0, 0.7, 0], [0.7, 0, 0])
    affine = _affine(*steps, (0, 0, 0), shape)
    slope = np.tan(np.radians(20))
    parts = affine[2, 3] + 2.5 * (np.arange(shape[0])[:, None] + np.linspace(-0.5, 0.5, 11))  # across each slice
    y = affine[1, 3] + 0.7 * np.arange(shape[1])
    plate = np.exp(-((parts[:, :, None] - slope * y) / 1.2) ** 2).mean(axis=1)
    hu = np.repeat(np.round(800 * plate)[:, :, None], shape[2], axis=2).astype(np.int16)
    volume = Volume(hu, affine, tuple(FrameSource(f"1.2.{k}") for k in range(shape[0])), "axial", "1.2")
    frame = frame_from(np.array([0, -np.sin(np.radians(20)), np.cos(np.radians(20))]))
    crop = sample_crop(volume, crop_grid(np.zeros(3), frame, (1.0, 1.25, 3.0), (21, 32, 3), (10.0, 15.5, 1.0)))
    ridge = crop.hu[9:12, :, 1].max(axis=0)
    assert ridge.min() > 0.72 * ridge.max()  # linear: 0.64


def test_the_spline_undershoots_nowhere_below_air():
    volume = _ramp_volume("axial")
    hu = np.full(volume.hu.shape, -1000, np.int16)
    hu[42:48] = 3071
    grid = crop_grid(np.array([10.0, -20.0, 300.0]), np.eye(3), (1.0, 1.25, 3.0), (30, 32, 16), (14.5, 15.5, 7.5))
    crop = sample_crop(Volume(hu, volume.affine, volume.sources, "axial", "1.2"), grid)
    assert crop.hu.max() > 3000 and crop.hu.min() == AIR_HU
