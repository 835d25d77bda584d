import pytest

from ovcf_node.config import Destination, Source
from ovcf_node.network.policy import (
    CALLED_UNKNOWN,
    CALLING_ADDRESS,
    CALLING_CERTIFICATE,
    CALLING_UNKNOWN,
    AssociationPolicy,
)

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


def test_a_destination_that_reports_is_bound_to_address_and_certificate():
    archive = Destination(name="pacs", type="dicom", ae_title="ARCHIVE", calling_ae_title="NODE_OUT", host="10.1.1.9",
                          port=104, final="committed", tls=True, tls_name="archive.example")
    policy = AssociationPolicy(("NODE",), SOURCES, reporters=[archive])
    names = {"called": "NODE_OUT", "calling": "ARCHIVE"}
    shown = frozenset({"archive.example"})
    assert policy.rejection(**names, address="::ffff:10.1.1.9", certificate=shown) is None
    assert policy.reports(**names, address="10.1.1.9", certificate=shown)
    assert not policy.may_send(**names, address="10.1.1.9", certificate=shown)
    assert policy.rejection(**names, address="10.1.1.8", certificate=shown) is CALLING_ADDRESS
    assert policy.rejection(**names, address="10.1.1.9") is CALLING_CERTIFICATE
    assert policy.rejection(called="NODE", calling="ARCHIVE", address="10.1.1.9", certificate=shown) is CALLING_UNKNOWN


def test_a_source_may_store_from_where_it_may_not_report():
    pacs = Destination(name="pacs", type="dicom", ae_title="PACS", calling_ae_title="NODE", host="10.1.1.9", port=104,
                       final="committed")
    policy = AssociationPolicy(("NODE",), SOURCES, reporters=[pacs])
    peer = {"called": "NODE", "calling": "PACS", "address": "10.1.1.1"}
    assert policy.rejection(**peer) is None and policy.may_send(**peer) and not policy.reports(**peer)
