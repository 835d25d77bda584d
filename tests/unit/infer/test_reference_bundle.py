"""The shipped networks run through the front door, and the figures beside them are theirs.

What they say of analytic blocks is not judged here.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from synthetic_spine import axial_volume, spine

from ovcf_node.domain.levels import REPORTED
from ovcf_node.domain.volume import OUTSIDE_HU, FrameSource, Volume
from ovcf_node.evaluate import card, markdown
from ovcf_node.infer import load, load_identity, looks_like_spine, read

_REFERENCE = Path(__file__).resolve().parents[3] / "models" / "reference"


@pytest.fixture(scope="module")
def bundle():
    return load(_REFERENCE)


def test_a_reading_is_consistent_and_repeatable(bundle):
    volume = axial_volume(spine(("T11", *REPORTED)), spacing=(3.0, 2.0, 2.0))
    first, second = read(volume, bundle), read(volume, bundle)
    assert first.vertebrae == second.vertebrae and first.reasons == second.reasons
    assert first.status in ("assessed", "limited") and first.vertebrae and first.masks is not None
    assert [v.level for v in first.vertebrae] == [x for x in REPORTED if x in {v.level for v in first.vertebrae}]
    for v in first.vertebrae:
        assert v.complete or v.fracture is None
        assert v.denis is None or v.fracture is True


@pytest.mark.parametrize("value", [OUTSIDE_HU, -1000])
def test_an_empty_field_is_no_spine(bundle, value):
    affine = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1.0]])
    hu = np.full((40, 60, 60), value, np.int16)
    volume = Volume(hu, affine, tuple(FrameSource(f"1.{k}") for k in range(40)), "axial", "1.2")
    assert read(volume, bundle).ovcf is None
    assert looks_like_spine(volume, bundle) < 3


def test_the_committed_figures_are_those_of_the_committed_bundle():
    result = json.loads((_REFERENCE / "evaluation.json").read_text())
    said = load_identity(_REFERENCE)
    assert result["bundle"] == asdict(said)
    page = (_REFERENCE / "EVALUATION.md").read_text()
    stopped = [part for line in page.splitlines() if line.startswith("**Stopped before") for part in (line, "")]
    assert card(result, stopped) in (_REFERENCE / "MODEL_CARD.md").read_text()
    computed = {line.rstrip() for line in markdown.page(result).splitlines()}
    assert computed <= set(page.splitlines())
    for page in ("EVALUATION.md", "EVALUATION-semireal.md"):
        text = (_REFERENCE / page).read_text()
        assert text.startswith(f"# Evaluation of {said.name} {said.version}\n") and said.digest[:16] in text
