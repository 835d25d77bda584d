import pytest

from ovcf_node.config import Source
from ovcf_node.network.policy import CALLED_UNKNOWN, CALLING_ADDRESS, CALLING_UNKNOWN, AssociationPolicy

SOURCES = (
    Source(ae_title="SCANNER"),
    Source(ae_title="PACS", address="10.1.1.1"),
    Source(ae_title="PACS", address="10.1.1.2"),
    Source(ae_title="SIX", address="fd00::1"),
)


@pytest.mark.parametrize(
    ("called", "calling", "address", "expected"),
    [
        ("NODE", "SCANNER", "192.168.0.9", None),
        ("NODE_STAT", "SCANNER", "192.168.0.9", None),
        (" NODE ", " SCANNER", "192.168.0.9", None),
        ("OTHER", "SCANNER", "192.168.0.9", CALLED_UNKNOWN),
        ("OTHER", "NOBODY", "192.168.0.9", CALLED_UNKNOWN),
        ("node", "SCANNER", "192.168.0.9", CALLED_UNKNOWN),
        ("NODE", "scanner", "192.168.0.9", CALLING_UNKNOWN),
        ("NODE", "", "192.168.0.9", CALLING_UNKNOWN),
        ("NODE", "PACS", "10.1.1.1", None),
        ("NODE", "PACS", "::ffff:10.1.1.2", None),
        ("NODE", "PACS", "10.1.1.3", CALLING_ADDRESS),
        ("NODE", "SIX", "fd00:0:0::1", None),
        ("NODE", "SIX", "fd00::2%eth0", CALLING_ADDRESS),
    ],
)
def test_rejection(called, calling, address, expected):
    policy = AssociationPolicy(("NODE", "NODE_STAT"), SOURCES)
    assert policy.rejection(called=called, calling=calling, address=address) is expected


def test_no_sources_accepts_nobody():
    assert AssociationPolicy(("NODE",), ()).rejection(called="NODE", calling="X", address="::1") is CALLING_UNKNOWN
