"""Series made from real label maps (never trained on): real bone of s0328, real fractures rendered from masks."""

import pytest

pytest.importorskip("torch")

import semireal
from ovcf_node.config import Settings
from ovcf_node.domain.levels import GRADED, REPORTED
from ovcf_node.evaluate import score
from ovcf_node.evaluate.mistakes import right_name

pytestmark = pytest.mark.slow


def test_s0328_every_vertebra_is_named_and_outlined(shared_data, tmp_path):
    record = score(semireal.s0328(shared_data, tmp_path), Settings().node.bundle)
    assert record["status"] == "limited" and record["reasons"] == ["thick_slices"]
    assert [v["level"] for v in record["vertebrae"]] == list(REPORTED)
    assert [v["level"] for v in record["vertebrae"] if not right_name(v)] == []
    assert not record["numbering_uncertain"]
    assert record["said_fracture"] is False
    dice = [v["dice"] for v in record["vertebrae"] if v["level"] in GRADED]
    assert min(dice) > 0.85 and sum(dice) / len(dice) >= 0.90, dice


@pytest.mark.parametrize("made", [semireal.healthivert, semireal.malekosh])
def test_real_biconcave_vertebrae_are_seen_and_names_are_called_uncertain(made, shared_data, tmp_path):
    record = score(made(shared_data, tmp_path), Settings().node.bundle)
    assert record["status"] == "limited" and "incomplete_coverage" in record["reasons"]
    assert [v["level"] for v in record["vertebrae"] if v["place"] is None] == []
    assert record["numbering_uncertain"]  # neither sacrum nor ribs
    broken = {v["level"]: v["place"] for v in record["vertebrae"] if v["fracture"]}
    assert set(broken) == {"L1", "L2"} and broken["L1"]["fracture"] is True
    assert broken["L2"]["fracture"] is not False  # called, or undetermined for a height loss that nothing explains
