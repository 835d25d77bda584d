"""What training patients have on top of the others (`phantoms/additions.py`), and that nobody else changed."""

import hashlib
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "training"))

import cases  # noqa: E402
import phantoms as P  # noqa: E402
from fields import coarse  # noqa: E402
from phantoms.canvas import Canvas  # noqa: E402
from phantoms.damage import fracture  # noqa: E402
from phantoms.lytic import lytic_fracture  # noqa: E402
from phantoms.metal import hardware, paint_streaks  # noqa: E402
from phantoms.norms import NECK, count_of, label_index  # noqa: E402
from phantoms.shape import Damage, Details, EndplateDamage, endplates, heights  # noqa: E402
from phantoms.soft import Capsule  # noqa: E402
from phantoms.vertebra import body_field, discontinuities, marrow_hu  # noqa: E402

#: Of the code before there were additions: digest of the patient; mean and SD (HU), some voxels and the sum of labels of
#: a coarse series from the pelvis to above T1; first voxel (LPS mm) and shape of a sampled field.
BEFORE = {
    0: ("260ed8515f1583a8", (-351.32, 415.09), (-28.4, 200.1, -59.2, 35.7, 60.0, -855.5), 866,
        (-40.6, -124.48, -332.09), (39, 54, 59)),
    1: ("62e0fa5dcd795b35", (-594.76, 454.1), (-1000.2, -9.7, -999.3, 42.7, -1002.6, -112.8), 788,
        (-164.96, -68.08, -477.21), (134, 63, 91)),
    2: ("5cc805b2ebdca714", (-393.16, 431.46), (-103.7, -63.7, -102.1, 38.6, 61.8, 4.3), 1486,
        (-103.38, -57.24, -470.92), (90, 40, 51)),
}
TORSO = ("z0", "step", "half_width", "half_depth", "centre_x", "centre_y", "cavity_shift", "fat_mm", "wall_mm", "lung_z",
         "square", "streaks", "table_gap")  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def patients():
    return [P.sample_case(seed) for seed in range(150)]


LATER = {"turn", "fray", "fray_phase", "band_flames"}  # fields that came after the digests; zero where nothing is varied


