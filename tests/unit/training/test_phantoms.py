"""The phantom generator: determinism, truth that agrees with the picture, anatomy in order, valid DICOM."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dicom_peers import program

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "training"))

import phantoms as P  # noqa: E402
from phantoms.backdrop import Grains  # noqa: E402
from phantoms.canvas import Canvas  # noqa: E402
from phantoms.shape import BAND_Q, HEIGHT_S  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def demo():
    return P.sample_case(1, profile="demo")


def coarse_grid(case, spacing=3.0):
    low, high = case.find("S3").centre_mm[2], case.find("T9").centre_mm[2]
    return P.axial_grid(case, spacing=spacing, slice_spacing=spacing, field_mm=(130, 150), z_range=(low, high))


def test_same_seed_same_case_and_picture():
    case, again = P.sample_case(4), P.sample_case(4)
    assert case == again
    assert P.sample_acquisition(4) == P.sample_acquisition(4)
    assert P.sample_case(5) != case
    grid, acq = coarse_grid(case, 6.0), P.sample_acquisition(4)
    one, two = P.render(case, grid, acq), P.render(again, grid, acq)
    assert torch.equal(one.hu, two.hu)
    assert torch.equal(one.labels, two.labels)
    assert not torch.equal(one.hu, P.render(case, grid, acq, seed=1).hu)


def test_labels_run_from_head_to_foot(demo):
    grid = coarse_grid(demo)
    made = P.render(demo, grid, P.clean_acquisition())
    labels, body = made.labels.numpy(), made.body.numpy()
    heights = []
    for k in range(1, len(P.LABELS)):
        rows = np.nonzero((labels == k) & body)[0]
        assert rows.size > 0, P.LABELS[k]
        heights.append(rows.mean())
    assert heights == sorted(heights, reverse=True)
    assert ((made.instance.numpy() > 0) == (labels > 0)).all()
    assert (labels[body] > 0).all()


def test_centres_lie_in_their_own_bodies():
    for seed in range(3):
        case = P.sample_case(seed)
        made = P.render(case, coarse_grid(case), P.sample_acquisition(seed))
        for number, v in enumerate(case.vertebrae, start=1):
            index = np.rint(made.grid.index_of(np.asarray(v.centre_mm))).astype(int)
            if (index >= 2).all() and (index < np.array(made.grid.shape) - 2).all():
                assert int(made.instance[tuple(index)]) == number, (seed, v.level)


def test_truth_is_consistent():
    letters = {"A": (True, True), "B": (True, False), "C": (False, True), "D": (False, False)}
    seen = set()
    for seed in range(50):
        for v in P.sample_case(seed).vertebrae:
            assert v.fracture == (v.denis is not None)
            assert not (v.fracture and v.old_deformity)
            assert np.allclose(np.asarray(v.frame) @ np.asarray(v.frame).T, np.eye(3), atol=1e-9)
            assert np.allclose(np.cross(v.frame[0], v.frame[1]), v.frame[2], atol=1e-9)
            loss = max(0.0, *(1 - v.heights_mm[k] / v.expected_mm[k] for k in v.heights_mm))
            assert loss == pytest.approx(v.height_loss)
            if v.fracture:
                seen.add(v.denis)
                assert (v.evidence["superior"], v.evidence["inferior"]) == letters[v.denis]
                assert v.denis != "D" or v.evidence["anterior"]
                assert 0.05 < v.height_loss < 0.75
            else:
                assert not any(v.evidence.values())
    assert seen == set("ABCD")


def measured_heights(body: np.ndarray, v) -> dict[str, float]:
    """Heights of a crop's body mask (0.5 mm along w) by the definition of the clinical reference 2.1."""
    (dw, dv, du), origin = (0.5, *P.grids.CROP_SPACING[1:]), P.grids.CROP_ORIGIN
    shift = (np.asarray(v.centre_mm) - np.asarray(v.origin_mm)) @ np.asarray(v.frame).T
    out = {}
    for name, s in zip(("anterior", "middle", "posterior"), HEIGHT_S, strict=False):
        column = round((s * v.body.half_depth - shift[1]) / dv + origin[1])
        half = BAND_Q * v.body.half_width / du
        band = slice(int(np.ceil(origin[2] - half)), int(np.floor(origin[2] + half)) + 1)
        out[name] = float(body[:, column, band].sum(axis=0).mean() * dw)
    return out


def test_heights_agree_with_the_mask(demo):
    acq = P.clean_acquisition()
    cases = [(demo, "L1"), (demo, "T12"), (demo, "L3"), *((P.sample_case(s), "L2") for s in range(2))]
    for case, level in cases:
        v = case.find(level)
        made = P.render(case, P.crop_grid(v).refined((2, 1, 1)), acq)
        own = made.body & (made.instance == case.vertebrae.index(v) + 1)
        for name, value in measured_heights(own.numpy(), v).items():
            assert value == pytest.approx(v.heights_mm[name], abs=1.0 if v.fracture else 0.6), (level, name)


