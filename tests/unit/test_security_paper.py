"""Every test that the threat model names exists."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAPER = (REPOSITORY / "deploy" / "SECURITY.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", PAPER)))


def test_every_threat_names_its_test():
    rows = re.search(r"## Threats\n\n(.*?)\n\n", PAPER, re.DOTALL)[1].splitlines()[2:]
    assert len(rows) > 15
    assert not [row for row in rows if "`tests/" not in row]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_named_tests_exist(file: str, name: str):
    path = REPOSITORY / file
    assert path.exists()
    assert not name or f"def {name}(" in path.read_text()
