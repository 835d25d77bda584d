"""What makes a series STAT: the request, the order, a configured title, a rule."""

from dataclasses import replace

import pytest

from dicom_peers import SECRET, MemoryLedger, instance, store_request
from ovcf_node.config import Priority, Receive, Settings, Source
from ovcf_node.receive.storing import Storing
from ovcf_node.receive.urgency import Urgency
from ovcf_node.storage.spool import Spool

SITE = Priority(
    calling_ae_titles=("CT_EMERGENCY",), called_ae_titles=("OVCF_STAT",),
    rules=({"attribute": "InstitutionalDepartmentName", "contains": "emergency"},
           {"attribute": "RequestedProcedureDescription", "contains": "TRAUMA"}),
)


@pytest.mark.parametrize(("elements", "peer", "high", "stat"), [
    ({}, {}, False, False), ({}, {}, True, True), ({"RequestedProcedurePriority": "STAT"}, {}, False, True),
    ({}, {"calling_ae_title": "CT_EMERGENCY"}, False, True), ({}, {"calling_ae_title": "CT_EMERGENCY_2"}, False, False),
    ({}, {"called_ae_title": "OVCF_STAT"}, False, True),
    ({"InstitutionalDepartmentName": "Main Emergency Dept"}, {}, False, True),
    ({"InstitutionalDepartmentName": "Ward 3", "RequestedProcedureDescription": "CT spine, Trauma"}, {}, False, True),
    ({"StudyDescription": "emergency"}, {}, False, False),  # a rule looks at its own attribute only
])
def test_what_is_stat(tmp_path, elements, peer, high, stat):
    ledger = MemoryLedger()
    storing = Storing(Spool(tmp_path / "spool"), ledger, min_free_bytes=0, patient_secret=SECRET, urgency=Urgency(SITE))
    request = store_request(instance(1, **elements), high_priority=high)
    storing.store(replace(request, peer=replace(request.peer, **peer)))
    assert ledger.receipts[0].stat is stat


@pytest.mark.parametrize("rule", [
    {"attribute": "PixelData", "contains": "X"}, {"attribute": "NoKeyword", "contains": "X"},
    {"attribute": "ContentSequence", "contains": "X"}, {"attribute": "StudyDescription", "contains": "Unfälle"},
    {"attribute": "StudyDescription", "contains": ""},
])
def test_a_rule_that_could_never_hold_is_a_problem(rule):
    with pytest.raises(ValueError, match=r"attribute|contains"):
        Priority(rules=(rule,))


def test_a_title_that_nobody_has_is_a_problem():
    receive = Receive(sources=(Source(ae_title="CT_EMERGENCY"),), ae_titles=("OVCF_NODE", "OVCF_STAT"))
    assert Settings(receive=receive, priority=SITE).priority.head_start_min == 240
    for receive in (Receive(ae_titles=("OVCF_NODE", "OVCF_STAT")), Receive(sources=(Source(ae_title="CT_EMERGENCY"),))):
        with pytest.raises(ValueError, match="which is not in receive"):
            Settings(receive=receive, priority=SITE)
