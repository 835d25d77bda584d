"""The third generator: its truth agrees with its pictures, it knows neither of the others, and it does not change."""

import ast
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import third

FOLDER = Path(third.__file__).parent
FROZEN = "2bcbcfc1bd6816a5c0895fa3aae61e6fb840998daeb6a2e7cef8cc9da609bddd"
LEVELS = ("T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1")
REPORTED = LEVELS[3:]
PLACES = {"anterior": -0.8, "middle": 0.0, "posterior": 0.8}


def narrow(patient, seed, thickness=1.2, pixel=0.9):
    """A series that just holds the bodies T11 to S1."""
    how = third.choose_scan(patient, seed)
    centres = np.array([v.centre for v in patient.vertebrae[2:]])
    low, high = centres.min(0) - (36, 36, 30), centres.max(0) + (36, 40, 26)
    shape = [int(n) for n in ((high - low)[::-1] / (thickness, pixel, pixel))]
    return replace(how, thickness=thickness, pixel=pixel, low=tuple(low), shape=tuple(shape))


def measured(patient, picture, number):
    """Heights of a body in the mask: from the first to the last voxel on lines along its axis through the three places."""
    vertebra = patient.vertebrae[number - 1]
    size = patient.spine.bodies[vertebra.level].size
    mask = (picture.instance == number) & picture.body
    up = np.arange(-25, 25, 0.1)
    heights = {}
    for name, where in PLACES.items():
        left, back = np.linspace(-0.1, 0.1, 9) * size.width, where * size.depth / 2 + np.linspace(-1, 1, 5)
        x, y, z = vertebra.frame.to_patient(np.meshgrid(left, back, up, indexing="ij"))
        voxels = [(z, 0, 2), (y, 1, 1), (x, 2, 0)]
        at = tuple(np.rint((p - picture.low[k]) / picture.spacing[n]).astype(int) for p, n, k in voxels)
        at = tuple(np.clip(i, 0, n - 1) for i, n in zip(at, mask.shape, strict=True))
        inside = mask[at].reshape(-1, len(up))
        heights[name] = float((len(up) - inside[:, ::-1].argmax(1) - inside.argmax(1)).mean() * 0.1)
    return heights


@pytest.fixture(scope="module")
def pictures():
    """One patient of each kind with its picture."""
    made = []
    for seed, kind in enumerate(third.KINDS, 11):
        patient = third.sample_patient(seed, kind)
        made.append((patient, third.scan(patient, narrow(patient, seed), seed)))
    return made


def truth(patient):
    return [(v.level, v.denis, v.old, v.mimic, v.loss, v.heights, v.signs, v.centre.tolist()) for v in patient.vertebrae]


def test_a_seed_is_a_patient_and_a_picture():
    patient, again = (third.sample_patient(3, "B") for _ in range(2))
    assert truth(patient) == truth(again) and truth(patient) != truth(third.sample_patient(4, "B"))
    assert third.choose_scan(patient, 3) == third.choose_scan(again, 3)
    how = narrow(patient, 3, thickness=3.0, pixel=1.5)
    first, second = (third.scan(p, how, 3) for p in (patient, again))
    assert np.array_equal(first.hu, second.hu) and np.array_equal(first.instance, second.instance)
    assert not np.array_equal(first.hu, third.scan(patient, how, 4).hu)


def test_the_truth_agrees_with_the_picture(pictures):
    for patient, picture in pictures:
        for number, vertebra in enumerate(patient.vertebrae[:-1], 1):
            if vertebra.level in REPORTED:
                where = np.argwhere((picture.instance == number) & picture.body).mean(0) * picture.spacing
                assert np.linalg.norm(where[::-1] + picture.low - vertebra.centre) < 0.5
                assert measured(patient, picture, number) == pytest.approx(vertebra.heights, abs=1.0), vertebra.level


def test_every_reported_body_lies_in_the_field(pictures):
    for patient, picture in pictures:
        for number, vertebra in enumerate(patient.vertebrae, 1):
            if vertebra.level in REPORTED:
                found = np.argwhere((picture.instance == number) & picture.body)
                assert found.min() >= 2 and (found.max(0) < np.array(picture.body.shape) - 2).all()


def test_a_chosen_series_holds_all_reported_bodies():
    for seed in range(5):
        patient = third.sample_patient(seed, third.KINDS[seed])
        how = third.choose_scan(patient, seed)
        size = np.array(how.shape[::-1]) * (how.pixel, how.pixel, how.thickness)
        for vertebra in patient.vertebrae[3:]:
            assert (vertebra.centre - how.low > (34, 28, 25)).all(), vertebra.level
            assert (how.low + size - vertebra.centre > (34, 28, 25)).all(), vertebra.level


@pytest.mark.parametrize("kind", ["A", "B", "C", "D"])
def test_a_fracture_is_what_its_type_says(kind):
    signs = {"A": (True, True), "B": (True, False), "C": (False, True), "D": (False, False)}[kind]
    for seed in range(4):
        patient = third.sample_patient(seed, kind)
        broken = [v for v in patient.vertebrae if v.denis]
        assert 1 <= len(broken) <= 2 and {v.denis for v in broken} == {kind}
        for vertebra in broken:
            assert 0.119 <= vertebra.loss <= 0.51 and not vertebra.old and vertebra.mimic is None
            assert (vertebra.signs["superior"], vertebra.signs["inferior"]) == signs and not vertebra.signs["posterior"]
            assert vertebra.signs["anterior"] or kind != "D"
            for side, sign in zip(("superior", "inferior"), signs, strict=True):
                assert (patient.spine.bodies[vertebra.level].depth_of(side) >= 2.0) == sign


def test_without_a_fracture_nothing_is_lost_but_by_old_ones():
    for seed in range(8):
        for vertebra in third.sample_patient(seed, "none").vertebrae:
            assert vertebra.denis is None and not any(vertebra.signs.values())
            assert (0.14 <= vertebra.loss <= 0.36) if vertebra.old else vertebra.loss == 0


def test_it_knows_no_other_generator():
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            else:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            allowed = {"__future__", "collections", "dataclasses", "itertools", "typing", "numpy", "scipy"}
            assert {name.split(".")[0] for name in names} <= allowed, path.name


def test_it_does_not_change():
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    assert digest.hexdigest() == FROZEN, "the third generator changed: its evaluation is void"
