"""Storage commitment for senders: only what is here, for as long as configured, reported where the sender listens."""

import io
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import N_ACTION
from pynetdicom.presentation import build_context

from commitment_pacs import COMMITMENT, INSTANCE
from dicom_peers import CT_IMAGE, encoded, instance, uid, wait_until
from ovcf_node.config import Receive, Source
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.network.pausing import pause_for_certain
from ovcf_node.receive.committing import Committing
from ovcf_node.receive.server import Receiver
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.spool import Spool

EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass
class Scanner:
    """A Storage and Storage Commitment SCU; `reports` are those that came over its own or another association."""

    reports: list[tuple[int, Dataset]] = field(default_factory=list)
    status: int = 0x0000

    def report(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        return self.status, None

    @contextmanager
    def associated(self, port: int):
        opened = AE("SCANNER").associate(
            "127.0.0.1", port, ae_title="OVCF_NODE", contexts=[build_context(CT_IMAGE, "1.2.840.10008.1.2.1"),
                                                               build_context(COMMITMENT)],
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.report)],
        )
        assert opened.is_established
        yield opened
        opened.release()

    @contextmanager
    def listening(self):
        ae = AE("SCANNER")
        ae.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.report)])
        yield server.server_address[1]
        ae.shutdown()


class Node:
    """A receiver with its own ledger."""

    def __init__(self, folder: Path, **settings):
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        migrate(url)
        self.now = 1_000_000.0
        self.ledger = Ledger(url)
        self.settings = Receive(**({"host": "127.0.0.1", "sources": [Source(ae_title="SCANNER")]} | settings))
        self.spool = Spool(folder / "spool")
        self.committing = Committing(self.settings, self.ledger, self.spool, clock=lambda: self.now)
        storing = Storing(self.spool, self.ledger.instances, min_free_bytes=0, patient_secret=b"secret")
        self.receiver = Receiver(self.settings, storing, self.committing, port=0)
        self.receiver.start()

    def report_due(self, after_s: float) -> None:
        self.now += after_s
        self.committing.report_due(threading.Event())

    def close(self) -> None:
        self.receiver.stop(0)
        self.ledger.close()


@pytest.fixture
def made(tmp_path):
    nodes = []

    def make(**settings) -> Node:
        nodes.append(Node(tmp_path, **settings))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


def information(transaction: str, *instances: tuple[str, str]) -> Dataset:
    dataset = Dataset()
    dataset.TransactionUID = transaction
    dataset.ReferencedSOPSequence = []
    for sop_class_uid, sop_instance_uid in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
        dataset.ReferencedSOPSequence.append(item)
    return dataset


def ask(opened, *instances: tuple[str, str], transaction: str = "1.2.3.4") -> int:
    answer, _ = opened.send_n_action(information(transaction, *instances), 1, COMMITMENT, INSTANCE)
    return answer.Status


def outcome(report: Dataset) -> tuple[list[str], dict[str, int]]:
    committed = [str(i.ReferencedSOPInstanceUID) for i in report.get("ReferencedSOPSequence", [])]
    return committed, {str(i.ReferencedSOPInstanceUID): i.FailureReason for i in report.get("FailedSOPSequence", [])}


def test_off_by_default(made):
    with Scanner().associated(made().receiver.port) as opened:
        assert [str(c.abstract_syntax) for c in opened.rejected_contexts] == [COMMITMENT]


def test_report_over_the_association_that_is_kept_open(made):
    node, scanner = made(commit_days=2), Scanner()
    with scanner.associated(node.receiver.port) as opened:
        assert opened.send_c_store(instance(1)).Status == 0x0000
        assert opened.send_c_store(instance(2)).Status == 0x0000
        asked = [(CT_IMAGE, uid("series", 1)), ("1.2.840.10008.5.1.4.1.1.4", uid("series", 2)), (CT_IMAGE, uid("never"))]
        assert ask(opened, *asked) == 0x0000
        wait_until(lambda: scanner.reports)
    (kind, report), = scanner.reports
    assert kind == 2 and report.TransactionUID == "1.2.3.4"
    assert outcome(report) == ([uid("series", 1)], {uid("series", 2): 0x0119, uid("never"): 0x0112})
    node.report_due(86400)
    assert len(scanner.reports) == 1
    assert node.ledger.promises.keep([uid("series", 1)], node.now) == {uid("series", 1)}


