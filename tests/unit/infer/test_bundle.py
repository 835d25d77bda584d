"""A bundle with another file, another shape or another answer is refused in words that name the file and the numbers."""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ovcf_node.errors import Permanent
from ovcf_node.infer import bundle as bundles
from ovcf_node.infer import self_test
from quick_study import without

_REFERENCE = Path(__file__).resolve().parents[3] / "models" / "reference"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(_REFERENCE, tmp_path / "bundle"))


def _edit(folder, pattern, replacement):
    path = folder / "bundle.toml"
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.DOTALL | re.MULTILINE)
    assert count == 1, f"{pattern} does not occur in bundle.toml"
    path.write_text(text)


def _refusal(folder):
    with pytest.raises(Permanent) as caught:
        bundles.load(folder)
    return caught.value


@pytest.fixture(scope="module")
def reference():
    return bundles.load(_REFERENCE, threads=1)


def test_reference_bundle_loads_and_runs(reference):
    assert all(reference.has(stage) for stage in ("label", "segment", "vertebra", "restore")) and not reference.absent
    assert reference.identity.digest == hashlib.sha256((_REFERENCE / "bundle.toml").read_bytes()).hexdigest()
    assert reference.identity == bundles.load_identity(_REFERENCE)
    out = reference.run("label", {"image": np.full((1, 1, 16, 8, 24), -1, np.float32)})
    assert out["classes"].shape == (1, 11, 16, 8, 24) and out["offset"].shape == (1, 3, 16, 8, 24)
    crops = np.zeros((2, 1, *reference.vertebra.shape), np.float32)
    assert reference.run("vertebra", {"crop": crops})["type"].shape == (2, 5)


def test_a_stage_fed_wrongly_is_a_permanent_error(reference):
    with pytest.raises(Permanent) as caught:
        reference.run("vertebra", {"crop": np.zeros((1, 1, 8, 8, 8), np.float32)})
    assert caught.value.code == "bundle_run"


def test_an_answer_that_is_no_number_is_an_error(reference):
    with pytest.raises(Permanent) as caught:
        reference.run("vertebra", {"crop": np.full((1, 1, 56, 72, 32), np.nan, np.float32)})
    assert caught.value.code == "bundle_run" and "not finite" in caught.value.text


