"""The data folder is for its owner: the databases hold names, and SQLite alone would make them readable for everybody."""

import subprocess
import sys

from ovcf_node.config import load

_AS_A_PROCESS_DOES = """
import os, pathlib, sys
from ovcf_node.app.process import confine, prepare
from ovcf_node.config import load
os.umask(0o022)
confine()
prepare(load(pathlib.Path(sys.argv[1])))
"""


def test_no_other_user_reads_the_ledger(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('[node]\ndata = "data"\n')
    subprocess.run([sys.executable, "-c", _AS_A_PROCESS_DOES, str(path)], check=True, timeout=60)
    data = load(path).node.data
    assert data.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o007 for file in data.rglob("*")} == {0} and (data / "ledger.sqlite").exists()
