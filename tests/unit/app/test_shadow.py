"""What the node never answered counts in the comparison with radiologists: silence about a fracture is an error."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ovcf_node.app.shadow import compare
from ovcf_node.config import Settings
from ovcf_node.domain.reasons import reason
from ovcf_node.domain.states import RevisionState
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.ledger.instances import Receipt

RECEIPT = Receipt(
    "1.1", "1.2.840.10008.5.1.4.1.1.2", "1.3", "1.2", "1.2.840.10008.1.2.1", "a.dcm", 10, "a", "p", "CT",
    datetime.fromtimestamp(1.0, UTC), "CT", "NODE", "assoc", False,
)


@pytest.mark.parametrize(("state", "why", "compared"), [
    (RevisionState.EXCLUDED, "no_spine", 1), (RevisionState.FAILED, None, 1), (RevisionState.EXCLUDED, "scout", 0),
])
def test_a_study_without_an_answer(tmp_path, state, why, compared):
    settings = Settings(node={"data": tmp_path, "mode": "shadow"})
    migrate(settings.ledger_url)
    ledger = Ledger(settings.ledger_url)
    ledger.instances.record(RECEIPT)
    for arrival in ledger.instances.arrivals(0):
        ledger.revisions.arrived(arrival, 1.0)
    revision = ledger.revisions.of_series("1.2")[-1]
    if state is RevisionState.FAILED:
        for step in (RevisionState.COMPLETE, RevisionState.INFERRED):
            revision = ledger.revisions.move(revision, step, 2.0)
    ledger.revisions.move(revision, state, 3.0, reason=reason(why) if why else None)
    table = tmp_path / "truth.csv"
    table.write_text("study_instance_uid,level,fracture,type\n1.3,L1,yes,B\n")
    found = compare(settings, ledger, table)
    assert (found.compared, found.left_out) == (compared, 1 - compared)
    assert ("0/1" in found.page) is bool(compared)
    ledger.close()


def test_a_study_that_is_still_being_received_is_no_error(tmp_path):
    settings = Settings(node={"data": tmp_path, "mode": "shadow"})
    migrate(settings.ledger_url)
    ledger = Ledger(settings.ledger_url)
    ledger.instances.record(RECEIPT)
    ledger.instances.record(replace(RECEIPT, sop_instance_uid="1.4", series_instance_uid="1.5", digest="b"))
    for arrival in ledger.instances.arrivals(0):
        ledger.revisions.arrived(arrival, 1.0)
    ledger.revisions.move(ledger.revisions.of_series("1.2")[-1], RevisionState.EXCLUDED, 3.0, reason=reason("too_short"))
    table = tmp_path / "truth.csv"
    table.write_text("study_instance_uid,level,fracture,type\n1.3,L1,yes,B\n")
    assert compare(settings, ledger, table).compared == 0
    ledger.close()
