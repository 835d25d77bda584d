"""The main job with real processes and real peers: scanner -> node -> PACS."""

import hashlib
import json
import os
import signal
import time
from collections import defaultdict
from pathlib import Path

import jsonschema
import pydicom
import pytest

from catalogue_rows import SC, SEG
from commitment_pacs import CommitmentPacs
from ct_series import grid, linear_hu, write_ct
from node_harness import (
    BUNDLE,
    Node,
    RecordingPacs,
    dciodvfy_errors,
    dicom_destination,
    free_port,
    get,
    orthanc,
    storescu,
    wait_for,
)
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.domain.states import DeliveryState
from ovcf_node.network.contexts import STUDY_ROOT_GET
from query_peers import association, find, identifier
from web_server import StowServer, serving

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SR = {"88.34": "1.2.840.10008.5.1.4.1.1.88.34", "88.33": "1.2.840.10008.5.1.4.1.1.88.33",
      "88.22": "1.2.840.10008.5.1.4.1.1.88.22"}


@pytest.fixture(scope="module")
def phantom_series(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    phantom.write_series(phantom.load(), folder)
    return folder


SERIES = uid_from("phantom", "demo", "series")


@pytest.fixture(scope="module")
def journey(tmp_path_factory, phantom_series):
    """One phantom study sent twice through a node: three PACS of three dialects, a folder and a DICOMweb server."""
    folder = tmp_path_factory.mktemp("journey")
    pacs = [RecordingPacs(folder / name, name.upper()) for name in ("new_pacs", "old_pacs", "older_pacs")]
    vna = StowServer()
    with pacs[0].running(), pacs[1].running(), pacs[2].running(), serving(vna.application()) as port:
        destinations = (
            dicom_destination("new", "NEW_PACS", pacs[0].port)
            + dicom_destination("old", "OLD_PACS", pacs[1].port, sr_class="88.33", sr_profile="ohif-text")
            + dicom_destination("older", "OLDER_PACS", pacs[2].port, sr_class="88.22", objects=["summary", "sr"])
            + f'[[destinations]]\nname = "archive"\ntype = "folder"\npath = "{folder / "archive"}"\n'
            + f'[[destinations]]\nname = "vna"\ntype = "stow"\nurl = "http://127.0.0.1:{port}/dicom-web"\n'
        )
        query_port = free_port()
        query = f"""[query]\nenabled = true\nhost = "127.0.0.1"\nport = {query_port}
peers = [{{ ae_title = "OLD_PACS" }}]\n"""
        node = Node(folder / "node", destinations, extra=query)
        with node.running():
            storescu(node.port, phantom_series)
            revision = node.settled(SERIES)
            storescu(node.port, phantom_series)
            time.sleep(node.settings.assemble.quiet_s + 3)
            yield {"node": node, "pacs": pacs, "vna": vna, "revision": revision, "folder": folder, "query_port": query_port}
    assert node.exit_status == 0


def test_planted_fracture_is_found(journey):
    findings = journey["node"].findings(journey["revision"])
    planted = {p.level: p for p in phantom.load().planted if p.fracture}
    found = {v.level: v for v in findings.vertebrae}
    assert planted and all(found[level].fracture for level in planted)
    assert findings.patient.ovcf is True


def test_findings_obey_the_schema(journey):
    schema = json.loads((Path(phantom.__file__).parents[1] / "domain" / "findings.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(journey["node"].findings(journey["revision"]).to_json())), schema)


@pytest.mark.parametrize(
    ("index", "modalities", "sr_class"),
    [(0, ["OT", "SEG", "SEG", "SR"], "88.34"), (1, ["OT", "SEG", "SEG", "SR"], "88.33"), (2, ["OT", "SR"], "88.22")],
)
def test_each_destination_gets_its_objects_in_its_dialect(journey, index, modalities, sr_class):
    received = [pydicom.dcmread(p, stop_before_pixels=True) for p in journey["pacs"][index].folder.glob("*.dcm")]
    assert sorted(ds.Modality for ds in received) == modalities
    assert [ds.SOPClassUID for ds in received if ds.Modality == "SR"] == [SR[sr_class]]


def test_stow_brings_the_same_bytes_as_c_store(journey):
    assert journey["vna"].received == dict(journey["pacs"][0].receipts)
    assert len(journey["vna"].requests) == len(journey["vna"].received)


def test_report_comes_after_what_it_refers_to(journey):
    last_uid, _ = journey["pacs"][0].receipts[-1]
    assert pydicom.dcmread(journey["pacs"][0].folder / f"{last_uid}.dcm").Modality == "SR"


def test_sent_twice_leaves_one_sha_per_uid_and_nothing_new(journey):
    for pacs in journey["pacs"]:
        digests = defaultdict(set)
        for uid, digest in pacs.receipts:
            digests[uid].add(digest)
        assert digests and all(len(found) == 1 for found in digests.values())
        assert len(pacs.receipts) == len(digests)
    assert [r.number for r in journey["node"].ledger.revisions.of_series(SERIES)] == [1]


def test_no_dciodvfy_errors(journey):
    files = [p for pacs in journey["pacs"] for p in pacs.folder.glob("*.dcm")]
    errors = {p.name: found for p in files if (found := dciodvfy_errors(p))}
    assert len(files) == 10 and errors == {}


def test_folder_destination_has_the_same_bytes(journey):
    archive = {p.name: hashlib.sha256(pydicom.dcmread(p).to_json().encode()).hexdigest()
               for p in (journey["folder"] / "archive").glob("*.dcm")}
    at_pacs = {p.name: hashlib.sha256(pydicom.dcmread(p).to_json().encode()).hexdigest()
               for p in journey["pacs"][0].folder.glob("*.dcm")}
    assert archive == at_pacs and len(archive) == 4


def test_destination_finds_and_fetches_what_it_was_sent(journey):
    study_uid, fetched = journey["revision"].study_instance_uid, {}
    (status, study), = find(
        journey["query_port"], calling="OLD_PACS",
        asked=identifier("STUDY", StudyInstanceUID=study_uid, PatientName="PHANTOM*", ModalitiesInStudy="",
                         NumberOfStudyRelatedInstances=""),
    )[0]
    assert status == 0xFF00 and study.PatientName == "Phantom^Demo" and study.NumberOfStudyRelatedInstances == 4
    assert list(study.ModalitiesInStudy) == ["OT", "SEG", "SR"]

    def keep(event) -> int:
        digest = hashlib.sha256(event.request.DataSet.getvalue()).hexdigest()
        fetched[str(event.request.AffectedSOPInstanceUID)] = digest
        return 0x0000

    with association(journey["query_port"], STUDY_ROOT_GET, calling="OLD_PACS", store_handler=keep,
                     store_classes=[SR["88.33"], SEG, SC]) as opened:
        responses = list(opened.send_c_get(identifier("STUDY", StudyInstanceUID=study_uid), STUDY_ROOT_GET))
    assert responses[-1][0].Status == 0x0000 and fetched == dict(journey["pacs"][1].receipts)


def test_commands_tell_what_happened(journey):
    node = journey["node"]
    listed = node.command("jobs", "list")
    assert listed.returncode == 0 and SERIES[-12:] in listed.stdout and "ENCODED" in listed.stdout
    shown = node.command("jobs", "show", SERIES[-12:])
    assert shown.stdout.count("ACCEPTED  attempts 1") == 18 and "RECEIVING -> COMPLETE" in shown.stdout


def test_results_coming_back_are_recognised_and_stop(journey):
    node = journey["node"]
    sent_before = len(journey["pacs"][0].receipts)
    storescu(node.port, journey["pacs"][0].folder, "-R")
    report = next(ds for p in journey["pacs"][0].folder.glob("*.dcm")
                  if (ds := pydicom.dcmread(p, stop_before_pixels=True)).Modality == "SR")
    settled = node.settled(report.SeriesInstanceUID)
    assert (settled.state, settled.reason_code) == ("EXCLUDED", "own_result")
    assert len(journey["pacs"][0].receipts) == sent_before


def test_no_identity_in_the_log(journey):
    log = journey["node"].log.read_text()
    for text in ("Phantom^Demo", "PHANTOM-1", "DEMO0001", "19450508", SERIES):
        assert text not in log
    assert "judged" in log


def test_unknown_calling_ae_title_is_rejected(journey, phantom_series):
    import subprocess

    done = subprocess.run(
        ["storescu", "-aet", "STRANGER", "-aec", "OVCF_NODE", "127.0.0.1", str(journey["node"].port),
         str(next(phantom_series.glob("*.dcm")))], capture_output=True, text=True, timeout=60,
    )
    assert done.returncode != 0 and "Calling AE Title Not Recognized" in done.stderr


def test_outage_is_one_row_until_a_probe_finds_the_return_and_a_held_destination_waits(tmp_path, phantom_series):
    here, away = CommitmentPacs([SEG, SR["88.34"], SC]), RecordingPacs(tmp_path / "away", "AWAY", port=free_port())
    here.report_to = port = free_port()
    destinations = (dicom_destination("here", "PACS", here.port, final="committed")
                    + dicom_destination("away", "AWAY", away.port))
    node = Node(tmp_path / "node", destinations, port=port)

    def states(name: str) -> set[str]:
        return {str(d.state) for d in node.ledger.deliveries.of_revision(node.newest(SERIES).id, name)}

    with node.running():
        storescu(node.port, phantom_series)
        wait_for(lambda: len(here.received) == 4, 240, "the reachable destination is served")
        wait_for(lambda: node.ledger.destinations.of("away").failures >= 3, 90, "probes of the other one are recorded")
        assert states("away") == {"PENDING"}
        tried = {d.attempts for d in node.ledger.deliveries.of_revision(node.newest(SERIES).id, "away")}
        assert tried == {1}  # probes, not attempts to send
        wait_for(lambda: states("here") == {"COMMITTED"}, 90, "the report came to the receiver and was applied")
        assert "AWAY since" in node.command("destinations", "list").stdout
        assert node.command("destinations", "hold", "away").returncode == 0
        with away.running():
            assert node.command("destinations", "hold", "away").returncode == 1
            shown = node.command("jobs", "show", SERIES[-12:]).stdout
            assert shown.count("PENDING  (destination held)") == 4 and shown.count("COMMITTED") >= 4
            assert away.receipts == []
            assert node.command("destinations", "release", "away").returncode == 0
            wait_for(lambda: len(away.receipts) == 4, 90, "the probe finds it and everything goes")
            wait_for(lambda: states("away") == {"ACCEPTED"}, 30, "receipts are recorded")
            assert "served" in node.command("destinations", "list").stdout
    here.close()
    assert node.exit_status == 0


def test_killed_worker_and_inference_go_on_after_restart(tmp_path, phantom_series):
    pacs = RecordingPacs(tmp_path / "pacs")
    with pacs.running():
        node = Node(tmp_path / "node", dicom_destination("pacs", pacs.title, pacs.port))
        with node.running():
            storescu(node.port, phantom_series)
            wait_for(lambda: (r := node.newest(SERIES)) and r.analysis_started_at, 120, "inference runs")
            for pid in node.worker_pids("worker"):
                os.kill(pid, signal.SIGKILL)
            revision = node.settled(SERIES)
            assert revision.state == "ENCODED"
    digests = defaultdict(set)
    for uid, digest in pacs.receipts:
        digests[uid].add(digest)
    assert len(digests) == 4 and all(len(found) == 1 for found in digests.values())


def test_orthanc_round_trip_changes_no_element(tmp_path, phantom_series):
    with orthanc(tmp_path / "orthanc") as (port, url):
        node = Node(tmp_path / "node", dicom_destination("pacs", "ORTHANC", port))
        with node.running():
            storescu(node.port, phantom_series)
            revision = node.settled(SERIES)
            deliveries = node.ledger.deliveries.of_revision(revision.id)
            assert {d.state for d in deliveries} == {DeliveryState.ACCEPTED} and len(deliveries) == 4
            by_uid = {}
            for identifier in json.loads(get(f"{url}/instances")):
                path = tmp_path / f"{identifier}.dcm"
                path.write_bytes(get(f"{url}/instances/{identifier}/file"))
                ds = pydicom.dcmread(path)
                by_uid[ds.SOPInstanceUID] = ds
            for delivery in deliveries:
                ours = pydicom.dcmread(node.settings.node.data / "results" / delivery.path)
                assert by_uid[delivery.sop_instance_uid] == ours


def test_identity_conflict_holds_the_study_until_a_person_releases_it(tmp_path):
    affine = grid((60, 32, 32), spacing=(1.0, 1.5, 1.5))
    paths = write_ct(tmp_path / "series", linear_hu((60, 32, 32), affine), affine)
    other = pydicom.dcmread(paths[0])
    other.PatientName = "Another^Person"
    (tmp_path / "other").mkdir()
    other.save_as(tmp_path / "other" / "x.dcm")
    node = Node(tmp_path / "node", f'[[destinations]]\nname = "archive"\ntype = "folder"\npath = "{tmp_path / "archive"}"\n')
    with node.running():
        storescu(node.port, tmp_path / "series")
        storescu(node.port, tmp_path / "other")
        study = str(other.StudyInstanceUID)
        wait_for(node.ledger.holds.all, 120, "the study is held")
        listed = node.command("jobs", "list").stdout
        assert "identity_conflict" in listed and "Another" not in listed
        assert node.command("jobs", "release", study[-10:]).returncode == 0
        assert node.ledger.holds.all() == []
        settled = node.settled(str(other.SeriesInstanceUID))
        assert (settled.state, settled.reason_code) == ("EXCLUDED", "no_spine")
        assert node.command("jobs", "discard", study[-10:]).returncode == 1  # nothing is held any more


def test_check_names_every_problem_at_once(tmp_path):
    node = Node(tmp_path / "node", dicom_destination("pacs", "NOBODY", 1))
    text = node.configuration.read_text().replace('sources = [{ ae_title = "SCANNER" }, { ae_title = "STORESCU" }]', "")
    node.configuration.write_text(text.replace(str(BUNDLE), str(tmp_path / "no-bundle")))
    done = node.command("check")
    assert done.returncode == 1
    assert all(word in done.stdout for word in ("model bundle", "receive.sources is empty", "destination pacs"))
