import errno
import os
import time

import pytest

from ovcf_node.errors import Transient
from ovcf_node.storage import atomic


def files(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_write_joins_parts_and_makes_folders(tmp_path):
    size = atomic.write(tmp_path, "a/b/c.bin", [b"one", bytearray(), memoryview(b"two"), b""])
    assert size == 6
    assert (tmp_path / "a/b/c.bin").read_bytes() == b"onetwo"
    assert files(tmp_path) == ["a/b/c.bin"]


def test_write_goes_on_after_a_partial_write(tmp_path, monkeypatch):
    whole = os.writev
    monkeypatch.setattr(os, "writev", lambda descriptor, views: whole(descriptor, [views[0][:3]]))
    atomic.write(tmp_path, "x", [b"abcdefgh", b"ij", b"klmnopq"])
    assert (tmp_path / "x").read_bytes() == b"abcdefghijklmnopq"


def test_order_is_data_then_name_then_folder(tmp_path, monkeypatch):
    calls = []
    for name in ("fdatasync", "replace", "fsync"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _f=original, _n=name: (calls.append(_n), _f(*a))[1])
    (tmp_path / atomic.TEMPORARY).mkdir()
    atomic.write(tmp_path, "x", [b"1"])
    assert calls == ["fdatasync", "replace", "fsync"]


@pytest.mark.parametrize("step", ["writev", "fdatasync", "replace"])
@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "disk_full"), (errno.EDQUOT, "disk_full"), (errno.EIO, "storage")]
)
def test_failure_leaves_nothing_and_names_the_cause(tmp_path, monkeypatch, step, number, code):
    def fail(*_):
        raise OSError(number, os.strerror(number), "/secret/path")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(Transient) as caught:
        atomic.write(tmp_path, "folder/x", [b"1234"])
    assert caught.value.code == code
    assert "/secret" not in str(caught.value)
    assert files(tmp_path) == []


def test_failed_replacement_keeps_the_old_bytes(tmp_path, monkeypatch):
    atomic.write(tmp_path, "x", [b"old"])
    monkeypatch.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "i/o error")))
    with pytest.raises(Transient):
        atomic.write(tmp_path, "x", [b"new"])
    assert (tmp_path / "x").read_bytes() == b"old"


def test_replace_or_keep(tmp_path):
    atomic.write(tmp_path, "x", [b"first"])
    atomic.write(tmp_path, "x", [b"second"], replace=False)
    assert (tmp_path / "x").read_bytes() == b"first"
    atomic.write(tmp_path, "x", [b"third"])
    assert (tmp_path / "x").read_bytes() == b"third"
    assert files(tmp_path) == ["x"]


def test_clean_temporary_removes_what_was_abandoned_and_nothing_else(tmp_path):
    atomic.write(tmp_path, "keep/x", [b"1"])
    abandoned, unfinished = (tmp_path / atomic.TEMPORARY / name for name in ("abandoned", "unfinished"))
    for path in (abandoned, unfinished):
        path.write_bytes(b"123")
    now = time.time()
    os.utime(abandoned, (now, now - atomic.ABANDONED_S - 1))
    assert atomic.clean_temporary(tmp_path, now) == 1
    assert files(tmp_path) == [".tmp/unfinished", "keep/x"]
    assert atomic.clean_temporary(tmp_path / "never_used", now) == 0


def test_clean_temporary_removes_an_abandoned_folder_whole(tmp_path):
    for name in ("abandoned", "unfinished"):
        for file in ("x", "y"):
            atomic.write(tmp_path, f"{atomic.TEMPORARY}/{name}/{file}", [b"1"])
    now = time.time()
    os.utime(tmp_path / atomic.TEMPORARY / "abandoned", (now, now - atomic.ABANDONED_S - 1))
    assert atomic.clean_temporary(tmp_path, now) == 1
    assert files(tmp_path) == [".tmp/unfinished/x", ".tmp/unfinished/y"]
    assert atomic.publish_folder(tmp_path, "unfinished", "a/b") and files(tmp_path) == ["a/b/x", "a/b/y"]
    with pytest.raises(Transient, match="storage"):
        atomic.publish_folder(tmp_path, "abandoned", "a/c")  # whoever wakes up too late publishes nothing


def test_another_writer_cleans_while_a_file_is_half_written(tmp_path, monkeypatch):
    synchronise = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda d: (atomic.clean_temporary(tmp_path, time.time()), synchronise(d))[1])
    atomic.write(tmp_path, "x", [b"whole"])
    assert files(tmp_path) == ["x"]


def test_remove_takes_an_empty_folder_along(tmp_path):
    atomic.write(tmp_path, "a/x", [b"1"])
    atomic.write(tmp_path, "a/y", [b"1"])
    atomic.remove(tmp_path, "a/x")
    assert files(tmp_path) == ["a/y"]
    atomic.remove(tmp_path, "a/y")
    assert not (tmp_path / "a").exists()
    atomic.remove(tmp_path, "a/y")  # again: no error


def test_free_bytes_is_what_the_filesystem_says(tmp_path):
    assert 0 < atomic.free_bytes(tmp_path) < 2**60
    with pytest.raises(Transient):
        atomic.free_bytes(tmp_path / "missing")
