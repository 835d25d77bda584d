"""What was promised to a sender is kept as long as promised, and only what is here is promised."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from ovcf_node.domain.series import Receipt
from ovcf_node.ledger import Ledger
from ovcf_node.ledger.promises import promised
from ovcf_node.ledger.schema import instances


@pytest.fixture
def ledger(ledger_url):
    opened = Ledger(ledger_url)
    yield opened
    opened.close()


def receipt(sop: str) -> Receipt:
    return Receipt(
        sop, "1.2.840.10008.5.1.4.1.1.2", f"7.{sop}", f"6.{sop}", "1.2.840.10008.1.2.1", f"{sop}.dcm", 10, sop, "p", "CT",
        datetime.fromtimestamp(1.0, UTC), "CT", "NODE", "assoc", False,
    )


def kept(ledger: Ledger, now: float) -> set[str]:
    with ledger.promises._engine.connect() as connection:
        return set(connection.execute(select(instances.c.sop_instance_uid).where(promised(now))).scalars())


def test_only_what_is_here_is_promised_and_only_until_then(ledger):
    for sop in ("5.1", "5.2", "5.3"):
        ledger.instances.record(receipt(sop))
    ledger.instances.discard_study("7.5.3")
    assert ledger.promises.keep(["5.1", "5.3", "5.9"], until=200.0) == {"5.1"}
    assert (kept(ledger, 199.0), kept(ledger, 200.0)) == ({"5.1"}, set())
    assert ledger.promises.keep(["5.1"], until=100.0) == {"5.1"}  # a shorter promise takes nothing back
    assert kept(ledger, 150.0) == {"5.1"}
    assert list(ledger.promises.paths(["5.1", "5.2", "5.3"])) == ["5.1", "5.2"]


def test_a_report_is_due_until_the_sender_has_it(ledger):
    report = {"5.1": ("1.2.840", None), "5.9": ("1.2.840", 0x0112)}
    ledger.promises.record("1.2.3", "CT", "NODE", report, now=10.0, report_at=12.0)
    assert ledger.promises.due(11.0) == []
    (due,) = ledger.promises.due(12.0)
    assert (due.calling_ae_title, due.report) == ("CT", report)
    assert ledger.promises.take(due, 50.0) and not ledger.promises.take(due, 50.0)  # one receiver of several
    ledger.promises.again(due, report_at=60.0)
    assert ledger.promises.due(50.0) == [] and ledger.promises.due(60.0)[0].attempts == 1
    ledger.promises.reported(due)
    assert ledger.promises.due(1e9) == [] and ledger.promises.of("1.2.3", "CT") is None
    ledger.promises.record("1.2.3", "CT", "NODE", report, now=70.0, report_at=72.0)  # asked again: reported again
    assert ledger.promises.due(72.0)[0].attempts == 0
