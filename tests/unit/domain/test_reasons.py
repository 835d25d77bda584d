"""Every code that a vertebra can carry is listed, and every listed one is in use."""

import re
from pathlib import Path

from ovcf_node import infer
from ovcf_node.domain.reasons import VERTEBRA


def test_the_codes_of_vertebrae_are_those_listed():
    source = "".join(path.read_text() for path in Path(infer.__file__).parent.glob("*.py"))
    assert set(re.findall(r'Reason\(\s*"(\w+)"', source)) == set(VERTEBRA)
