"""The conformance statement says what the code does: its tables are those of today, and it knows every status we send."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STATEMENT = REPOSITORY / "deploy" / "CONFORMANCE.md"
PACKAGE = REPOSITORY / "service" / "ovcf_node"
NO_STATUS = {"0xFFFF"}


def test_statement_is_that_of_the_code():
    path = os.pathsep.join([str(REPOSITORY / "deploy"), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "conformance.write", "--check"], capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", [
    "receive/storing.py", "receive/header.py", "query/scp.py", "query/identifiers.py", "network/query_retrieve.py",
    "network/retrieve.py", "deliver/outcome.py",
])
def test_every_status_is_in_the_statement(module: str):
    statuses = set(re.findall(r"\b0x[0-9A-F]{4}\b", (PACKAGE / module).read_text())) - NO_STATUS
    statement = STATEMENT.read_text()
    assert statuses
    assert not [status for status in sorted(statuses) if status not in statement]


@pytest.mark.parametrize("paper", ["CONFORMANCE.md", "IHE.md"])
def test_papers_refer_to_what_is_there(paper: str):
    text = (REPOSITORY / "deploy" / paper).read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"`(tests/[\w/.]+)`", text)
    assert links
    folders = [REPOSITORY if link.startswith("tests/") else STATEMENT.parent for link in links]
    assert not [link for folder, link in zip(folders, links, strict=True) if not (folder / link).exists()]
