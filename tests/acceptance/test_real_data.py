"""Real and odd input: for each case the exact status, reason and objects; nothing crashes, blocks or is lost."""

import json
import subprocess
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.errors import InvalidDicomError

from node_harness import Node, RecordingPacs, dciodvfy_errors, dicom_destination, get, orthanc, storescu, wait_for
from ovcf_node.app.checks import send_folder
from ovcf_node.cli import Exit
from ovcf_node.network.associate import Remote

pytestmark = [pytest.mark.peer, pytest.mark.slow]

IMAGE_OBJECTS = ["seg_vertebrae.dcm", "sr.dcm", "summary.png"]
ONLY_REPORT = ["sr.dcm"]

# folder -> exit status of `analyze`, status, first reason, objects
CASES = [
    ("ct/acrin_flt_001_abdomen_pelvis", Exit.ASSESSED, "limited", "grading_withheld", IMAGE_OBJECTS),
    ("ct/crlm_1004", Exit.ASSESSED, "limited", "grading_withheld", IMAGE_OBJECTS),
    ("ct/totalsegmentator_slab_jpeg2000", Exit.NOT_ASSESSED, "not_assessed", "too_little_spine", ONLY_REPORT),
    ("odd/ge_tilt_variable_gap_head", Exit.EXCLUDED, "excluded", "no_spine", []),
    ("odd/philips_S21570_S1000", Exit.EXCLUDED, "excluded", "scout", []),
    ("odd/philips_S21570_S4010", Exit.EXCLUDED, "excluded", "not_original_image", []),
    ("odd/d2n_gantrytilting_001", Exit.EXCLUDED, "excluded", "too_short", []),
    ("odd/d2n_notavolume_001", Exit.EXCLUDED, "excluded", "too_short", []),
    ("odd/d2n_sliceincrement_001", Exit.EXCLUDED, "excluded", "too_short", []),
    ("odd/d2n_sliceincrement_002", Exit.EXCLUDED, "excluded", "too_short", []),
    ("odd/cs3d_transfer_syntaxes", Exit.EXCLUDED, "excluded", "too_short", []),
    ("odd/enhanced_ct_2frame_perfusion.dcm", Exit.EXCLUDED, "excluded", "derived_map", []),
    ("odd/dcmqi_segmentations/23x38x3/image", Exit.EXCLUDED, "excluded", "too_short", []),
    ("odd/dcmqi_segmentations/23x38x3/multiframe", Exit.EXCLUDED, "excluded", "too_short", []),
    ("odd/dcmqi_segmentations/23x38x3/seg", Exit.EXCLUDED, "excluded", "not_ct", []),
    ("odd/dcmqi_segmentations/ct-3slice", Exit.EXCLUDED, "excluded", "too_short", []),
    ("odd/dcmqi_segmentations", Exit.EXCLUDED, "excluded", "not_ct", []),
    ("odd/fodicom/CT1_J2KI", Exit.EXCLUDED, "excluded", "too_short", []),
    ("odd/fodicom/GH342.dcm", Exit.EXCLUDED, "excluded", "scout", []),
    ("odd/fodicom/GH178.dcm", Exit.EXCLUDED, "excluded", "not_original_image", []),
    ("odd/fodicom", Exit.EXCLUDED, "excluded", "not_original_image", []),
]


@pytest.mark.parametrize(("folder", "code", "status", "reason", "objects"), CASES, ids=[c[0] for c in CASES])
def test_analyze(shared_data, tmp_path, folder, code, status, reason, objects):
    done = subprocess.run(
        [sys.executable, "-m", "ovcf_node", "analyze", str(shared_data / folder), "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=300,
    )
    findings = json.loads((tmp_path / "findings.json").read_text())
    assert (done.returncode, findings["status"], findings["reasons"][0]["code"]) == (code, status, reason), done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["findings.json", *objects])
    checked = [p for p in tmp_path.glob("*.dcm")]
    assert len(checked) == sum(name.endswith(".dcm") for name in objects)
    assert {p.name: e for p in checked if (e := dciodvfy_errors(p))} == {}
    assert findings["patient"]["ovcf"] is None


def test_thick_slices_are_labelled_and_never_graded(shared_data, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "ovcf_node", "analyze", str(shared_data / "ct/acrin_flt_001_abdomen_pelvis"), "--out",
         str(tmp_path)], capture_output=True, timeout=300, check=True,
    )
    vertebrae = json.loads((tmp_path / "findings.json").read_text())["vertebrae"]
    assert len(vertebrae) >= 5
    for vertebra in vertebrae:
        assert vertebra["centroid_mm"] is not None
        for graded in ("fracture", "probability", "denis", "genant", "height_loss", "old_deformity", "age"):
            assert vertebra[graded] is None, graded


