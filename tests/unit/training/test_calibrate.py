"""Calibration on whole patients: points, temperatures and what is usual, from looks whose truth is known."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "training"))

import calibrate
import foreign
import phantoms
from bundle import sigmoid
from casefolder import axial
from ovcf_node import infer
from ovcf_node.domain.findings import Evidence
from ovcf_node.domain.volume import FrameSource, Volume
from ovcf_node.infer import evidence
from ovcf_node.infer.evidence import Signs
from ovcf_node.infer.resample import crop_grid, sample_crop
from ovcf_node.infer.stages import HeightWeight, RestoredWeight, Usual, VertebraStage
from ovcf_node.infer.usual import distance, is_unusual
from ovcf_node.infer.vertebra import VertebraReading, crop_answer, own_masks

REFERENCE = Path(__file__).resolve().parents[3] / "models" / "reference"
POINTS = dict.fromkeys(("fracture", "superior", "inferior", "anterior", "posterior", "old", "abstain_below"), 0.5)
pytestmark = pytest.mark.usefixtures("one_thread")


def _row(rng, kind, case):
    """Three looks at a vertebra of a type (0 none, 1..4), as a network that mostly sees it would answer."""
    evidence = [int(kind in (1, 2)), int(kind in (1, 3)), int(kind == 4), 0]
    signs = (np.array(evidence) * 2 - 1) * 3.0 + rng.normal(0, 1.5, (3, 4))
    types = np.eye(5)[kind] * 4 + rng.normal(0, 1, (3, 5))
    return {
        "case": case, "cohort": "study", "level": "L1",
        "logits": np.hstack([signs, types, rng.normal(-3, 1, (3, 1))]).tolist(),
        "evidence": evidence, "type": kind, "old": bool(rng.random() < 0.1), "loss": 0.2, "mimic": None, "slice_mm": 1.0,
        "statistics": rng.normal(0, 1, 6).tolist(), "foreign": [{"kind": "air", "statistics": [30.0] * 6}],
        "measured_loss": float(rng.uniform(0, 0.1) + 0.2 * (kind > 0)),
    }


def test_points_separate_what_the_looks_separate():
    rng = np.random.default_rng(0)
    rows = [_row(rng, k % 5 if k % 3 == 0 else 0, f"c{k // 6}") for k in range(240)]
    result = calibrate.fitted(rows)
    p = calibrate.mean_probabilities(np.array([r["logits"] for r in rows]), result["temperature"])
    broken = np.array([any(r["evidence"]) for r in rows])
    loss = np.array([r["measured_loss"] for r in rows])
    called = calibrate.weighed(p["fracture"], p["old"], loss, result["height"]) >= result["operating_points"]["fracture"]
    assert called[broken].mean() > 0.9 and (~called[~broken]).mean() > 0.98
    assert set(result["operating_points"]) == {
        "fracture", "old", "superior", "inferior", "anterior", "posterior", "abstain_below"
    }
    assert "study: fractures" in calibrate.summary(rows, result)


def _read(vertebrae):
    """Probabilities from pairs of signs and direct reading."""
    return {"evidence": np.array([v[0] for v in vertebrae], float), "type": np.array([v[1] for v in vertebrae], float)}


def test_types_are_said_from_where_enough_of_them_are_right():
    sure, open_ = ([0.9, 0.9, 0, 0], [0, 0.9, 0.05, 0.03, 0.02]), ([0.8, 0.6875, 0, 0], [0, 0.55, 0.4, 0.03, 0.02])
    kind = np.array([1] * 20 + [1, 2] * 10)
    assert calibrate.type_point(_read([sure] * 20 + [open_] * 20), POINTS, kind) == pytest.approx(0.57)
    assert calibrate.type_point(_read([sure] * 20), POINTS, kind[:20]) == 0.5
    assert calibrate.type_point(_read([open_] * 20), POINTS, kind[20:]) == 0.6


def test_types_that_the_node_withholds_are_no_wrong_types():
    """Signs say B, the direct reading A, neither leads: such vertebrae are not said at any point, and move none."""
    sure, torn = ([0.9, 0.9, 0, 0], [0, 0.9, 0.05, 0.03, 0.02]), ([0.8, 0.3, 0, 0], [0, 0.7, 0.3, 0.0, 0.0])
    p = _read([sure] * 20 + [torn] * 20)
    assert calibrate.types_said(p, POINTS).tolist() == ["A"] * 20 + [None] * 20
    assert calibrate.type_point(p, POINTS, np.array([1] * 20 + [2] * 20)) == 0.5


def test_the_training_says_the_type_that_the_node_says():
    rng = np.random.default_rng(3)
    p = {"evidence": rng.uniform(0, 1, (300, 4)) ** 2, "type": rng.dirichlet(np.full(5, 0.4), 300)}
    said = calibrate.types_said(p, POINTS)
    for evidence_, kind, word in zip(p["evidence"], p["type"], said, strict=True):
        stage = VertebraStage((1, 1.25, 3), (56, 72, 32), (27.5, 24, 15.5), (-300, 1300), POINTS, {})
        signs = Signs(Evidence(*(round(float(e), 4) for e in evidence_)), tuple(map(float, kind)), 0.0, 1.0)
        grading = evidence.grade(signs, stage, 0.3)
        burst = grading.abstain is not None and grading.abstain.code == "posterior_wall"
        assert word == ("burst" if burst else grading.denis)
    assert {*said} == {"A", "B", "C", "D", "burst", None}


def _usual(values, group, others):
    made = calibrate.usual_of(values, group, others)
    return Usual(made["mean"], made["precision"], made["limit"])


def test_the_limit_lies_between_vertebrae_and_foreign_pictures():
    rng = np.random.default_rng(1)
    values, group = rng.normal(3, 2, (1000, 6)), np.repeat([0, 1, 2], (900, 70, 30))
    others = {"far": rng.normal(100, 2, (30, 6)), "near": rng.normal(25, 2, (30, 6))}
    usual = _usual(values, group, others)
    near, far = (min(distance(x, usual) for x in others[kind]) for kind in ("near", "far"))
    assert max(distance(x, usual) for x in values) < usual.limit < near < far
    values[0] = 20.0  # one vertebra hardly moves it, however far
    assert _usual(values, group, others).limit == pytest.approx(usual.limit, rel=0.3)
    with pytest.raises(SystemExit, match="'near'"):
        calibrate.usual_of(values, group, {"near": rng.normal(3, 2, (30, 6))})
    with pytest.raises(SystemExit, match="no vertebra was read"):
        calibrate.usual_of(values, group, {})


def test_few_healed_deformities_are_as_usual_as_many_whole_vertebrae():
    rng = np.random.default_rng(2)
    values, group = rng.normal(0, 1, (1000, 6)), np.repeat([0, 2], (980, 20))
    values[group == 2] += [0, 0, 0, 6, 6, 0]  # denser and less even than the others
    others = {"air": np.full((20, 6), 40.0)}
    equal, alike = (_usual(values, given, others) for given in (group, np.zeros(1000, int)))
    median = lambda usual: np.median([distance(x, usual) for x in values[group == 2]])  # noqa: E731
    assert median(equal) < 3.5 < median(alike)


def _healed(bundle):
    """A healed deformity (L1, loss 0.37) alone in its field: its reading and its series."""
    case = phantoms.sample_case(4_000_009, profile="study")
    vertebra = next(v for v in case.vertebrae if v.level == "L1")
    assert vertebra.old_deformity and vertebra.height_loss > 0.25
    centre, frame, stage = np.array(vertebra.centre_mm), np.array(vertebra.frame), bundle.vertebra
    grid = axial(centre - [40, 50, 35], (1.5, 1.0, 1.0), [47, 110, 80])
    made = phantoms.render(case, grid, phantoms.sample_acquisition(4_000_009, profile="study"))
    sources = tuple(FrameSource(str(k)) for k in range(47))
    volume = Volume(made.hu.numpy().astype(np.int16), np.array(grid.affine, float), sources, "axial", None)
    crop = sample_crop(volume, crop_grid(centre, frame, stage.spacing_mm, stage.shape, stage.origin_index))
    whole, body = own_masks(crop_answer(bundle, crop.hu), crop.inside)
    return VertebraReading("L1", centre, frame, crop, whole, body, whole, np.zeros((1, 10))), volume


def test_foreign_pictures_are_refused_and_a_healed_deformity_is_not():
    """At the limit that is shipped."""
    bundle = infer.load(REFERENCE, threads=1)
    reading, volume = _healed(bundle)
    usual = bundle.vertebra.usual
    assert not is_unusual(reading, usual)
    made = list(foreign.rows(volume, reading, bundle))
    assert made == list(foreign.rows(volume, reading, bundle))
    assert {"raised", "reversed", "noise", "constant", "air"} <= {picture["kind"] for picture in made}
    near = {p["kind"]: distance(np.array(p["statistics"]), usual) for p in made}
    assert min(near.values()) > usual.limit, near


def test_height_loss_is_weighed_as_the_node_weighs_it():
    height = {"network": 0.8, "full_height": 3.0, "intercept": -1.0, "network_alone": 0.9, "intercept_alone": -0.4}
    stage = VertebraStage((1, 1.25, 3), (56, 72, 32), (27.5, 24, 15.5), (-300, 1300), {}, {}, None, HeightWeight(**height))
    on_the_ramp = ((0.6, 0.1, 0.05), (0.6, 0.1, 0.12))
    for picture, old, loss in ((0.3, 0.0, 0.2), (0.9999, 0.5, 0.9), (0.0, 0.1, 0.0), *on_the_ramp, (0.4, 0.2, None)):
        here = calibrate.weighed(np.array([picture]), np.array([old]), np.array([np.nan if loss is None else loss]), height)
        there = evidence.weighed(Signs(Evidence(), (1, 0, 0, 0, 0), old, 0.0, 0.0, picture), stage, loss)
        assert there.fracture == pytest.approx(float(here[0]), abs=1e-4)


def test_the_restored_vertebra_is_weighed_as_the_node_weighs_it():
    height = {"network": 0.8, "full_height": 3.0, "intercept": -1.0, "network_alone": 0.9, "intercept_alone": -0.4}
    restored = {"network": 0.7, "full_height": 2.0, "restored_loss": 3.0, "damage": 0.5, "intercept": -1.5}
    weights = (None, HeightWeight(**height), RestoredWeight(**restored))
    stage = VertebraStage((1, 1.25, 3), (56, 72, 32), (27.5, 24, 15.5), (-300, 1300), {}, {}, *weights)
    on_the_ramp = ((0.04, 0.3, 60.0), (0.12, 0.0, 20.0))
    for told in (*on_the_ramp, (0.2, 0.3, 60.0), (0.9, 0.8, 0.0), (0.2, None, 60.0), (None, 0.3, 60.0), (0.2, 0.3, None)):
        loss, painted, damage = (np.array([np.nan if x is None else x]) for x in told)
        here = calibrate.weighed(np.array([0.3]), np.array([0.25]), loss, height, restored, painted, damage)
        there = evidence.weighed(Signs(Evidence(), (1, 0, 0, 0, 0), 0.25, 0.0, 0.0, 0.3), stage, *told)
        assert there.fracture == pytest.approx(float(here[0]), abs=1e-4)


def test_the_restored_vertebra_is_heard_where_it_knows_more_and_the_table_says_what_it_adds():
    rng = np.random.default_rng(3)
    rows = [_row(rng, k % 5 if k % 3 == 0 else 0, f"c{k // 6}") for k in range(300)]
    for row in rows:  # looks that know little, but that the posterior wall is whole
        row["logits"] = np.hstack([rng.normal(0, 1, (3, 3)), np.full((3, 1), -60.0), rng.normal(0, 1, (3, 6))]).tolist()
        row["measured_loss"] = float(rng.uniform(0.0, 0.12) + 0.04 * (row["type"] > 0))  # and heights that know a little
        row["damage_hu"] = float(rng.uniform(0, 40) + 80 * (row["type"] > 0))
        row["restored_loss"] = float(rng.uniform(0, 0.3))
    result = calibrate.fitted(rows)
    assert result["restored"]["damage"] > 1
    losses = {cells[2].strip(): float(cells[4]) for line in result["added"].splitlines()[2:] if (cells := line.split("|"))}
    assert losses["picture + restored loss + damage"] < losses["picture + height loss"] < losses["picture"]
    for row in rows:
        del row["damage_hu"]
    without = calibrate.fitted(rows)
    assert "restored" not in without and without["added"] is None


def test_a_height_that_the_node_does_not_hear_has_no_say():
    p = {"spread": np.array([0.0, 0.7, 0.0]), "evidence": np.array([[0.1] * 3 + [x] for x in (0.3, 0.1, 0.36)])}
    heard = calibrate.as_heard([{"measured_loss": 0.05}] * 3, p, 0.7)
    assert [row["measured_loss"] for row in heard] == [0.05, None, None]


def test_height_loss_gets_a_say_only_where_it_helps():
    rng = np.random.default_rng(2)
    truth = rng.random(4000) < 0.3
    useful, useless = 0.15 * truth + rng.uniform(0, 0.1, 4000), rng.uniform(0, 0.3, 4000)
    picture = sigmoid(rng.normal(0, 1, 4000) + 2.0 * truth - 1.0)
    fit = lambda loss: calibrate.height_weight(picture, loss, truth, np.ones(4000))  # noqa: E731
    assert fit(useful)["full_height"] > 3 and fit(useless)["full_height"] < 1


def test_both_generators_weigh_the_same():
    weight = calibrate.balance([True, False, False, False])
    assert weight[0] == weight[1:].sum() and weight.sum() == pytest.approx(4)
