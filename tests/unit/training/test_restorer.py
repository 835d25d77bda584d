"""The vertebral-damage GAN: pairs that differ in one vertebra only, a generator that cannot look, one step of training."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "training"))

from scipy import ndimage  # noqa: E402

import adversarial  # noqa: E402
import bundle  # noqa: E402
import export_restore  # noqa: E402
import pairs  # noqa: E402
import phantoms as P  # noqa: E402
import restorer  # noqa: E402
import train_restore  # noqa: E402
from ovcf_node.errors import Permanent  # noqa: E402
from ovcf_node.infer import bundle as bundles  # noqa: E402
from phantoms.grids import crop_grid  # noqa: E402
from warm import warm_weights  # noqa: E402

REFERENCE = Path(__file__).resolve().parents[3] / "models" / "reference"
SPACING = (1.0, 1.25, 3.0)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def broken():
    """A noisy scan of the demonstration fracture, whose neighbours are whole."""
    case = P.sample_case(1, profile="demo")
    index = case.vertebrae.index(case.find("L1"))
    return case, index, P.render_pair(case, index, crop_grid(case.vertebrae[index]), P.sample_acquisition(5))


def test_a_pair_differs_in_one_vertebra_and_its_discs_only(broken):
    _, _, pair = broken
    assert int(pair.healthy_body.sum()) > 1.1 * int(pair.body.sum())
    near = ndimage.distance_transform_edt(~(pair.body | pair.healthy_body).numpy(), sampling=SPACING)
    beyond = torch.from_numpy(near > 16.0)  # mm: the discs, which give way, swelling, and the scanner's blur
    assert float(beyond.float().mean()) > 0.4
    assert torch.equal(pair.seen[beyond], pair.healthy[beyond])
    assert float((pair.seen - pair.healthy)[pair.healthy_body].abs().mean()) > 30


def test_the_neighbours_masks_and_the_noise_stay(broken):
    case, index, _ = broken
    grid, acq = crop_grid(case.vertebrae[index]), P.sample_acquisition(5)
    seen, healthy = P.render(case, grid, acq), P.render(P.healthy_twin(case, index), grid, acq)
    for other in set(np.unique(seen.instance)) - {0, index + 1}:
        before, after = (int((r.instance == other).sum()) for r in (seen, healthy))
        assert after == pytest.approx(before, rel=0.01)
    again = P.render(case, grid, acq)
    assert torch.equal(again.hu, seen.hu)


def test_an_undamaged_vertebra_is_its_own_twin():
    case = P.sample_case(1, profile="demo")
    index = case.vertebrae.index(case.find("L3"))
    pair = P.render_pair(case, index, crop_grid(case.vertebrae[index]), P.clean_acquisition())
    assert pair.seen is pair.healthy and torch.equal(pair.body, pair.healthy_body)


def test_samples_hold_what_the_node_would_have(tmp_path):
    rows = pairs.analytic(pairs.HELD + 1, every=False)
    sample = pairs.stacked(rows[:2])
    assert sample["seen"].shape == (2, 56, 72, 32) and sample["context"].shape == (2, 56, 36, 16)
    for k in range(2):
        body = (sample["masks"][k] & 2) > 0
        whole = (sample["masks"][k] & 8) > 0
        region = train_restore.blanked(body, sample["expected"][k])
        assert (whole & ~region).sum() <= 0.05 * whole.sum()
        # The context is the same place at twice the spacing: its middle agrees with the crop's means.
        means = sample["seen"][k].astype(float).reshape(28, 2, 36, 2, 16, 2).mean((1, 3, 5))
        middle = sample["context"][k, 14:42].astype(float)
        assert np.corrcoef(means.ravel(), middle.ravel())[0, 1] > 0.9
    assert np.all(np.abs(sample["expected"] / sample["healthy_heights"] - 1) < 0.3)


def test_what_the_region_holds_cannot_reach_the_answer():
    net = restorer.RestoreNet().eval()
    crop, context, region = restorer.example(1)
    with torch.no_grad():
        before = net(crop, context, region)
        other = torch.where(region > 0, torch.rand_like(crop), crop)
        around = context.clone()
        around[:, :, 19:37, 4:21, 3:13] = 0.7  # the same box in the neighbours' picture
        after = net(other, around, region)
    assert torch.equal(before[1], after[1])
    assert torch.equal(before[0], after[0])
    outside = region == 0
    assert torch.equal(after[0][outside], crop[outside])
    with torch.no_grad():
        moved = net(crop, context.flip(2), region)
    assert not torch.equal(before[1], moved[1]), "the neighbours are looked at"


def test_a_few_steps_learn_and_stay_finite():
    torch.manual_seed(0)
    rivals = adversarial.Rivals(train_restore.GAN)
    rivals.pace(3e-3)
    crop, context, region = restorer.example(1)
    low = [torch.nn.functional.avg_pool3d(x, restorer.PLANES) for x in (crop, region)]
    batch = [low[0], context, low[1].ceil(), low[0] * 0.2, low[1]]
    losses = [rivals.turn(batch, n >= 1) for n in range(5)]
    assert all(np.isfinite(list(part.values())).all() for part in losses)
    assert losses[-1]["l1"] < losses[0]["l1"] and losses[1]["critic"] > 0
    bad = [torch.full_like(crop, float("nan")) if n == 3 else x for n, x in enumerate(batch)]
    bad[3] = torch.full_like(batch[3], float("nan"))
    before = [p.clone() for p in rivals.net.parameters()]
    assert np.isnan(rivals.turn(bad, False)["loss"])
    assert all(torch.equal(a, b) for a, b in zip(before, rivals.net.parameters(), strict=True))


@pytest.fixture(scope="module")
def with_stage(tmp_path_factory):
    """The reference bundle with a restoring stage of random weights, and those weights."""
    import shutil

    folder, work = tmp_path_factory.mktemp("bundle") / "b", tmp_path_factory.mktemp("work")
    shutil.copytree(REFERENCE, folder)
    torch.manual_seed(3)
    weights = {k: v + 0.01 * torch.randn_like(v) for k, v in restorer.RestoreNet().state_dict().items()}
    torch.save({"ema": weights, "about": "7 steps"}, work / "restore.pt")
    facts = export_restore.add(folder, work)
    assert facts["difference"] < export_restore.TOLERANCE
    return folder, weights


def test_the_stage_is_added_once_and_the_node_takes_it(with_stage, tmp_path):
    folder, _ = with_stage
    before = (folder / "bundle.toml").read_text()
    assert before.count("[stages.restore]") == 1 and "7 steps" in (folder / "MODEL_CARD.md").read_text()
    node = bundles.load(folder, threads=1)
    assert node.has("restore") and node.restore.window_hu == bundle.VERTEBRA_WINDOW and "restore" not in node.absent
    crop, context, region = (x.numpy() for x in restorer.example(2))
    out = node.run("restore", {"crop": crop, "context": context, "region": region})
    assert out["restored"].shape == out["body"].shape == (2, 1, 56, 72, 32)
    # A later export of the other stages keeps it.
    other = tmp_path / "other"
    other.mkdir()
    for name in ("label.onnx", "segment.onnx", "vertebra.onnx", "bundle.toml", "MODEL_CARD.md"):
        (other / name).write_bytes((REFERENCE / name).read_bytes())
    assert export_restore.add(other, None, folder) is None
    assert bundle.read(other)["stages"]["restore"] == bundle.read(folder)["stages"]["restore"]
    assert (other / "MODEL_CARD.md").read_text().count(export_restore.CARD_BEGINS) == 1


def test_another_network_than_the_manifest_says_is_refused(with_stage, tmp_path):
    folder, _ = with_stage
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = tmp_path / "bundle.toml"
    text = manifest.read_text()
    vertebra = bundle.digest(tmp_path / "vertebra.onnx")
    digest = bundle.digest(tmp_path / "restore.onnx")
    for change, code in (
        (text.replace(digest, "0" * 64), "bundle_digest"),
        (text.replace('"restore.onnx"', '"vertebra.onnx"').replace(digest, vertebra), "bundle_shape"),
        (re.sub(r"restored = \[\S+", "restored = [9.0,", text), "bundle_self_test"),
        (text.replace("restored = [", "restored = [9.0, "), "bundle_manifest"),
    ):
        manifest.write_text(change)
        with pytest.raises(Permanent) as caught:
            bundles.load(tmp_path, threads=1)
        assert caught.value.code == code, change[-300:]


def test_training_goes_on_from_the_exported_file(with_stage):
    folder, weights = with_stage
    found = warm_weights(folder / "restore.onnx", weights)
    assert set(found) == set(weights)
    assert all(torch.allclose(found[k], weights[k]) for k in weights)
