"""Export, bundle writing and evaluation statistics (models/training)."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
ROOT = Path(__file__).resolve().parents[3]

import bundle  # noqa: E402
import export  # noqa: E402
import export_restore  # noqa: E402
import retest  # noqa: E402
import scores  # noqa: E402
from ovcf_node.errors import Permanent  # noqa: E402
from ovcf_node.infer import bundle as bundles  # noqa: E402
from ovcf_node.infer.resample import window  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("bundle")
    export.export(None, out)
    return out


def test_export_is_one_file_per_stage_with_dynamic_shapes(folder):
    assert sorted(p.name for p in folder.iterdir()) == ["MODEL_CARD.md", "bundle.toml", "label.onnx", "vertebra.onnx"]
    import onnx

    for stage in ("label", "vertebra"):
        model = onnx.load(folder / f"{stage}.onnx")
        assert model.opset_import[0].version == 17
        assert [o.name for o in model.graph.output] == list(bundle.OUTPUTS[stage])
    label = bundle.session(folder / "label.onnx")
    for size in ((24, 16, 32), (16, 40, 24)):
        out = bundle.run(label, "label", np.zeros((1, 1, *size), np.float32))
        assert out["classes"].shape == (1, 11, *size) and out["offset"].shape == (1, 3, *size)
    vertebra = bundle.session(folder / "vertebra.onnx")
    out = bundle.run(vertebra, "vertebra", np.zeros((3, 1, 56, 72, 32), np.float32))
    assert out["evidence"].shape == (3, 4) and out["type"].shape == (3, 5) and out["old"].shape == (3, 1)
    assert out["fracture"].shape == (3, 1, 56, 72, 32)


def test_a_segment_stage_is_exported_where_it_was_trained(tmp_path):
    (tmp_path / "work").mkdir()
    for stage in ("segment", "label", "vertebra"):
        with pytest.raises(SystemExit, match=r"is missing"):
            export.export(tmp_path / "work", tmp_path / "out")
        torch.save(
            {"ema": export.network(stage, None).state_dict(), "about": "for a test"}, tmp_path / "work" / f"{stage}.pt"
        )
    (tmp_path / "work" / "arms.json").write_text('{"markdown": "| attention bypassed |"}')
    export.export(tmp_path / "work", tmp_path / "out")
    stage = bundle.read(tmp_path / "out")["stages"]["segment"]
    assert stage["spacing_mm"] == 3.0 and stage["margin_mm"] > 0 and stage["self_test"]["expected"]
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    (tmp_path / "work" / "segment.pt").unlink()
    export.export(tmp_path / "work", tmp_path / "other", "1.2.3")  # no new weights, none in the folder: the committed ones
    for name in ("segment.onnx", "restore.onnx"):
        assert (tmp_path / "other" / name).read_bytes() == (bundle.REFERENCE / name).read_bytes()
    versions = [bundle.read(tmp_path / name)["bundle"]["version"] for name in ("out", "other")]
    assert versions[0].startswith("local-") and len(versions[0]) == 14 and versions[1] == "1.2.3"
    assert f"ovcf-reference {versions[0]}\n" in card
    observed = export.NOTES.read_text().splitlines()[0]
    assert observed.startswith(f"## {bundle.read(bundle.REFERENCE)['bundle']['version']} "), "of the committed bundle"
    assert observed not in card + (tmp_path / "other" / "MODEL_CARD.md").read_text()
    assert observed in (bundle.REFERENCE / "MODEL_CARD.md").read_text()
    assert "| segment |" in card and "### Ablations\n\n| attention bypassed |" in card


def test_bundle_says_what_it_is_and_passes_its_own_self_test(folder):
    data = bundle.read(folder)
    assert data["bundle"]["status"] == "research"
    assert "random weights" in data["bundle"]["trained_on"]
    assert "untrained" in (folder / "MODEL_CARD.md").read_text()
    assert set(data["stages"]) == {"label", "vertebra", "segment", "restore"}
    for stage in ("label", "vertebra"):
        test = data["stages"][stage]["self_test"]
        assert set(test["expected"]) == set(bundle.OUTPUTS[stage])
        assert test["tolerance"] < test["tolerance_of"]["CUDAExecutionProvider"]
    assert bundles.load(folder, threads=1).has("label")


def test_self_tests_are_written_anew_and_nothing_else(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    fresh = (folder / "bundle.toml").read_text()
    old = re.sub(r"^classes = .*", "classes = [1.0, 2.0]", fresh, flags=re.MULTILINE).replace("= 0.02", "= 0.3")
    (tmp_path / "bundle.toml").write_text(old)
    with pytest.raises(Permanent, match="classes gives"):
        bundles.load(tmp_path, threads=1)
    retest.retest(tmp_path)
    assert (tmp_path / "bundle.toml").read_text() == fresh


def test_a_manifest_with_comments_and_no_last_newline_is_written_anew_too(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    fresh = (folder / "bundle.toml").read_text()
    noted = re.sub(r"(self_test(?:\.\w+)?\])$", r"\1  # tensor -> [mean, SD, ...]", fresh, flags=re.MULTILINE)
    (tmp_path / "bundle.toml").write_text(noted.rstrip())
    retest.retest(tmp_path)
    assert bundle.read(tmp_path) == bundle.read(folder)


def test_a_changed_file_is_refused(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with open(tmp_path / "label.onnx", "ab") as stream:
        stream.write(b"x")
    with pytest.raises(ValueError, match=r"label\.onnx"):
        bundle.read(tmp_path)


def test_shipped_bundle_is_consistent(tmp_path):
    shipped = ROOT / "models" / "reference"
    data = bundle.read(shipped)
    points = data["stages"]["vertebra"]["operating_points"]
    assert set(points) == set(bundle.DEFAULT_POINTS) and all(0 < v < 1 for v in points.values())
    total = sum((shipped / s["file"]).stat().st_size for s in data["stages"].values() if "file" in s)
    assert total < 25e6
    assert tomllib.loads((shipped / "bundle.toml").read_text()) == data
    for path in shipped.glob("*.onnx"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    vertebra = data["stages"]["vertebra"]
    bundle.write(tmp_path, data["bundle"], points, vertebra["temperature"], vertebra["usual"], vertebra["height"],
                 vertebra.get("restored"))
    export_restore.add(tmp_path, None, shipped)
    again = bundle.read(tmp_path)
    for stage, table in data["stages"].items():  # every number of it, the self-tests' too
        promised, found = table.pop("self_test"), again["stages"][stage].pop("self_test")
        assert promised["expected"] == {name: pytest.approx(values, abs=1e-3) for name, values in found["expected"].items()}
    assert again == data


def test_window_follows_the_contract():
    assert window(np.array([-2000, -300, 300, 900, 4000]), (-300, 900)).tolist() == [-1, -1, 0, 1, 1]


def test_fracture_probability_is_the_mean_of_evidence_and_direct_reading():
    big = 50.0
    one = {"evidence": 1.0, "type": 1.0, "old": 1.0}
    p = bundle.probabilities(np.array([[-big, big, -big, big]]), np.array([[big, 0, 0, 0, 0]]), np.array([[0.0]]), one)
    assert p["fracture"][0] == pytest.approx(0.5) and p["old"][0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("evidence", "name"),
    [
        ((1, 1, 0, 0), "A"),
        ((1, 0, 1, 0), "B"),
        ((0, 1, 0, 0), "C"),
        ((0, 0, 1, 0), "D"),
        ((0, 0, 0, 0), "none"),
        ((1, 0, 0, 1), "burst"),
    ],
)
def test_denis_rule(evidence, name):
    assert bundle.denis(np.array(evidence, float), bundle.DEFAULT_POINTS) == name


def test_statistics():
    interval = binomtest(167, 179).proportion_ci(method="wilson")
    assert scores.wilson(167, 179) == pytest.approx((interval.low, interval.high))
    assert scores.auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])) == pytest.approx(0.75)
    assert scores.share(0, 0)["value"] is None
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 4000)
    truth = (rng.random(4000) < bundle.sigmoid(logits)).astype(float)
    assert scores.temperature_binary(logits * 3, truth) == pytest.approx(3, rel=0.15)
    prob = np.concatenate([rng.uniform(0, 0.35, 50), rng.uniform(0.45, 1, 50)])
    assert 0.33 < scores.operating_point(prob, np.repeat([0, 1], 50)) < 0.46
