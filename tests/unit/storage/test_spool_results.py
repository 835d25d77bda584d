import os
import stat
import time

import numpy as np
import pytest

from ovcf_node.domain.volume import Masks
from ovcf_node.errors import Permanent
from ovcf_node.storage import masks
from ovcf_node.storage.results import Results
from ovcf_node.storage.secret import installation_secret
from ovcf_node.storage.spool import Spool


def test_spool_stores_every_receipt_as_its_own_file(tmp_path):
    spool = Spool(tmp_path / "spool")
    first = spool.store([b"ab", b"cd"], "1.2.3")
    second = spool.store([b"ab", b"cd"], "1.2.3")
    assert first.path != second.path
    assert first.size == 4
    assert spool.read(first.path) == b"abcd"
    assert sorted(spool.files()) == sorted([first.path, second.path])


def test_spool_path_never_contains_what_a_peer_sent(tmp_path):
    spool = Spool(tmp_path / "spool")
    for hostile in ("../../etc", "/absolute", "1.2\x00.3", "x" * 10_000):
        stored = spool.store([b"1"], hostile)
        inside = os.path.realpath(spool.path(stored.path))
        assert inside.startswith(os.path.realpath(spool.root))
        assert hostile not in stored.path
        assert len(stored.path) < 255


def test_spool_purge_keeps_what_arrived_meanwhile(tmp_path):
    spool = Spool(tmp_path / "spool")
    old, new = spool.store([b"1"], "1.2"), spool.store([b"2"], "1.2")
    spool.purge([old.path])
    assert list(spool.files()) == [new.path]
    spool.purge([new.path])
    assert spool.store([b"3"], "1.2")  # the folder is gone and comes back


def test_spool_files_are_not_for_everybody(tmp_path):
    spool = Spool(tmp_path / "spool")
    mode = spool.path(spool.store([b"1"], "1.2").path).stat().st_mode
    assert not mode & stat.S_IRWXO


def test_spool_clean_temporary(tmp_path):
    spool = Spool(tmp_path / "spool")
    (tmp_path / "spool/.tmp/left").write_bytes(b"x")
    assert spool.clean_temporary(time.time() + 4000) == 1
    assert list(spool.files()) == []


def test_results_put_get_names_purge(tmp_path):
    results = Results(tmp_path / "results")
    path = results.put("1.2.3/1", "findings.json", b"{}")
    assert path == results.path("1.2.3/1", "findings.json")
    assert results.get("1.2.3/1", "findings.json") == b"{}"
    results.put("1.2.3/1", "findings.json", b"{1}", replace=False)
    assert results.get("1.2.3/1", "findings.json") == b"{}"
    results.put("1.2.3/1", "findings.json", b"{2}")
    assert results.get("1.2.3/1", "findings.json") == b"{2}"
    results.put("1.2.3/2", "masks.npz", b"m")
    assert results.names("1.2.3/1") == ["findings.json"]
    results.purge("1.2.3/1")
    assert results.names("1.2.3/1") == []
    assert results.names("1.2.3/2") == ["masks.npz"]
    with pytest.raises(Permanent, match="result_missing"):
        results.get("1.2.3/1", "findings.json")


def test_an_attempt_is_seen_at_once_or_not_at_all_and_the_first_one_stays(tmp_path):
    results = Results(tmp_path)
    results.prepare("one", {"a": b"1", "b": b"1"})
    results.prepare("two", {"a": b"2", "c": b"2"})
    assert results.names("series/1/9.5") == [] and not results.has("series/1/9.5")
    assert results.publish("two", "series/1/9.5")
    assert not results.publish("one", "series/1/9.5")
    assert [results.get("series/1/9.5", name) for name in results.names("series/1/9.5")] == [b"2", b"2"]
    results.drop("one")
    results.drop("one")
    assert list((tmp_path / ".tmp").iterdir()) == []
    results.purge("series/1/9.5")
    assert not results.has("series/1/9.5")


def test_a_reading_of_an_earlier_version_lies_beside_its_objects(tmp_path):
    results = Results(tmp_path)
    results.put("series/1", "findings.json", b"old")
    assert results.get("series/1/9.5", "findings.json") == b"old" and not results.has("series/1/9.5")
    results.purge("series/1/9.5")
    assert results.names("series/1") == ["findings.json"]
    results.put("series/1/9.5", "findings.json", b"new")
    assert results.get("series/1/9.5", "findings.json") == b"new"


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a\x00b", "x" * 101])
def test_results_takes_plain_names_only(tmp_path, name):
    with pytest.raises(Permanent, match="result_name"):
        Results(tmp_path).put("key", name, b"")


def test_masks_round_trip():
    rng = np.random.default_rng(1)
    box = rng.integers(0, 8, (5, 6, 7), dtype=np.uint8)
    before = Masks(box, (box == 3).astype(np.uint8), (10, 0, 2), (20, 6, 9))
    data = masks.to_bytes(before)
    after = masks.from_bytes(data)
    np.testing.assert_array_equal(after.vertebrae, before.vertebrae)
    np.testing.assert_array_equal(after.fractures, before.fractures)
    assert (after.origin, after.shape) == (before.origin, before.shape)
    assert after.vertebrae.dtype == np.uint8
    assert masks.to_bytes(before) == data


def test_masks_refuses_damage():
    box = np.zeros((2, 2, 2), np.uint8)
    good = masks.to_bytes(Masks(box, box, (0, 0, 0), (2, 2, 2)))
    outside = masks.to_bytes(Masks(box, box, (1, 0, 0), (2, 2, 2)))
    for damaged in (b"", b"not an archive", good[: len(good) // 2], good[:90] + b"\xff" * 20 + good[110:], outside):
        with pytest.raises(Permanent, match="masks_unreadable"):
            masks.from_bytes(damaged)


def test_secret_is_made_once(tmp_path):
    secret = installation_secret(tmp_path / "data")
    assert len(secret) == 32
    assert installation_secret(tmp_path / "data") == secret
    assert installation_secret(tmp_path / "other") != secret
