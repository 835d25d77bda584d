"""Training goes on from the committed weights: an exported file gives its network back."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
ROOT = Path(__file__).resolve().parents[3]

import bundle  # noqa: E402
from export import example, network  # noqa: E402
from mean import mean  # noqa: E402
from networks import CROP_SHAPE, VertebraNet  # noqa: E402
from warm import module_path, onnx_weights, warm_weights  # noqa: E402


@pytest.mark.parametrize("stage", ["label", "vertebra"])
def test_the_committed_file_gives_its_network_back(stage):
    torch.set_num_threads(1)
    path = ROOT / "models" / "reference" / f"{stage}.onnx"
    net = network(stage, None)
    found = onnx_weights(path, net.state_dict())
    missing = set(net.state_dict()) - set(found)
    assert all(name.startswith(("deep.", "attend.code.", "attend.decode.")) for name in missing)  # used in training only
    net.load_state_dict(found, strict=False)
    image = example(stage)
    with torch.no_grad():
        ours = net.eval()(image)
    for mine, theirs in zip(ours, bundle.run(bundle.session(path), stage, image.numpy()).values(), strict=True):
        assert torch.allclose(mine, torch.from_numpy(theirs), atol=2e-3)


def test_a_module_is_named_by_its_node():
    assert module_path("/enc3/enc3.1/first/first.1/Mul") == "enc3.1.first.1"
    assert module_path("/attend/bring.0/bring.0.1/Add") == "attend.bring.0.1"


def test_a_changed_head_starts_afresh(tmp_path):
    torch.save({"ema": {"head.weight": torch.ones(3, 2), "enc.weight": torch.ones(4)}}, tmp_path / "old.pt")
    own = {"head.weight": torch.zeros(5, 2), "enc.weight": torch.zeros(4)}
    assert list(warm_weights(tmp_path / "old.pt", own)) == ["enc.weight"]


def test_a_network_of_twice_the_channels_starts_from_what_the_narrow_one_says(tmp_path):
    torch.manual_seed(2)
    narrow, wide = VertebraNet((4, 8, 12, 16)).eval(), VertebraNet((8, 16, 24, 32)).eval()
    with torch.no_grad():
        for value in narrow.parameters():
            value.add_(0.05 * torch.randn_like(value))  # gains that start at 0 or 1 would hide what is mixed up
    torch.save({"ema": narrow.state_dict()}, tmp_path / "narrow.pt")
    wide.load_state_dict(warm_weights(tmp_path / "narrow.pt", wide.state_dict()))
    crop = torch.randn(1, 1, *CROP_SHAPE)
    with torch.no_grad():
        for theirs, ours in zip(narrow(crop), wide(crop), strict=True):
            assert torch.allclose(theirs, ours, atol=1e-3)
    copies = wide.enc3[0][0].weight[:, :8], wide.enc3[0][0].weight[:, 8:]
    assert not torch.allclose(*copies)  # or both would learn the same for ever


def checkpoint(path, state, value, without=()):
    torch.save({"ema": {key: torch.full_like(x, value) for key, x in state.items() if key not in without}}, path)
    return path


def test_the_mean_counts_each_file(tmp_path):
    state = network("vertebra", None).state_dict()
    low, high = checkpoint(tmp_path / "low.pt", state, 1.0), checkpoint(tmp_path / "high.pt", state, 4.0)
    found = mean("vertebra", [low, low, high])
    assert set(found) == set(state) and all(torch.equal(x, torch.full_like(x, 2.0)) for x in found.values())


def test_the_mean_takes_what_an_exported_file_lacks_from_the_others(tmp_path):
    state = network("label", None).state_dict()
    exported = ROOT / "models" / "reference" / "label.onnx"
    lacking = set(state) - set(onnx_weights(exported, state))
    found = mean("label", [exported, checkpoint(tmp_path / "one.pt", state, 1.0)])
    assert lacking and all(torch.equal(found[key], torch.ones_like(state[key])) for key in lacking)


def test_the_mean_refuses_another_network(tmp_path):
    state = network("vertebra", None).state_dict()
    name = next(iter(state))
    with pytest.raises(ValueError, match=name):
        mean("vertebra", [checkpoint(tmp_path / "less.pt", state, 1.0, without=(name,))])
    with pytest.raises(ValueError, match="label"):
        mean("vertebra", [ROOT / "models" / "reference" / "label.onnx", checkpoint(tmp_path / "one.pt", state, 1.0)])
