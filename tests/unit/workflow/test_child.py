"""The child process: its answers, its death, its time limit, its loneliness."""

import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from ct_series import grid, linear_hu, write_ct
from dicom_peers import CT_IMAGE, uid
from ovcf_node.config import Settings
from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import contexts
from ovcf_node.receive.file_meta import encode_head
from ovcf_node.storage.results import Results
from ovcf_node.workflow.child import Children, Crashed

SHAPE = (40, 32, 32)


def series(folder):
    affine = grid(SHAPE, spacing=(1.0, 1.5, 1.5))
    return write_ct(folder, linear_hu(SHAPE, affine), affine, PatientName="Secret^Name")


def test_scout_is_answered_and_stored(tmp_path):
    affine = grid(SHAPE, spacing=(1.0, 1.5, 1.5))
    paths = write_ct(tmp_path / "in", linear_hu(SHAPE, affine), affine, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    results = Results(tmp_path / "out")
    Children(Settings()).read(paths, results.root, "attempt")
    assert results.names("key") == []  # nobody sees it yet
    assert results.publish("attempt", "key")
    assert results.names("key") == ["findings.json", "sources.json"]


def test_error_of_the_child_is_the_caller_s(tmp_path):
    settings = Settings(node={"bundle": tmp_path / "no-bundle"})
    with pytest.raises(Permanent) as caught:
        Children(settings).read(series(tmp_path / "in"), tmp_path / "out", "attempt")
    assert caught.value.code == "bundle_manifest"


def test_killed_child_has_crashed(tmp_path):
    children = Children(Settings())
    children.start_idle()
    pid = children._idle[0].process.pid

    with pytest.raises(Transient) as caught:
        children.read(series(tmp_path / "in"), tmp_path / "out", "attempt",
                      progress=lambda stage, fraction: os.kill(pid, signal.SIGKILL))
    assert caught.value.code == "child_crashed" and "SIGKILL" in caught.value.text


def test_a_child_that_was_asked_to_end_did_not_crash(tmp_path):
    children = Children(Settings())
    children.start_idle()
    pid = children._idle[0].process.pid
    with pytest.raises(Transient) as caught:
        children.read(series(tmp_path / "in"), tmp_path / "out", "attempt",
                      progress=lambda stage, fraction: os.kill(pid, signal.SIGTERM))
    assert caught.value.code == "child_died" and not isinstance(caught.value, Crashed)


def test_one_child_serves_several_jobs(tmp_path):
    children = Children(Settings())
    paths = series(tmp_path / "in")
    assert children.inspect(paths).kind == "eligible"
    pid = children._idle[0].process.pid
    assert children.inspect(paths).candidate["orientation"] == "axial"
    assert [c.process.pid for c in children._idle] == [pid]
    children.close()


def test_time_limit(tmp_path):
    with pytest.raises(Transient) as caught:
        Children(Settings(infer={"timeout_s": 0.05})).read(series(tmp_path / "in"), tmp_path / "out", "attempt")
    assert caught.value.code == "child_timeout"


def test_a_look_that_runs_out_of_time_twice_is_given_up(tmp_path, monkeypatch):
    one, two, *_ = series(tmp_path / "in")
    children = Children(Settings(infer={"timeout_s": 0.05}))
    with pytest.raises(Permanent) as caught:
        children.compare(one, two)
    assert caught.value.code == "child_timeout"
    with pytest.raises(Transient) as caught:  # what a note rejects must not be read because a machine was slow
        children.source_note(one)
    assert caught.value.code == "child_timeout"


def test_memory_limit(tmp_path):
    head = encode_head(
        sop_class_uid=CT_IMAGE, sop_instance_uid=uid("bomb"), transfer_syntax_uid=contexts.DEFLATED_LITTLE_ENDIAN,
        calling_ae_title="A", called_ae_title="B",
    )
    deflating = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(deflating.compress(bytes(2**20)) for _ in range(500)) + deflating.flush()
    path = tmp_path / "bomb.dcm"
    path.write_bytes(head + bomb)
    with pytest.raises(Crashed) as caught:
        Children(Settings(infer={"memory_mb": 512})).inspect([path])
    assert caught.value.code == "out_of_memory"


def test_foreign_error_tells_its_kind_and_place_only():
    with pytest.raises(Permanent) as caught:
        Children(Settings())._run({"kind": "inspect", "paths": [], "assemble": {"Secret^Name": 1}}, lambda *_: None)
    assert caught.value.code == "defect" and "Secret" not in str(caught.value)
    assert "ValidationError" in caught.value.text


def test_a_file_that_cannot_be_read_is_no_conflict(tmp_path):
    with pytest.raises(Transient) as caught:
        Children(Settings()).compare(tmp_path / "Secret^Name", tmp_path / "b")
    assert caught.value.code == "io_error" and "Secret" not in str(caught.value)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_child_leaves_when_its_parent_is_killed(tmp_path):
    program = (
        "import sys, time; from ovcf_node.config import Settings; from ovcf_node.workflow.child import Children\n"
        "c = Children(Settings()); c.start_idle(); print(c._idle[0].process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not alive(pid):
            return
        time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the child outlived its parent")
