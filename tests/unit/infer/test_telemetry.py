"""A hospital's node reports to nobody: loading and running the models leaves no trace of onnxruntime's telemetry."""

import os
import subprocess
import sys
from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[3] / "models" / "reference"


def test_running_a_model_writes_nothing_at_home(tmp_path):
    program = (
        "import sys; from pathlib import Path; from ovcf_node import infer; "
        "infer.load(Path(sys.argv[1]), providers=('CPUExecutionProvider',), threads=1)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | {"HOME": str(tmp_path)}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    subprocess.run([sys.executable, "-c", program, str(BUNDLE)], env=environment, check=True, timeout=120)
    assert list(tmp_path.rglob("*")) == []