def test_changed_network_is_refused_by_digest(folder):
    content = bytearray((folder / "label.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "label.onnx").write_bytes(content)
    refusal = _refusal(folder)
    assert refusal.code == "bundle_digest"
    assert "label.onnx" in refusal.text and hashlib.sha256(content).hexdigest() in refusal.text


def test_missing_file_is_named(folder):
    (folder / "vertebra.onnx").unlink()
    refusal = _refusal(folder)
    assert refusal.code == "bundle_manifest" and "vertebra.onnx" in refusal.text


def test_swapped_stage_is_refused_by_its_tensors(folder):
    (folder / "label.onnx").write_bytes((folder / "vertebra.onnx").read_bytes())
    digest = hashlib.sha256((folder / "label.onnx").read_bytes()).hexdigest()
    _edit(folder, r'(\[stages\.label\].*?sha256 = )"[0-9a-f]+"', rf'\1"{digest}"')
    refusal = _refusal(folder)
    assert refusal.code == "bundle_shape" and "image" in refusal.text


def test_another_crop_shape_than_the_network_has_is_refused(folder):
    _edit(folder, r"shape = \[56, 72, 32\]", "shape = [56, 72, 40]")
    refusal = _refusal(folder)
    assert refusal.code == "bundle_shape" and "72, 40" in refusal.text and "vertebra.onnx" in refusal.text


@pytest.mark.parametrize(("stage", "axis"), [("vertebra", 0), ("label", 3)])
def test_a_network_exported_for_one_crop_or_one_field_is_refused(folder, stage, axis):
    onnx = pytest.importorskip("onnx")
    path = folder / f"{stage}.onnx"
    network = onnx.load(path)
    network.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 1
    onnx.save(network, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    _edit(folder, rf'(\[stages\.{stage}\].*?sha256 = )"[0-9a-f]+"', rf'\1"{digest}"')
    refusal = _refusal(folder)
    assert refusal.code == "bundle_shape" and "any" in refusal.text and path.name in refusal.text


def test_not_an_onnx_file_is_refused(folder):
    (folder / "label.onnx").write_bytes(b"not a network")
    _edit(folder, r'(\[stages\.label\].*?sha256 = )"[0-9a-f]+"',
          rf'\1"{hashlib.sha256(b"not a network").hexdigest()}"')
    assert _refusal(folder).code == "bundle_shape"


def test_another_answer_than_promised_is_refused(folder):
    _edit(folder, r"^evidence = \[.*?\]", "evidence = [7.5, 0.2]")
    refusal = _refusal(folder)
    assert refusal.code == "bundle_self_test"
    assert "vertebra.onnx" in refusal.text and "7.5" in refusal.text and "evidence" in refusal.text


@pytest.mark.parametrize(("pattern", "replacement", "file"), [
    (r"^window_hu = \[-300\.0, 900\.0\]", "window_hu = [-300.0, 1000.0]", "label.onnx"),
    (r"^window_hu = \[-300\.0, 1300\.0\]", "window_hu = [-200.0, 1300.0]", "vertebra.onnx"),
    (r"^spacing_mm = 6\.0", "spacing_mm = 5.0", "label.onnx"),
    (r"^spacing_mm = \[1\.0, 1\.25, 3\.0\]", "spacing_mm = [1.25, 1.0, 3.0]", "vertebra.onnx"),
    (r"^origin_index = \[27\.5, 24\.0, 15\.5\]", "origin_index = [27.5, 30.0, 15.5]", "vertebra.onnx"),
    (r"^pad_value = -1\.0", "pad_value = 1.0", "label.onnx"),
])
def test_other_preprocessing_than_the_networks_were_trained_with_is_refused(folder, pattern, replacement, file):
    _edit(folder, pattern, replacement)
    refusal = _refusal(folder)
    assert refusal.code == "bundle_self_test" and refusal.text.startswith(file)


@pytest.mark.parametrize("promised", ["3.0", '["a", 2]', "[0.1]"])
def test_a_promise_that_is_no_list_of_numbers_is_refused(folder, promised):
    _edit(folder, r"^evidence = \[.*?\]", f"evidence = {promised}")
    refusal = _refusal(folder)
    assert refusal.code == "bundle_manifest" and "evidence" in refusal.text


def test_weights_of_the_restored_vertebra_need_those_of_the_height(folder):
    text = (folder / "bundle.toml").read_text()
    weights = "[stages.vertebra.restored]\nnetwork = 1\nfull_height = 0\nrestored_loss = 1\ndamage = 1\nintercept = 0\n"
    without = re.sub(r"\[stages\.vertebra\.(height|restored)\]\n([^\[].*\n)*", "", text)
    (folder / "bundle.toml").write_text(f"{without}\n{weights}")
    refusal = _refusal(folder)
    assert refusal.code == "bundle_manifest" and "height" in refusal.text


@pytest.mark.parametrize("table", ["height", "restored"])
def test_weights_of_the_older_formula_are_refused_by_name(folder, table):
    _edit(folder, rf"(?<=^\[stages\.vertebra\.{table}\]\n)network", "loss = 5.0\nnetwork")
    refusal = _refusal(folder)
    assert refusal.code == "bundle_manifest" and f"{table}: loss is of an older formula" in refusal.text


def test_the_tolerance_is_that_of_the_provider(folder):
    _edit(folder, r"^evidence = \[(-?\d)", r"evidence = [\g<1>0")  # ten times the mean
    assert "+- 0.005 of its SD on CPUExecutionProvider" in _refusal(folder).text
    text = (folder / "bundle.toml").read_text()
    (folder / "bundle.toml").write_text(text.replace("CUDAExecutionProvider = 0.02", "CPUExecutionProvider = 999.0"))
    assert bundles.load(folder).has("vertebra")


def test_the_tolerance_is_in_standard_deviations_of_the_output():
    assert self_test.misses([1.0, 2.0, 5.0], [1.0, 2.0, 4.0]).tolist() == [0, 0, 0.5]
    assert self_test.misses([-3.0, 0.0, -3.1], [-3.0, 0.0, -3.0]) == pytest.approx([0, 0, 0.2])  # a single number has none
    assert self_test.misses([1.0, 2.0, 5.0], [0.0, 0.1]).tolist() == [2.0, 3.8]


def test_numbers_of_a_map_come_from_the_bodies(reference, monkeypatch):
    """Without the bodies most of the values are others; background, far from them, would hardly notice."""
    whole, answers = self_test.volume(), []
    for picture in (whole, replace(whole, hu=np.where(whole.hu > 100, 40, whole.hu).astype(np.int16))):
        monkeypatch.setattr(self_test, "volume", lambda picture=picture: picture)
        answers.append({
            **reference.run("label", self_test.field_tensors(reference.label)),
            **reference.run("vertebra", self_test.crop_tensors(reference.vertebra)),
            "restored": reference.run("restore", self_test.crop_tensors(reference.vertebra, reference.restore))["restored"],
        })
    for name in ("classes", "offset", "vertebra", "body", "fracture", "restored"):
        with_bodies, without_them = (self_test.numbers(answer[name]) for answer in answers)
        assert np.sum(self_test.misses(without_them, with_bodies)[2:] > 0.05) >= 5, name
    assert np.sum(np.array(self_test.numbers(answers[0]["vertebra"])[2:]) > 0) >= 5


def test_numbers_of_an_older_node_are_named(folder):
    _edit(folder, r"^classes = \[(\S+ \S+) .*?\]", r"classes = [\1 6.906653, -64.402107, -16.604908, -34.8, -21.0, -10.7]")
    assert "Write the numbers anew (models/README.md)" in _refusal(folder).text


@pytest.mark.parametrize(("pattern", "replacement", "word"), [
    (r'^name = ".*?"', "", "name"),
    (r'^status = "research"', 'status = "great"', "great"),
    (r"^fracture = 0\.\d+", "", "fracture"),
    (r"^fracture = 0\.\d+", "fracture = 30", "between 0 and 1"),
    (r"^superior = 0\.\d+", "superior = 0.0", "superior"),
    (r"^evidence = 0\.\d+", "evidence = -1.0", "evidence must be a number above 0"),
    (r"^type = 0\.\d+", "type = 0", "type must be a number above 0"),
    (r'"background", "above"', '"above", "background"', "background"),
    (r"^window_hu = \[.*?\]", "window_hu = [1.0]", "window_hu"),
    (r"^window_hu = \[.*?\]", "window_hu = [900.0, -300.0]", "rise"),
    (r"^spacing_mm = 6\.0", "spacing_mm = nan", "spacing_mm"),
    (r"^spacing_mm = 6\.0", "spacing_mm = 0.1", "spacing_mm"),
    (r"^multiple_of = 8", "multiple_of = 0.5", "multiple_of"),
    (r"^pad_value = -1\.0", 'pad_value = "air"', "pad_value"),
    (r"^labels = \[.*?\]", 'labels = ["background"]', "levels"),
    (r"^\[stages\.label\.self_test\]", "[stages.label.other]", "tolerance"),
    (r"^\[bundle\]", "[bundle", "TOML"),
    (r"^statistics = \[.*?\]", 'statistics = ["hat_size"]', "hat_size"),
    (r"^tolerance = 0\.005", "tolerance = 0.02\nshape = [1, 1, 16, 16, 16]", "old ramp"),
    (r"^classes = \[.*?\]", "classes = [1.0]", "2 to 8"),
])
def test_incomplete_manifest_is_refused_by_name(folder, pattern, replacement, word):
    _edit(folder, pattern, replacement)
    refusal = _refusal(folder)
    assert refusal.code == "bundle_manifest" and word in refusal.text


def _without(folder, stage, reason):
    path = folder / "bundle.toml"
    path.write_text(without(path.read_text(), stage, reason))


def test_absent_vertebra_stage_is_a_valid_bundle(folder):
    _without(folder, "vertebra", "labels only")
    _without(folder, "restore", "nothing to restore")
    loaded = bundles.load(folder)
    assert not loaded.has("vertebra") and loaded.vertebra is None and loaded.absent["vertebra"] == "labels only"


def test_absent_segment_stage_is_a_valid_bundle(folder):
    _without(folder, "segment", "masks from the crops alone")
    bundle = bundles.load(folder)
    assert not bundle.has("segment") and bundle.segment is None
    assert bundle.absent["segment"] == "masks from the crops alone"


def test_the_segment_stage_names_what_the_label_stage_names(folder):
    text = (folder / "bundle.toml").read_text()
    before, after = text.split("[stages.segment]")
    (folder / "bundle.toml").write_text(before + "[stages.segment]" + after.replace('"T11", ', "", 1))
    refusal = _refusal(folder)
    assert refusal.code == "bundle_manifest" and "segment" in refusal.text and "labels" in refusal.text


def test_absent_restore_stage_is_a_valid_bundle(folder):
    _without(folder, "restore", "not painted here")
    loaded = bundles.load(folder)
    assert loaded.has("vertebra") and not loaded.has("restore") and loaded.restore is None
    assert loaded.absent["restore"] == "not painted here"


def test_a_restore_stage_without_crops_is_refused(folder):
    _without(folder, "restore", "made present below")
    _without(folder, "vertebra", "labels only")
    _edit(folder, r'absent = "made present below"', 'file = "restore.onnx"\nwindow_hu = [-300.0, 1300.0]')
    refusal = _refusal(folder)
    assert refusal.code == "bundle_manifest" and "restore" in refusal.text and "vertebra" in refusal.text


def test_missing_folder_names_the_path(tmp_path):
    refusal = _refusal(tmp_path / "nowhere")
    assert refusal.code == "bundle_manifest" and "nowhere" in refusal.text
