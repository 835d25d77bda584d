"""Parts of a commissioning that decide: who we call ourselves, what counts as the planted finding, what the report says."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread

from ovcf_node.commission import Check, Outcome, Run, arrival, other_side, own_side, phantom_study, report
from ovcf_node.config import Destination, Settings, Source, ports_in_words
from ovcf_node.demo import phantom
from ovcf_node.demo.phantom import Planted
from ovcf_node.domain.findings import Findings, VertebraFinding
from ovcf_node.domain.states import DeliveryState as D

NOW = datetime(2026, 11, 25, 22, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(("sources", "calling"), [
    ((), ""),
    ((Source(ae_title="CT", address="192.0.2.9"),), ""),
    ((Source(ae_title="CT"), Source(ae_title="OVCF_COMMISSION")), "OVCF_COMMISSION"),
    ((Source(ae_title="OVCF_COMMISSION", address="192.0.2.9"), Source(ae_title="CT")), "CT"),
])
def test_the_test_study_comes_from_who_may_send(sources, calling):
    settings = Settings(receive={"host": "127.0.0.1", "sources": sources})
    assert own_side.approach(settings, None, None) == own_side.Approach("127.0.0.1", calling)


PLANTED = (Planted("L1", True, "B", 0.29), Planted("L2", False, None, 0.0), Planted("S1", False, None, 0.0))
RIGHT = Findings("assessed", vertebrae=(
    VertebraFinding("L1", True, True, 0.9, denis="B"), VertebraFinding("L2", True, False, 0.1), VertebraFinding("S1", True),
))


@pytest.mark.parametrize(("level", "change", "differs"), [
    ("L1", {}, False), ("L1", {"denis": None}, False), ("L1", {"denis": "A"}, True), ("L1", {"fracture": None}, True),
    ("L1", {"fracture": False}, True), ("L2", {"fracture": True}, True), ("S1", {"complete": None}, False),
])
def test_only_the_planted_finding_passes(level, change, differs):
    vertebrae = tuple(replace(v, **change) if v.level == level else v for v in RIGHT.vertebrae)
    check, rows = phantom_study.beside(PLANTED, replace(RIGHT, vertebrae=vertebrae))
    assert (check.outcome is Outcome.FAIL) is differs and len(rows) == 3
    assert not differs or level in check.found


@pytest.mark.parametrize(("final", "states", "outcome"), [
    ("accepted", {D.ACCEPTED}, Outcome.NOT_CONFIGURED),
    ("found", {D.FOUND}, Outcome.PASS), ("found", {D.FOUND, D.COMMITTED}, Outcome.PASS),
    ("found", {D.ACCEPTED}, Outcome.FAIL),
    ("committed", {D.COMMITTED}, Outcome.PASS), ("committed", {D.COMMITTED, D.FOUND}, Outcome.FAIL),
    ("committed", {D.ACCEPTED}, Outcome.FAIL),
])
def test_a_destination_keeps_what_it_said_it_would(final, states, outcome):
    pacs = Destination(name="pacs", type="dicom", ae_title="PACS", host="127.0.0.1", port=104, final=final)
    check = arrival.confirmed(pacs, states)
    assert check.outcome is outcome and f"final = {final}" in check.found
    assert bool(check.advice) is (outcome is not Outcome.PASS)


def test_every_test_patient_is_new_and_unmistakable(tmp_path: Path):
    one, two = phantom_study.new_patient(NOW), phantom_study.new_patient(NOW)
    assert one.study_instance_uid != two.study_instance_uid and len(one.accession_number) <= 16
    small = phantom.load()
    small = phantom.Phantom(small.hu[:1], small.affine, small.planted)
    path, = phantom.write_series(small, tmp_path, name=one.key, header={"PatientName": one.name})
    written = dcmread(path)
    assert (written.PatientName, written.StudyInstanceUID) == ("OVCF^COMMISSIONING", one.study_instance_uid)


def test_a_report_stands_alone_and_keeps_secrets_and_markup_out(tmp_path: Path):
    run = Run(NOW, phantom_study.new_patient(NOW), [
        Check("Connections", "Destination pacs answers", Outcome.FAIL, "<script>0xA700</script>", "Is it on?", 0.5),
        Check("Connections", "Archives", Outcome.NOT_CONFIGURED, "none"),
    ])
    settings = Settings(node={"bundle": tmp_path}, engine={"ledger_url": "postgresql+psycopg://ovcf:s3cr3t@db/ledger"})
    report.write(run, settings, tmp_path / "out" / "report.html")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "✗ FAILED" in text and "&lt;script&gt;0xA700" in text and "<script" not in text
    assert "s3cr3t" not in text and "src=" not in text and "href=" not in text


def test_who_enters_the_node_elsewhere_is_told_the_ports_that_are_open(tmp_path: Path):
    tls = {"certificate": "node.pem", "key": "node.key", "ca": "ca.pem"}
    receive = {"host": "127.0.0.1", "port": 11112, "tls_port": 2762}
    node = {"bundle": tmp_path, "data": tmp_path}
    both = Settings(node=node, receive=receive, tls=tls)
    encrypted = Settings(node=node, receive=receive | {"plain": False}, tls=tls)
    assert ports_in_words(both.receive) == "11112 (plain) and 2762 (TLS)"
    said: list[str] = []
    other_side.listen(encrypted, 0.1, said.append)
    assert "port 2762 (TLS)" in said[0] and "11112" not in said[0]
    report.write(Run(NOW, phantom_study.new_patient(NOW), []), encrypted, tmp_path / "report.html")
    [line] = [line for line in (tmp_path / "report.html").read_text().splitlines() if "127.0.0.1, port" in line]
    assert "2762 (TLS)" in line and "11112" not in line
