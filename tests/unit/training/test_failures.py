"""Sheets of an evaluation's errors: every case is on one, small enough for git."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "training"))

import failures


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("study-A-1", "study-B-2", "study-none-3", "study-none-4", "second-D-5"):
        Image.fromarray(rng.integers(0, 255, (94, 128, 3), np.uint8)).resize((1280, 940)).save(folder / f"{name}.png")
    return folder


def _records(pictures: Path, right: str = "") -> list[dict]:
    """What was said of each pictured patient: the wrong thing, but of `right`."""
    names = [p.stem.split("-", 1) for p in sorted(pictures.glob("*.png"))]
    same = {"fracture": False, "denis": None, "said_denis": None, "vertebrae": [], "status": "assessed", "named": True,
            "numbering_uncertain": False, "variant": "none", "complete": True}
    return [{**same, "cohort": cohort, "case": case, "said_fracture": case != right} for cohort, case in names]


def test_every_cohort_with_errors_gets_one_sheet_and_old_ones_go(pictures, tmp_path):
    (tmp_path / "errors-natural.jpg").write_bytes(b"of an evaluation before")
    made = failures.sheets(pictures, _records(pictures), tmp_path)
    assert [p.name for p in made] == ["errors-second.jpg", "errors-study.jpg"]
    assert sorted(p.name for p in tmp_path.glob("errors-*")) == ["errors-second.jpg", "errors-study.jpg"]
    with Image.open(made[1]) as study, Image.open(made[0]) as second:
        tall = failures.TILE[1] + failures.LINE
        assert study.size == (failures.COLUMNS * failures.TILE[0], 2 * tall + failures.LINE)
        assert second.height == tall + failures.LINE
        fourth = np.asarray(study)[tall + 2 * failures.LINE :, : failures.TILE[0]]
        assert fourth.std() > 20, "the fourth picture begins the second row"


def test_a_sheet_ends_somewhere_and_says_so(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(failures, "MOST", 3)
    with Image.open(failures.sheets(pictures, _records(pictures), tmp_path)[1]) as sheet:
        assert sheet.height == failures.TILE[1] + 2 * failures.LINE


def test_a_picture_of_an_older_reading_is_no_error(pictures, tmp_path):
    made = failures.sheets(pictures, _records(pictures, right="D-5"), tmp_path)
    assert [p.name for p in made] == ["errors-study.jpg"]