def test_fracture_region_is_where_the_fracture_is(demo):
    acq = P.clean_acquisition()
    broken, sound = (P.render_crop(demo, demo.find(level), acq) for level in ("L1", "L3"))
    region = broken.fracture
    assert int(region.sum()) > 100
    assert int(sound.fracture.sum()) == 0
    inside = broken.body & (broken.instance == demo.vertebrae.index(demo.find("L1")) + 1)
    deep = inside & ~region
    deep[30:] = False
    assert float(broken.hu[region & inside].mean()) > float(broken.hu[deep].mean()) + 40
    twin = P.healthy_twin(demo, demo.vertebrae.index(demo.find("L1")))
    healed = P.render_crop(twin, demo.find("L1"), acq)
    assert int(healed.fracture.sum()) == 0
    assert int(healed.body.sum()) > int(broken.body.sum())


def test_grids():
    case = P.sample_case(3)
    v = case.find("L2")
    grid = P.crop_grid(v)
    assert grid.shape == (56, 72, 32)
    assert np.allclose(grid.index_of(np.asarray(v.centre_mm)), (27.5, 24.0, 15.5))
    fine = grid.refined((1, 1, 2))
    pairs = (fine.point_of((3, 4, 10)) + fine.point_of((3, 4, 11))) / 2
    assert np.allclose(pairs, grid.point_of((3, 4, 5)))
    rng = np.random.default_rng(0)
    sizes = [P.sample_field(rng, case, 3.0).shape[2] * 3 for _ in range(40)]
    assert min(sizes) < 150 and max(sizes) > 250


@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 1, 2)], ids=["axial", "sagittal"])
def test_texture_along_the_axes_is_the_texture_point_by_point(axes):
    """Five periods out on each side; a grid whose first axis is not z is read point by point."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = 0.0, -700.0
    for index, axis in enumerate(axes):
        affine[axis, index] = 1400.0 / 12
    canvas = Canvas(P.Grid(affine, (12, 12, 12)), "cpu", 0.0)
    cube = torch.randn((1, 1, 32, 32, 32), generator=torch.Generator().manual_seed(5))
    read = Grains(canvas, (cube, cube), (9.0, 9.0)).coarse(canvas.full())
    points = torch.tensor(P.Grid(affine, (12, 12, 12)).point_of(np.moveaxis(np.indices((12, 12, 12)), 0, -1)) / (15.5 * 9.0))
    wanted = torch.nn.functional.grid_sample(cube.double(), points[None], padding_mode="reflection", align_corners=True)
    assert torch.allclose(read.double(), wanted[0, 0] * min(1.0, 1.5 * 9.0 / canvas.ramp), atol=1e-3)


def test_tissues_have_their_hu(demo):
    made = P.render(demo, coarse_grid(demo), P.clean_acquisition())
    v = demo.find("L3")
    index = np.rint(made.grid.index_of(np.asarray(v.centre_mm))).astype(int)
    core = made.hu[index[0] - 1 : index[0] + 2, index[1] - 2 : index[1] + 2, index[2] - 2 : index[2] + 3]
    assert abs(float(core.mean()) - demo.trabecular_hu) < 30


def test_written_slices_are_valid(tmp_path, demo):
    z = demo.find("L3").centre_mm[2]
    axial = P.axial_grid(demo, spacing=1.0, slice_spacing=3.0, field_mm=(90, 80), z_range=(z, z + 6))
    for name, grid in (("axial", axial), ("oblique", P.crop_grid(demo.find("L1")))):
        paths = P.write_series(tmp_path / name, torch.zeros(grid.shape), grid, seed=2)
        assert len(paths) == grid.shape[0]
        answer = subprocess.run([program("dciodvfy"), str(paths[0])], capture_output=True, text=True, check=False)
        assert "Error" not in answer.stdout + answer.stderr


def test_written_series_reads_back(tmp_path, demo):
    pydicom = pytest.importorskip("pydicom")
    z = demo.find("L3").centre_mm[2]
    grid = P.axial_grid(demo, spacing=1.5, slice_spacing=4.0, field_mm=(90, 60), z_range=(z - 6, z + 6))
    hu = P.render(demo, grid, P.clean_acquisition(), truth=False).hu.numpy()
    files = [pydicom.dcmread(p) for p in P.write_series(tmp_path, hu, grid, seed=2)]
    assert len({f.SOPInstanceUID for f in files}) == 3 and len({f.SeriesInstanceUID for f in files}) == 1
    files.sort(key=lambda f: float(f.ImagePositionPatient[2]))
    back = np.stack([f.pixel_array * float(f.RescaleSlope) + float(f.RescaleIntercept) for f in files])
    assert np.abs(back - np.clip(hu, -1024, None)).max() <= 0.5
    assert np.allclose([float(x) for x in files[1].ImagePositionPatient], grid.point_of((1, 0, 0)), atol=1e-4)


def test_label_maps_give_the_same_truth(shared_data, monkeypatch):
    monkeypatch.setenv("SHAPES", str(shared_data))
    made, truth = P.label_map_case(3)
    for item in truth:
        index = np.rint(made.grid.index_of(np.asarray(item.centre_mm))).astype(int)
        if (index >= 1).all() and (index < np.array(made.grid.shape) - 1).all() and item.level not in ("S4", "S5"):
            assert int(made.instance[tuple(index)]) == item.index + 1, item.level
    assert torch.equal(made.hu, P.label_map_case(3)[0].hu)