def test_a_request_that_crosses_our_report_is_served_after_it(made):
    """Both sides of an association may ask at once: the scanner sends its next request before it answers our report."""
    node, scanner = made(commit_days=2), Scanner()

    def cross(event: evt.Event) -> tuple[int, None]:
        if not scanner.reports:
            request = N_ACTION()
            request.MessageID, request.ActionTypeID = 9, 1
            request.RequestedSOPClassUID, request.RequestedSOPInstanceUID = COMMITMENT, INSTANCE
            request.ActionInformation = io.BytesIO(encoded(information("1.2.3.5", (CT_IMAGE, uid("series", 1)))))
            event.assoc.dimse.send_msg(request, event.context.context_id)
        return scanner.report(event)

    opened = AE("SCANNER").associate(
        "127.0.0.1", node.receiver.port, ae_title="OVCF_NODE", evt_handlers=[(evt.EVT_N_EVENT_REPORT, cross)],
        contexts=[build_context(CT_IMAGE, EXPLICIT), build_context(COMMITMENT, EXPLICIT)],
    )
    opened.send_c_store(instance(1))
    assert ask(opened, (CT_IMAGE, uid("series", 1))) == 0x0000
    wait_until(lambda: len(scanner.reports) == 2)
    assert [report.TransactionUID for _, report in scanner.reports] == ["1.2.3.4", "1.2.3.5"]
    opened.release()


def test_one_report_waits_for_the_answer_to_another(made):
    """Several transactions asked for in a row: two reports on the way at once would take each other's answers."""
    node, scanner, on_the_way = made(commit_days=2), Scanner(), [0]

    def counted(event: evt.Event) -> None:
        step = {"N_EVENT_REPORT_RQ": 1, "N_EVENT_REPORT_RSP": -1}.get(type(event.message).__name__, 0)
        on_the_way.append(on_the_way[-1] + step)

    def slowly(event: evt.Event) -> tuple[int, None]:
        if not scanner.reports:
            time.sleep(1.5)  # the others' turn comes meanwhile
            node.report_due(60)  # what waits for its turn is not given up, nor given over an association of ours
        return scanner.report(event)

    opened = AE("SCANNER").associate(
        "127.0.0.1", node.receiver.port, ae_title="OVCF_NODE",
        contexts=[build_context(CT_IMAGE, EXPLICIT), build_context(COMMITMENT, EXPLICIT)],
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, slowly), (evt.EVT_DIMSE_RECV, counted), (evt.EVT_DIMSE_SENT, counted)],
    )
    pause_for_certain(opened)
    opened.send_c_store(instance(1))
    transactions = [f"1.2.3.{number}" for number in range(4)]
    for transaction in transactions:
        assert ask(opened, (CT_IMAGE, uid("series", 1)), transaction=transaction) == 0x0000
    wait_until(lambda: len(scanner.reports) >= len(transactions))
    assert sorted(str(report.TransactionUID) for _, report in scanner.reports) == transactions
    assert max(on_the_way) == 1
    opened.release()


def test_report_over_an_association_of_ours_until_it_is_taken(made):
    scanner = Scanner(status=0x0110)
    with scanner.listening() as port:
        node = made(commit_days=2, sources=[Source(ae_title="SCANNER", report_host="127.0.0.1", report_port=port)])
        with scanner.associated(node.receiver.port) as opened:
            opened.send_c_store(instance(1))
            assert ask(opened, (CT_IMAGE, uid("series", 1))) == 0x0000
        node.report_due(0)
        assert scanner.reports == []  # its own association comes first
        node.report_due(5)
        scanner.status = 0x0000
        node.report_due(1)
        assert len(scanner.reports) == 1  # refused: not again at once
        node.report_due(20)
        node.report_due(86400)
    assert [kind for kind, _ in scanner.reports] == [1, 1]
    assert outcome(scanner.reports[-1][1]) == ([uid("series", 1)], {})


def test_a_file_that_is_gone_is_not_promised(made):
    node, scanner = made(commit_days=2), Scanner()
    with scanner.associated(node.receiver.port) as opened:
        opened.send_c_store(instance(1))
        node.spool.purge(list(node.spool.files()))
        ask(opened, (CT_IMAGE, uid("series", 1)))
        wait_until(lambda: scanner.reports)
    assert outcome(scanner.reports[0][1]) == ([], {uid("series", 1): 0x0112})


def test_request_without_instances_is_refused(made):
    with Scanner().associated(made(commit_days=2).receiver.port) as opened:
        assert ask(opened) == 0x0115
