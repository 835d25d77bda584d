"""A 450 x 512 x 512 series at 0.625 mm: read completely, within the memory that is promised."""

import json
import subprocess
import sys

import pytest

from node_harness import dciodvfy_errors
from ovcf_node.demo import phantom

pytestmark = [pytest.mark.peer, pytest.mark.slow]
# Runs a command and prints the memory of its largest process, KB: what was forked from here would count this process too.
_MEASURED = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)


def test_full_resolution_phantom(tmp_path):
    large = phantom.resampled(phantom.load(), (0.625, 0.625, 0.625), (450, 512, 512))
    phantom.write_series(large, tmp_path / "series", name="large")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED,
         sys.executable, "-m", "ovcf_node", "analyze", str(tmp_path / "series"), "--out", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=500,
    )
    assert done.returncode == 0, done.stderr
    findings = json.loads((tmp_path / "out" / "findings.json").read_text())
    planted = {p.level for p in large.planted if p.fracture}
    assert planted <= {v["level"] for v in findings["vertebrae"] if v["fracture"]}
    objects = sorted((tmp_path / "out").glob("*.dcm"))
    assert [p.name for p in objects] == ["seg_fractures.dcm", "seg_vertebrae.dcm", "sr.dcm"]
    assert {p.name: e for p in objects if (e := dciodvfy_errors(p))} == {}
    # The guide says 0.7 GB for the reading child; encoding in the same process, as here, comes on top.
    assert int(done.stdout.split()[-1]) / 2**20 < 1.0