def text_of(value) -> str:
    """Plain text of nested values, floats to a micrometre."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, (tuple, list)):
        return "(" + ",".join(map(text_of, value)) + ")"
    if isinstance(value, dict):
        return "(" + ",".join(f"{k}={text_of(x)}" for k, x in value.items()) + ")"
    if is_dataclass(value):
        held = {f.name: getattr(value, f.name) for f in fields(value)}
        assert not any(held.get(name, 0) for name in LATER)
        return type(value).__name__ + "(" + ",".join(text_of(x) for name, x in held.items() if name not in LATER) + ")"
    return str(value)


@pytest.mark.parametrize("seed", BEFORE)
def test_patients_of_the_study_are_those_of_before(seed):
    digest, moments, voxels, sum_of_labels, first, shape = BEFORE[seed]
    case, acq = P.sample_case(seed, profile="study"), P.sample_acquisition(seed, profile="study")
    torso = [getattr(case.torso, name) for name in TORSO]
    text = text_of((case.vertebrae, case.discs, torso, case.scene.soft, case.scene.bones))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest
    assert case.neck == () and case.additions == type(case.additions)()
    low, high = case.find("S3").centre_mm[2], case.find("T1").centre_mm[2] + 60
    made = P.render(case, P.axial_grid(case, spacing=12, slice_spacing=24, field_mm=(360, 240), z_range=(low, high)), acq)
    assert (float(made.hu.mean()), float(made.hu.std())) == pytest.approx(moments, abs=0.02)
    assert made.hu.reshape(-1)[5::1501][:6].tolist() == pytest.approx(voxels, abs=0.2)
    assert int(made.labels.long().sum()) == sum_of_labels
    field = P.sample_field(np.random.default_rng(seed), case, 3.0)
    assert field.point_of((0, 0, 0)) == pytest.approx(first, abs=0.01)
    assert field.shape == shape


def test_a_neck_stands_on_t1(patients):
    for case in patients[:20]:
        assert tuple(v.level for v in case.neck) == NECK
        centres = np.array([v.centre_mm for v in (*case.neck, case.vertebrae[0])])
        steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
        assert (np.diff(centres[:, 2]) < 0).all() and steps.min() > 9 and steps.max() < 26
        assert case.shown[: len(case.vertebrae)] == case.vertebrae  # instance numbers of the others stay
    assert [count_of(level) for level in (*NECK[-2:], "T1")] == [-10, -9, -8]
    assert {label_index(level) for level in NECK} == {P.LABELS.index("above")}


def test_neck_vertebrae_are_labelled_where_they_are_bone(patients):
    case = patients[12]
    low, high = case.find("T2").centre_mm[2], case.neck[0].centre_mm[2]
    grid = P.axial_grid(
        case, spacing=2.0, slice_spacing=2.0, field_mm=(120, 110), z_range=(low, high), centre=case.neck[2].centre_mm[:2]
    )
    made = P.render(case, grid, P.clean_acquisition())
    for number, v in enumerate(case.shown, start=1):
        if v.level in NECK:
            own = made.instance == number
            assert int(own.sum()) > 300, v.level
            assert set(made.labels[own].tolist()) == {P.LABELS.index("above")}
            assert float(made.hu[own].mean()) > 150
    index = np.rint(grid.index_of(np.asarray(case.neck[2].centre_mm))).astype(int)
    assert int(made.instance[tuple(index)]) == len(case.vertebrae) + 3


def test_a_field_sample_counts_the_neck_beyond_t1(patients):
    case = patients[12]
    low, high = case.find("T2").centre_mm[2], case.neck[2].centre_mm[2]
    grid = P.axial_grid(case, spacing=3.0, slice_spacing=3.0, field_mm=(84, 84), z_range=(low, high))
    sample = coarse(P.render(case, grid, P.clean_acquisition()), case.shown, False)
    row = len(case.vertebrae) + NECK.index("C6")
    found = np.argwhere((sample["instance"] == row + 1) & (sample["body"] > 127))
    assert sample["level"][row] == -10
    assert np.linalg.norm(found.mean(0) - sample["centres"][row]) * 6 < 6


def test_fields_reach_the_neck_and_end_at_c3(patients):
    tops = []
    for seed, case in enumerate(patients):
        grid = P.sample_field(np.random.default_rng([seed, 1]), case, 3.0)
        top = grid.point_of((grid.shape[0] - 0.5, 0, 0))[2]
        tops.append((top - case.find("T1").centre_mm[2]) / (case.neck[0].centre_mm[2] - case.find("T1").centre_mm[2]))
    reaching = [t for t in tops if t > 0.1]
    assert 4 <= len(reaching) <= 30
    assert max(tops) < 1.1 and np.ptp(reaching) > 0.4


def test_padding_is_a_constant_outside_a_circle_and_has_no_truth():
    scans = [P.sample_acquisition(seed) for seed in range(200)]
    assert {a.padding_hu for a in scans if a.circle} == {-1024.0, -2000.0}
    assert 0.1 < np.mean([a.circle > 0 for a in scans]) < 0.25
    assert not any(P.sample_acquisition(seed, profile="study").circle for seed in range(50))
    case = P.sample_case(0, profile="study")
    z = case.find("L3").centre_mm[2]
    grid = P.axial_grid(case, spacing=3.0, slice_spacing=3.0, field_mm=(96, 96), z_range=(z, z + 9))
    plain = P.sample_acquisition(0, profile="study")
    whole, padded = (P.render(case, grid, a) for a in (plain, replace(plain, circle=0.6, padding_hu=-2000.0)))
    y, x = np.mgrid[:32, :32] - 15.5
    outside = torch.from_numpy(np.hypot(y, x) > 0.6 * 16).expand(3, -1, -1)
    assert (padded.hu[outside] == -2000).all()
    assert torch.equal(padded.hu[~outside], whole.hu[~outside])
    assert int(padded.labels[outside].sum()) == 0 < int(whole.labels[outside].sum())
    crop = P.render_crop(case, case.find("L3"), replace(plain, circle=0.6, padding_hu=-2000.0))
    assert float(crop.hu.min()) > -1200  # a circle belongs to a series, not to a vertebra


def test_clips_are_small_metal_inside_the_abdomen(patients):
    clipped = [case for case in patients if any(p.tissue == "metal" for p in case.additions.last)]
    assert 6 <= len(clipped) <= 30
    for case in clipped:
        parts = [p for p in case.additions.last if p.tissue == "metal"]
        assert len(parts) >= 3
        for part in parts:
            assert 2 < np.linalg.norm(np.subtract(part.b, part.a)) + 2 * part.ra < 12
            reach = np.subtract(part.a, case.find("L2").centre_mm)
            assert np.abs(reach[:2]).max() < 150 and abs(reach[2]) < 150


def test_streaks_lie_in_the_slices_of_metal_and_darken_its_long_axis():
    affine = np.array([[0, 0, 2.0, -79], [0, 2.0, 0, -79], [2.0, 0, 0, -12], [0, 0, 0, 1]])
    canvas = Canvas(P.Grid(affine, (13, 80, 80)), "cpu", 50.0)
    screw = Capsule("metal", (-20.0, 0.0, 0.0), (20.0, 0.0, 0.0), 2.5, 2.5)
    paint_streaks(canvas, [screw], 1.0, seed=3)
    change = (canvas.hu - 50).abs()
    assert float(change[6].mean()) > 10 and float(change[6, :, 0].max()) < 40  # they fade with distance
    assert float(change[[0, 1, 11, 12]].max()) < 1
    ends = canvas.hu[6, 39:41, [22, 57]]  # 5 mm beyond both ends of the screw
    assert float(ends.mean()) < -50
    alone = canvas.hu.clone()
    paint_streaks(canvas, [replace(screw, a=(-20.0, 30.0, 9.0), b=(20.0, 30.0, 9.0))], 0.0, seed=3)
    assert torch.equal(canvas.hu, alone)


def test_study_scans_and_cement_have_no_streaks(patients):
    assert not any(P.sample_acquisition(seed, profile="study").metal for seed in range(50))
    scans = P.clean_acquisition(), replace(P.clean_acquisition(), metal=1.0)
    for case in patients:
        parts = hardware(case)
        if parts and {p.tissue for p in (*parts, *case.additions.last)} == {"cement"}:
            z = parts[0].a[2]
            grid = P.axial_grid(case, spacing=3.0, slice_spacing=2.0, field_mm=(120, 120), z_range=(z - 1, z + 1))
            plain, loud = (P.render(case, grid, acq, truth=False).hu for acq in scans)
            assert torch.equal(plain, loud)
            return
    raise AssertionError("no patient with cement alone")


def test_lytic_breaks_are_rare_and_typed_by_their_plates(patients):
    letters = {"A": (True, True), "B": (True, False), "C": (False, True)}
    seen = [
        (case, v)
        for case in patients
        for v in case.vertebrae
        if v.fracture and v.mimic == "lesion" and v.body.damage.anterior is None
    ]
    assert 2 <= len(seen) <= 12
    assert {case.seed for case, _ in seen} > {11, 51}
    rng, healthy = np.random.default_rng(5), replace(patients[0].find("L2").body, damage=Damage())
    for body, evidence, denis in (lytic_fracture(rng, healthy) for _ in range(60)):
        assert (evidence["superior"], evidence["inferior"]) == letters[denis]
        assert evidence["posterior"] == (body.damage.posterior is not None)
        loss = max(1 - a / b for a, b in zip(heights(body), heights(healthy), strict=True))
        assert 0.1 < loss < 0.7
        assert min(p.amount for p in (body.damage.superior, body.damage.inferior) if p) >= 2.3


def test_a_lytic_break_shows_a_hole_and_its_region(patients):
    case, level = patients[51], "T12"
    v = case.find(level)
    q, s, w, radius = v.body.details.lesion
    made = P.render_crop(case, v, P.clean_acquisition())
    where = np.array([q * v.body.half_width, s * v.body.half_depth, w * v.body.r0]) @ np.asarray(v.frame) + v.origin_mm
    index = tuple(np.rint(made.grid.index_of(where)).astype(int))
    assert float(made.hu[index]) < 40 < case.trabecular_hu - 20
    assert int(made.fracture.sum()) > 50 and radius > 6


def test_thighs_hold_their_femora_and_nothing_lies_between_them(patients):
    legged = [case for case in patients if case.additions.legs]
    assert 25 <= len(legged) <= 50
    for case in legged[:3]:
        legs = case.additions.legs
        shafts = [p for p in case.additions.last if p.tissue == "cortex"]
        z = legs.top_z - 40.0
        middle = np.mean(legs.middles, axis=0)
        grid = P.axial_grid(
            case, spacing=4.0, slice_spacing=4.0, field_mm=(440, 300), z_range=(z - 2, z + 2), centre=tuple(middle)
        )
        hu = P.render(case, grid, P.clean_acquisition(), truth=False).hu[0]
        at = lambda x, y, grid=grid, z=z: tuple(np.rint(grid.index_of(np.array([x, y, z]))).astype(int)[1:])  # noqa: E731
        assert float(hu[at(*middle)]) < -800  # air between them
        for shaft in shafts:
            share = (z - shaft.a[2]) / (shaft.b[2] - shaft.a[2])
            x, y, _ = np.add(shaft.a, share * np.subtract(shaft.b, shaft.a))
            row, column = at(x, y)
            around = hu[row - 5 : row + 6, column - 5 : column + 6]
            assert float(around.max()) > 500 and float(around[5, 5]) < 100  # cortex around marrow
            assert float(around.min()) > -200  # inside the skin


def test_fields_reach_the_femoral_shafts(patients):
    depths = []
    for seed, case in enumerate(patients):
        grid = P.sample_field(np.random.default_rng([seed, 1]), case, 3.0)
        depths.append(case.find("S5").centre_mm[2] - grid.point_of((-0.5, 0, 0))[2])
    deep = [d for d, case in zip(depths, patients, strict=True) if case.additions.legs and d > 90]
    assert len(deep) >= 3 and 120 < max(deep) < 185
    assert max(d for d, case in zip(depths, patients, strict=True) if not case.additions.legs) < 122


def test_varied_fractures_are_frayed_uneven_and_seen_to_break(patients):
    healthy, rng = replace(patients[0].find("L2").body, damage=Damage()), np.random.default_rng(3)
    draw = lambda varied: fracture(rng, healthy, "A", 0.12, varied=varied)[0].damage  # noqa: E731
    plates = {k: [p for d in [draw(k) for _ in range(150)] for p in (d.superior, d.inferior)] for k in (False, True)}
    seen = {k: [p for p in plates[k] if p.line or p.band_hu or p.ripple] for k in plates}  # the others are undated
    assert min(p.amount for p in seen[False]) >= 2.3 and not any(p.turn or p.fray for p in plates[False])
    assert 1.3 <= min(p.amount for p in seen[True]) < 2.0
    assert min(p.amount for p in plates[True] if p not in seen[True]) > 2.0  # nothing shallow without a sign of a break
    assert 0.2 < np.mean([p.turn != 0 for p in seen[True]]) < 0.5 and 0.35 < np.mean([p.fray > 0 for p in seen[True]]) < 0.65


def test_osteophytes_date_no_varied_fracture_without_signs(patients):
    healthy, rng = replace(patients[0].find("L2").body, damage=Damage(), details=Details()), np.random.default_rng(4)
    drawn = {k: [fracture(rng, healthy, "B", 0.3, varied=k)[0] for _ in range(150)] for k in (False, True)}
    smooth = [b for b in drawn[True] if not (p := b.damage.superior).line and not p.band_hu and not p.ripple]
    assert 0.1 < np.mean([b.details.lip > 0 and b.details.lip_inferior > 0 for b in smooth]) < 0.45
    assert all(b.details.endplate_factor == 1 and b.details.sclerosis_hu == 0 for b in smooth)
    assert not any(b.details.lip for b in drawn[False])


def test_varied_plates_that_sink_from_rim_to_rim_are_seen_to_break(patients):
    healthy, rng = replace(patients[0].find("L2").body, damage=Damage(), details=Details()), np.random.default_rng(5)
    drawn = [fracture(rng, healthy, "ABC"[k % 3], 0.4, varied=True)[0].damage for k in range(300)]
    plates = [p for d in drawn for p in (d.superior, d.inferior) if p]
    recent = [p for p in plates if p.line or p.band_hu or p.ripple]
    whole = [p for p in plates if p.front <= -1.6 and p.back == 1.7]  # undated ones end before the rim or beyond it
    assert 0.1 < len(whole) / len(recent) < 0.3
    assert all(p.line or p.band_hu > 0 or p.ripple > 0.35 for p in whole)
    assert 0.5 < np.mean([p.band_flames > 0 for p in recent if p.band_hu]) < 0.8
    unvaried, varied = (fracture(np.random.default_rng(1), healthy, "D", 0.3, varied=k)[0] for k in (False, True))
    assert unvaried == varied


def test_front_walls_of_varied_fractures_buckle_beside_the_plate_that_broke(patients):
    healthy, rng = replace(patients[0].find("L2").body, damage=Damage(), details=Details()), np.random.default_rng(6)

    def low(denis: str, varied: bool) -> float:
        walls = [fracture(rng, healthy, denis, 0.2, varied=varied)[0].damage.anterior for _ in range(200)]
        return float(np.mean([wall.w0 < 0 for wall in walls if wall]))

    assert low("C", True) > 0.6 > 0.4 > low("A", True) > low("B", True)
    assert low("B", True) < 0.25 and low("C", False) < 0.25


def test_flames_move_the_far_edge_of_a_band_and_not_its_near_one(patients):
    plate = EndplateDamage(4.0, front=-1.5, back=1.5, band_hu=200, band_thick=4, band_offset=1, band_soft=0.6)
    u, v, uneven = torch.zeros(3, 1), torch.zeros(3, 1), torch.tensor([[0.5], [1.0], [1.5]])
    edges = {}
    for flames in (0.0, 6.0):
        with_plate = lambda p: replace(patients[0].find("L2").body, damage=Damage(superior=p), details=Details())  # noqa: E731
        body, no_band = with_plate(replace(plate, band_flames=flames)), with_plate(replace(plate, band_hu=0))
        surface = endplates(body, torch.zeros(1), torch.zeros(1))["top"]
        w = surface - torch.arange(0, 14, 0.05)[None].expand(3, -1)
        field = body_field(body, u.expand_as(w), v.expand_as(w), w, 1.0)
        hu = [marrow_hu(b, field, u, v, w, torch.zeros_like(w), uneven) for b in (body, no_band)]
        dense = hu[0] - hu[1] > 0.5 * 200 * uneven
        edges[flames] = [0.05 * np.flatnonzero(row)[[0, -1]] for row in dense.numpy()]
    near, far = (np.array([e[k] for e in edges[6.0]]) for k in (0, 1))
    assert np.ptp(near) < 0.1 and np.allclose(far - far[1], [-3, 0, 3], atol=0.15)
    assert np.ptp([e[1] for e in edges[0.0]]) < 0.1


@pytest.mark.parametrize(("turn", "fray"), [(0.0, 0.0), (0.8, 0.0), (-0.6, 0.15)])
def test_a_dark_line_follows_the_edge_of_its_depression(patients, turn, fray):
    plate = EndplateDamage(5.0, front=-0.5, back=0.3, back_soft=0.05, front_soft=0.05, q_edge=0.9, line=True,
                           turn=turn, fray=fray, fray_phase=1.0)  # fmt: skip
    body = replace(patients[0].find("L2").body, damage=Damage(superior=plate), details=Details())
    v, u = torch.meshgrid(*(torch.linspace(-0.95, 0.95, 300) * x for x in (body.half_depth, body.half_width)), indexing="ij")
    surface = endplates(body, u / body.half_width, v / body.half_depth)["top"]
    field = body_field(body, u, v, surface - 1.0, 1.0)
    dark = discontinuities(body, field, u, v, surface - 1.0) > 0.7
    edge = ndimage.binary_dilation(((field.share_sup > 0.2) & (field.share_sup < 0.8)).numpy(), iterations=12)  # about a mm
    assert int(dark.sum()) > 500 and edge[dark.numpy()].mean() > 0.97


def test_crops_to_evaluate_are_of_unvaried_patients(monkeypatch):
    asked = []
    case = P.sample_case(2)
    monkeypatch.setattr(cases.phantoms, "sample_case", lambda seed, **how: asked.append(how["varied"]) or case)
    monkeypatch.setattr(cases, "crop", lambda *a: (np.zeros(1), np.zeros(1)))
    for every in (True, False):
        cases.crops(2, every=every)
    assert asked == [False, True]


def test_the_cord_lies_in_the_sac_and_ends_below_t12():
    case = P.sample_case(3)
    bare = replace(P.clean_acquisition(), texture_sd=0.0)
    told = replace(bare, cord=20.0)
    for level, seen in (("T11", True), ("L2", False)):
        v = case.find(level)
        middle = np.asarray(v.origin_mm) + np.asarray(v.frame[1]) * (v.body.half_depth + v.arch.canal_d / 2)
        grid = P.axial_grid(case, spacing=0.8, slice_spacing=1.5, field_mm=(24, 24), z_range=(middle[2] - 3, middle[2] + 3),
                            centre=middle[:2])
        with_cord, without = (P.render(case, grid, acq, truth=False).hu for acq in (told, bare))
        rise = (with_cord - without).numpy()
        assert (rise.max() > 15) == seen and rise.min() > -1


def test_one_scan_in_three_shows_fluid_in_a_cleft_and_every_training_scan_a_cord():
    scans = [P.sample_acquisition(seed) for seed in range(60)]
    fluid = [acq for acq in scans if -1 <= acq.hu("cleft") <= 28]
    gas = [acq for acq in scans if acq.family == "physical" and acq not in fluid]
    assert 10 < len(fluid) < 35 and all(acq.hu("cleft") < -200 for acq in gas)
    assert all(acq.cord for acq in scans) and not P.sample_acquisition(1, profile="study").cord
    assert P.sample_acquisition(1, profile="study").hu("cleft") < -350
