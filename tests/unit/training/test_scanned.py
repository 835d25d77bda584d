"""Crops from real shapes: a made-up label map stands in for the CT, so that no data is needed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cases  # noqa: E402
import phantoms as P  # noqa: E402
from phantoms.atlas import STEP, TISSUE_NAMES, Atlas, centres_of  # noqa: E402
from phantoms.meshes import _filled  # noqa: E402
from phantoms.norms import LEVELS  # noqa: E402
from phantoms.scanned import Pose, render_scanned  # noqa: E402
from phantoms.solids import solid_of  # noqa: E402


@pytest.fixture(scope="module")
def solid():
    """L2 of a column of elliptic bodies (44 x 32 x 27 mm) with a bar for an arch."""
    torch.set_num_threads(1)
    shape = (140, 100, 90)
    z, y, x = (np.indices(shape).T * STEP).T
    levels, body = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    for k, level in enumerate(("L3", "L2", "L1", "T12")):
        middle = 30 + 37 * k
        inside = (np.hypot((x - 67) / 22, (y - 50) / 16) < 1) & (abs(z - middle) < 13.5)
        arch = (abs(x - 67) < 30) & (y > 80) & (y < 92) & (abs(z - middle) < 8)
        levels[inside | arch], body[inside] = LEVELS.index(level) + 1, True
    tissue = np.full(shape, TISSUE_NAMES.index("fat"), np.uint8)
    tissue[levels > 0] = TISSUE_NAMES.index("spongy")
    return solid_of("L2", Atlas(tissue, levels, body, centres_of(levels, body)), bare=True)


def still(vertebra):
    """The same vertebra in its own size, not warped."""
    from dataclasses import replace

    return replace(vertebra, pose=Pose((1.0, 1.0, 1.0), False, torch.zeros(1, 3, 2, 2, 2)), centre_mm=(0.0, 0.0, 0.0))


def shown(vertebra):
    grid = P.crop_grid(vertebra).refined((1, 1, 2))
    return render_scanned(vertebra, grid, P.clean_acquisition(), np.random.default_rng(1))


def test_an_unhurt_shape_comes_back_in_size(solid):
    hu, whole, body, region = shown(still(P.sample_scanned(np.random.default_rng(3), solid, "plain")))
    assert region is None or not region.any()
    assert hu.shape == (56, 72, 64) and (body & ~whole).sum() == 0
    assert np.pi * 22 * 16 * 27 == pytest.approx(float(body.sum()) * 1.0 * 1.25 * 1.5, rel=0.08)
    assert float(hu[27, 24, 30:34].mean()) > 0 > float(hu[27, :4].mean())  # marrow in the middle, fat in front


@pytest.mark.parametrize(("kind", "falls"), [("A", True), ("B", True), ("C", True), ("old", True), ("plain", False)])
def test_damage_lowers_the_body_and_marks_only_recent_breaks(solid, kind, falls):
    vertebra = still(P.sample_scanned(np.random.default_rng(5), solid, kind))
    _, _, body, region = shown(vertebra)
    _, _, before, _ = shown(still(P.sample_scanned(np.random.default_rng(3), solid, "plain")))
    ratio = float(body.sum() / before.sum())
    assert ratio < 0.97 if falls else ratio > 0.97
    recent = kind in "ABC"
    assert bool(region is not None and region.any()) == recent == any(vertebra.evidence.values())
    if recent:
        rows = torch.nonzero(region & body)[:, 0].float()
        assert vertebra.evidence["superior"] == bool((rows > 30).sum() > 20) or kind == "C"


def test_the_same_seed_gives_the_same_crops(solid):
    one, two = (cases.scanned_crops(7, [solid], count=2) for _ in range(2))
    assert all(np.array_equal(one[k], two[k]) for k in one)
    assert one["hu"].shape == (2, 56, 72, 32)


def test_a_closed_mesh_is_filled():
    corners = np.array([[x, y, z] for x in (3, 9) for y in (2, 8) for z in (1, 7)], float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    inside = _filled(corners, faces, (12, 12, 12))
    assert inside.sum() == 6**3 and inside[4, 5, 6] and not inside[9, 5, 6]
