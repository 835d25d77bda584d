"""Shadow mode with real processes: everything is read and kept, the PACS gets nothing, then or later."""

import time
from pathlib import Path

import pydicom
import pytest

from node_harness import Node, RecordingPacs, dicom_destination, free_port, storescu
from ovcf_node.demo import phantom
from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.domain.identity import uid_from
from ovcf_node.operate import decisions
from query_peers import find, identifier

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SERIES = uid_from("phantom", "demo", "series")


def test_shadow_results_stay_and_are_compared_and_never_leave_later(tmp_path: Path):
    phantom.write_series(phantom.load(), tmp_path / "scanner")
    pacs, trial, port = RecordingPacs(tmp_path / "pacs"), tmp_path / "trial", free_port()
    query = f'[query]\nenabled = true\nhost = "127.0.0.1"\nport = {port}\npeers = [{{ ae_title = "PACS" }}]\n'
    with pacs.running():
        destinations = dicom_destination("pacs", pacs.title, pacs.port)
        destinations += f'[[destinations]]\nname = "trial"\ntype = "folder"\nshadow = true\npath = "{trial}"\n'
        node = Node(tmp_path / "node", destinations, extra=query)
        live = node.configuration.read_text()
        node.configuration.write_text(live.replace("[node]\n", '[node]\nmode = "shadow"\n'))
        with node.running():
            storescu(node.port, tmp_path / "scanner")
            revision = node.settled(SERIES)
            reports = [ds for p in trial.glob("*.dcm") if (ds := pydicom.dcmread(p)).Modality == "SR"]
            asked = identifier("SERIES", StudyInstanceUID=revision.study_instance_uid, SeriesDescription="", Modality="")
            described = [match.SeriesDescription for _, match in find(port, asked)[0]]
            compared = compare(node, tmp_path)
        assert len(list(trial.glob("*.dcm"))) == 4 and revision.shadow
        assert len(described) == 4 and all(text.startswith("SHADOW") for text in described)
        assert reports[0].SeriesDescription.startswith("SHADOW")
        assert "| sensitivity | 0.933 (167/179, 0.886-0.961) | 1.000 (1/1, 0.207-1.000) |" in compared
        assert "Not compared, the node has no such answered study: line 3." in compared and "DEMO0001" not in compared

        node.configuration.write_text(live)
        with node.running():
            said = SecondReading("anna", "Bergmann^Anna", time.time(), (Assessment("L1", Verdict.ACCEPTED),))
            decisions.assess(node.ledger, node.newest(SERIES), said)
            second = node.settled(SERIES)
            deliveries = node.ledger.deliveries.of_revision(second.id)
            assert second.number == 2 and {d.destination for d in deliveries} == {"trial"}
            # What comes back is judged after everything that was due: nothing was.
            storescu(node.port, trial, "-R")
            report = node.settled(str(reports[0].SeriesInstanceUID))
            assert report.reason_code == "own_result" and node.ledger.deliveries.due(time.time() + 3600) == []
    assert pacs.receipts == []


def compare(node: Node, folder: Path) -> str:
    table = folder / "truth.csv"
    table.write_text("accession_number,level,fracture,type\nDEMO0001,L1,yes,B\nUNKNOWN,L2,yes,A\n")
    done = node.command("shadow", "compare", "--truth", str(table))
    assert done.returncode == 0, done.stderr
    return done.stdout
