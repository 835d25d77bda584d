"""`ovcf-node demo` against the stand-in PACS that needs nothing installed, and against Orthanc."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.mark.parametrize("pacs", ["folder", "orthanc"])
def test_demo_finds_the_planted_fracture_and_everything_arrives(tmp_path, pacs):
    done = subprocess.run(
        [sys.executable, "-m", "ovcf_node", "demo", "--out", str(tmp_path / "out"), "--pacs", pacs],
        capture_output=True, text=True, timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("planted beside found", "Vertebrae SEG", "Fracture SEG", "SR", "Summary picture", "stages"):
        assert words in done.stdout
