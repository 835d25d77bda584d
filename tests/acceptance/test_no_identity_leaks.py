"""One real node, a patient whose every word is marked, everything that succeeds and everything that fails: then every place
where identity must not be is searched for every mark.

Allowed: objects, spool, results, ledger, audit outbox, pages of those who may see identity, `jobs show`. The subject of a
certificate names a machine or somebody of the hospital's: administration, as AE titles and accounts are, and the log says
who was welcome.
"""

import os
from contextlib import ExitStack

import pydicom
import pytest

from leak_scene import ALLOWED, NEEDLES, SERIES, TECHNICIAN, Scene
from planted_defects import not_met, plant_defects
from planted_identity import IDEOGRAPHS, every_form, leaks, mark
from quick_study import label_bundle

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaks")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        words = f"'{mark('message of a defect')} {mark('PatientName')} {IDEOGRAPHS}'"
        plant_defects(folder / "defects", words, NEEDLES)
        scene = Scene(folder, stack)
        patch.setenv("OVCF_NODE__NODE__BUNDLE", str(label_bundle(folder / "bundle")))
        patch.setenv("OVCF_NODE__RECEIVE__COMMIT_DAYS", "1")
        patch.setenv("OVCF_NODE__RECEIVE__TLS_PORT", str(scene.tls_port))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder / "defects"), os.environ.get("PYTHONPATH", "")]))
        with scene.node.running():
            scene.sent()
            scene.answered()
            scene.asked()
            scene.exchanged()
            scene.shown |= {account: scene.browsed(account) for account in (None, "otto", "rita", "vera")}
            scene.commanded()
            scene.shown["jobs show"] = scene._run("jobs", "show", SERIES["read"])
            scene.processes()
        scene.told["log"] = scene.node.log.read_bytes()
        scene.told["addresses"] = "\n".join(sorted(scene.addresses)).encode()
        yield scene


def uids(scene: Scene) -> list[str]:
    """Return the UIDs of all studies, series and instances that were sent."""
    found = set()
    for path in (scene.folder / mark("file name")).glob("*/*"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        found |= {str(header.StudyInstanceUID), str(header.SeriesInstanceUID), str(header.SOPInstanceUID)}
    return sorted(found)


def test_everything_was_met(scene):
    """Without this, a node that does nothing would pass."""
    assert not_met(scene.folder / "defects", NEEDLES) == []
    log = scene.told["log"].decode()
    expected = ("instance_refused", "study_held", "destination_away", "defect", "crashed", "process_ended", "sign_in_failed",
                "dicomweb_failed", "association_rejected", "audit_waits", "signed_in", "study_shown", "sent", "ValueError")
    assert [event for event in expected if f'"{event}' not in log and event not in log] == []
    assert mark("Error Comment") in scene.shown["jobs show"]
    retrievals = scene.statuses["retrieved"]
    assert {status == 0 for status in retrievals} == {True, False} and len(retrievals) == 12
    assert scene.statuses["committed"] == [0x0000, 0x0115, 0x0124, 0x0124]  # a scanner has nothing to report
    assert scene.statuses["hands"][0] == 0 and scene.statuses["hands"][1] != 0
    assert TECHNICIAN in log and "certificate refused" in log and "commitment_report" in log
    assert f"1 of {len(scene.fetched)} instances" in scene.shown["fetch"]
    for account in ("otto", "rita"):
        assert mark("PatientID") in scene.shown[account] and IDEOGRAPHS in scene.shown[account]
    assert mark("Error Comment") in scene.shown["otto"]
    assert "<h3>Objects</h3>" in scene.shown["vera"] and "# HELP ovcf_" in scene.shown[None]


def test_nothing_leaked(scene):
    known = uids(scene)
    allowed = ("pages of otto", "pages of rita")
    found = {}
    for place, said in scene.told.items():
        if place in allowed:
            continue
        leaked = leaks(said, known)
        if place != "log" and TECHNICIAN.encode() in said:
            leaked.append(TECHNICIAN)
        if leaked:
            found[place] = leaked
    assert found == {}
    # Who fetches is told the archive's own words, and nothing else that it said of the patient.
    assert not {"archive's name", "archive's id", "PatientID", "AccessionNumber"} & set(leaks(scene.shown["fetch"].encode()))


def test_the_data_folder(scene):
    root = scene.node.settings.node.data
    paths = [path for path in root.rglob("*") if path.is_file()]
    names = "\n".join(str(path.relative_to(root)) for path in paths).encode()
    assert leaks(names, uids(scene)) == []
    others = [path for path in paths if not path.relative_to(root).parts[0].startswith(ALLOWED)]
    assert {path.name for path in others} >= {"engine.sqlite", "log-key.secret"}
    assert {str(path): found for path in others if (found := leaks(path.read_bytes()))} == {}


def test_the_search_finds_what_is_there(scene, tmp_path):
    """The canary: every form, put into a copy of the log, is found; and the places where identity may be do hold it."""
    log = scene.told["log"]
    lines = log.splitlines()[-10:]
    missed = [form for form in every_form() if not leaks(b"\n".join([*lines[:5], form, *lines[5:]]))]
    assert missed == []
    assert leaks(log + uids(scene)[0].encode(), uids(scene))
    root = scene.node.settings.node.data
    spool = b"".join(path.read_bytes() for path in (root / "spool").rglob("*.dcm"))
    assert {"PatientName", "AccessionNumber", "private text", "item's accession"} <= set(leaks(spool))
    assert leaks(b"".join(path.read_bytes() for path in (root / "audit").rglob("*") if path.is_file()))