def test_real_abdomen_from_storescu_to_orthanc(shared_data, tmp_path):
    source = shared_data / "ct/acrin_flt_001_abdomen_pelvis"
    series = next(iter(series_in(next(source.glob("*")))))
    with orthanc(tmp_path / "orthanc") as (port, url):
        node = Node(tmp_path / "node", dicom_destination("pacs", "ORTHANC", port))
        with node.running():
            storescu(node.port, source)
            revision = node.settled(series)
            findings = node.findings(revision)
            assert (findings.status, findings.reasons[0].code) == ("limited", "grading_withheld")
            deliveries = node.ledger.deliveries.of_revision(revision.id)
            assert {(d.role, d.state) for d in deliveries} == {
                ("seg_vertebrae", "ACCEPTED"), ("summary", "ACCEPTED"), ("sr", "ACCEPTED"),
            }
            there = {}
            for identifier in json.loads(get(f"{url}/instances")):
                ds = pydicom.dcmread(BytesIO(get(f"{url}/instances/{identifier}/file")))
                there[ds.SOPInstanceUID] = ds
            for delivery in deliveries:
                ours = pydicom.dcmread(node.settings.node.data / "results" / delivery.path)
                assert there[delivery.sop_instance_uid] == ours


def copy_with_uids(source: Path, target: Path) -> Path:
    """Give instances without UIDs some, as a PACS would before it sends them on."""
    target.mkdir(parents=True)
    for index, path in enumerate(sorted(source.glob("*"))):
        ds = pydicom.dcmread(path)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
        ds.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.3.{index}"
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(target / f"{index}.dcm")
    return target


def series_in(folder: Path) -> set[str]:
    paths = [folder] if folder.is_file() else [p for p in folder.rglob("*") if p.is_file()]
    found = set()
    for path in paths:
        try:
            found.add(str(pydicom.dcmread(path, stop_before_pixels=True).get("SeriesInstanceUID", "")))
        except InvalidDicomError:
            continue
    return found - {""}


def test_everything_over_the_network_and_nothing_is_lost(shared_data, tmp_path):
    pacs = RecordingPacs(tmp_path / "pacs")
    with pacs.running():
        extra = 'incomplete_limit_s = 4.0'
        node = Node(tmp_path / "node", dicom_destination("pacs", pacs.title, pacs.port), extra="")
        node.configuration.write_text(node.configuration.read_text().replace("quiet_s = 2.0", f"quiet_s = 2.0\n{extra}"))
        with node.running():
            remote = Remote("127.0.0.1", node.port, "OVCF_NODE", "SCANNER")
            slab = copy_with_uids(shared_data / "ct/totalsegmentator_slab_jpeg2000", tmp_path / "slab")
            accepted: set[str] = set()
            for folder in [shared_data / "odd", shared_data / "ct/crlm_1004", slab]:
                refused = Counter()
                for reply in send_folder(folder, remote):
                    if reply.status != 0:
                        refused[reply.status] += 1
                # Only instances that are no composite image object of ours may be refused, and never silently.
                assert set(refused) <= {None, 0xA900, 0xC000, 0x0122}, refused
                accepted |= series_in(folder)
            known = {r.series_instance_uid for r in wait_for(lambda: settled(node, 1), 400, "all series settled")}
            reasons = Counter(r.reason_code or "answered" for r in node.ledger.revisions.newest(1000))
            assert known <= accepted
            assert reasons["answered"] == 1, reasons  # crlm_1004
            assert reasons["too_little_spine"] == 1 and reasons["no_spine"] >= 1 and reasons["scout"] >= 1, reasons
            answered = [r for r in node.ledger.revisions.newest(1000) if r.answered]
            assert len(answered) == 2
        assert node.exit_status == 0
    objects = list(pacs.folder.glob("*.dcm"))
    assert Counter(pydicom.dcmread(p, stop_before_pixels=True).Modality for p in objects) == {"SEG": 1, "OT": 1, "SR": 2}
    assert {p.name: e for p in objects if (e := dciodvfy_errors(p))} == {}


def settled(node: Node, least: int) -> list:
    """Return the newest revisions once every one of them has an end, an empty list before."""
    revisions = node.ledger.revisions.newest(1000)
    ended = [
        r for r in revisions
        if r.state in ("EXCLUDED", "FAILED")
        or (r.answered and all(d.state != "PENDING" for d in node.ledger.deliveries.of_revision(r.id)))
    ]
    held = {h.study_instance_uid for h in node.ledger.holds.all()}
    open_ = [r for r in revisions if r not in ended and r.study_instance_uid not in held]
    return revisions if len(revisions) >= least and not open_ else []
