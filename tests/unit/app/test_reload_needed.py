"""What the receiver cannot take over while it runs is said to need a restart, and nothing else."""

import pytest

from ovcf_node.app.receiver import _built_from
from ovcf_node.config import Settings

BEFORE = {"receive": {"sources": [{"ae_title": "CT_1"}]}}


@pytest.mark.parametrize(("after", "needed"), [
    ({"receive": {"sources": [{"ae_title": "CT_2"}], "ae_titles": ["OTHER"]}}, False),
    (BEFORE | {"node": {"mode": "shadow"}}, False),
    ({"receive": BEFORE["receive"] | {"port": 104}}, True),
    (BEFORE | {"audit": {"host": "127.0.0.1", "tls": False}}, True),
    (BEFORE | {"priority": {"calling_ae_titles": ["CT_1"]}}, True),
    (BEFORE | {"log": {"level": "DEBUG"}}, True),
])
def test_a_reload_needs_a_restart(after, needed):
    assert (_built_from(Settings(**BEFORE)) != _built_from(Settings(**after))) is needed
