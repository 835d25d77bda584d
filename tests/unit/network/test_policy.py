import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dicom_peers import wait_until
from ovcf_node.config import Destination, Source
from ovcf_node.network import policy as policy_module
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
    assert policy.rejection(**names, address="::ffff:10.1.1.9", certificate=shown, encrypted=True) is None
    assert policy.reports(**names, address="10.1.1.9", certificate=shown, encrypted=True)
    assert not policy.may_send(**names, address="10.1.1.9", certificate=shown)
    assert policy.rejection(**names, address="10.1.1.8", certificate=shown, encrypted=True) is CALLING_ADDRESS
    assert policy.rejection(**names, address="10.1.1.9", encrypted=True) is CALLING_CERTIFICATE
    assert policy.rejection(called="NODE", calling="ARCHIVE", address="10.1.1.9", certificate=shown) is CALLING_UNKNOWN


def test_a_source_may_store_from_where_it_may_not_report():
    pacs = Destination(name="pacs", type="dicom", ae_title="PACS", calling_ae_title="NODE", host="10.1.1.9", port=104,
                       final="committed")
    policy = AssociationPolicy(("NODE",), SOURCES, reporters=[pacs])
    peer = {"called": "NODE", "calling": "PACS", "address": "10.1.1.1"}
    assert policy.rejection(**peer) is None and policy.may_send(**peer) and not policy.reports(**peer)


def reporter(**changes) -> Destination:
    values = {"name": "pacs", "type": "dicom", "ae_title": "PACS", "calling_ae_title": "NODE", "host": "10.1.1.9",
              "port": 104, "final": "committed"}
    return Destination(**(values | changes))


REPORTER = {"called": "NODE", "calling": "PACS", "address": "10.1.1.9"}


@pytest.mark.parametrize(("expected", "shown", "holds"), [
    ("archive.example", "ARCHIVE.Example", True),
    ("Archive.Example", "archive.example", True),
    ("archive.example", "*.example", True),
    ("a.archive.example", "*.example", False),
    ("archive.example", "a*.example", False),
    ("archive.example", "other.example", False),
])
def test_the_name_of_a_reporter_is_compared_as_where_we_connect(expected, shown, holds):
    policy = AssociationPolicy(("NODE",), (), reporters=[reporter(tls=True, tls_name=expected)])
    assert policy.reports(**REPORTER, certificate=frozenset({shown}), encrypted=True) is holds


def test_a_destination_with_tls_reports_over_tls():
    policy = AssociationPolicy(("NODE",), (), reporters=[reporter(tls=True)])
    assert policy.reports(**REPORTER, encrypted=True)
    assert not policy.reports(**REPORTER)
    assert policy.rejection(**REPORTER) is CALLING_CERTIFICATE


class NameService:
    """Answers with `addresses`, and not at all while it is away."""

    def __init__(self, *addresses: str):
        self.addresses, self.asked, self.away = addresses, 0, False
        self.answers = threading.Event()
        self.answers.set()

    def getaddrinfo(self, _name: str, _port: object) -> list[tuple]:
        self.asked += 1
        assert self.answers.wait(30)
        if self.away:
            raise socket.gaierror(socket.EAI_AGAIN, "away")
        return [(0, 0, 0, "", (address, 0)) for address in self.addresses]


@pytest.fixture
def names(monkeypatch):
    service = NameService("10.1.1.9")
    monkeypatch.setattr(policy_module.socket, "getaddrinfo", service.getaddrinfo)
    policy_module._host.cache_clear()
    yield service
    service.answers.set()
    policy_module._host.cache_clear()


def test_who_may_send_does_not_wait_for_the_name_service(names):
    policy = AssociationPolicy(("NODE",), SOURCES, reporters=[reporter(host="archive.example")])
    assert policy.rejection(called="NODE", calling="PACS", address="10.1.1.1") is None
    assert names.asked == 0


def test_the_last_addresses_stay_while_the_name_service_is_away(names, monkeypatch):
    monkeypatch.setattr(policy_module, "_LOOK_UP_S", 0.0)
    monkeypatch.setattr(policy_module, "_LOOK_UP_AGAIN_S", 0.0)
    policy = AssociationPolicy(("NODE",), (), reporters=[reporter(host="archive.example")])
    assert policy.reports(**REPORTER)
    names.away = True
    names.answers.clear()
    assert policy.reports(**REPORTER)  # at once: the look-up that goes on meanwhile gets no answer
    names.answers.set()
    wait_until(lambda: names.asked == 2)
    assert not policy.reports(**REPORTER | {"address": "10.1.1.8"})
    assert policy.reports(**REPORTER)
    names.away, names.addresses = False, ("10.1.1.8",)
    assert policy.reports(**REPORTER | {"address": "10.1.1.8"})


def test_those_who_come_together_ask_the_name_service_once(names):
    policy = AssociationPolicy(("NODE",), (), reporters=[reporter(host="archive.example")])
    names.answers.clear()
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(policy.reports, **REPORTER) for _ in range(4)]
        wait_until(lambda: names.asked)
        names.answers.set()
        assert [one.result(30) for one in found] == [True] * 4
    assert names.asked == 1
