"""Analytic spines in a real background: the fit on made-up maps, the rest on the map itself."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fields  # noqa: E402
import phantoms as P  # noqa: E402
from phantoms.atlas import STEP, TISSUE_NAMES, Atlas, load_atlas  # noqa: E402
from phantoms.hollow import PAD, load_background  # noqa: E402
from phantoms.norms import LEVELS  # noqa: E402
from phantoms.pasted import Background, Fit, _knots  # noqa: E402

SEED = 3


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def column():
    """A block of muscle (330 x 250 x 700 mm) and where the bodies of its spine were: every 27 mm, slightly bent."""
    low = np.array([before for before, _ in PAD]) * STEP
    centres = {
        name: tuple(low + (620.0 - 27 * k, 150 + 12 * np.sin(k / 4), 165.0)) for k, name in enumerate(LEVELS)
    }
    tissue = np.zeros([n + sum(pad) for n, pad in zip((460, 166, 222), PAD, strict=True)], np.uint8)
    tissue[:, PAD[1][0] : -PAD[1][1], PAD[2][0] : -PAD[2][1]] = TISSUE_NAMES.index("muscle")
    return Atlas(tissue, np.zeros((0, 0, 0), np.uint8), np.zeros((0, 0, 0), bool), centres)


def test_every_centre_meets_the_map_and_nothing_folds(column):
    for seed in (11, 35, 99, 155, 19):  # among them T13, L6 and four lumbar vertebrae
        case = P.sample_case(seed)
        fit = Fit(np.random.default_rng(seed), case, column)
        here, there = _knots(case, column)
        assert np.abs(fit(torch.tensor(here, dtype=torch.float32)).numpy() - there).max() < 6.0, (seed, case.variant)
        low, high = here.min(0) - (120, 100, 60), here.max(0) + (120, 60, 40)
        axes = [np.arange(a, b, 12.0) for a, b in zip(low, high, strict=True)]
        points = fit(torch.tensor(np.stack(np.meshgrid(*axes, indexing="ij"), -1), dtype=torch.float32)).numpy()
        steps = [np.diff(points, axis=k)[: len(axes[0]) - 1, : len(axes[1]) - 1, : len(axes[2]) - 1] for k in range(3)]
        volume = np.linalg.det(np.stack(steps, -1)) / 12.0**3
        assert volume.min() * volume.max() > 0, (seed, volume.min(), volume.max())


def test_ribs_belong_to_the_lowest_thoracic_vertebra(column):
    for seed, variant in ((99, "T13"), (3, "L6"), (155, "four_lumbar"), (11, "none")):
        case = P.sample_case(seed)
        assert case.variant == variant
        here, there = _knots(case, column)
        meets = dict(zip(map(tuple, here.tolist()), there, strict=True))
        lowest = [next(v for v in reversed(case.vertebrae) if v.level.startswith(letter)) for letter in "TL"]
        pairs = ((lowest[0], "T12"), (case.find("L1"), "L1"), (lowest[1], "L5"), (case.find("S1"), "S1"))
        for vertebra, name in pairs:
            assert np.allclose(meets[vertebra.centre_mm], column.centres[name][::-1]), (variant, vertebra.level)


def test_without_shapes_and_in_studies_nothing_is_pasted(column, monkeypatch):
    monkeypatch.setattr(P, "pasted_case", lambda *_, **__: pytest.fail("pasted"))
    fields.rendered_field(SEED)
    fields.rendered_field(SEED, "study", shapes="anywhere")


def test_a_pasted_field_keeps_the_truth_of_its_case(shared_data):
    made, vertebrae, random = fields.rendered_field(SEED, shapes=shared_data)
    again = fields.rendered_field(SEED, shapes=shared_data)[0]
    case, acq = P.sample_case(SEED), P.sample_acquisition(SEED)
    alone = P.render(case, made.grid, acq)
    assert vertebrae == case.vertebrae and random
    assert torch.equal(made.hu, again.hu) and not torch.equal(made.hu, alone.hu)
    for name in ("labels", "instance", "body", "fracture"):
        assert torch.equal(getattr(made, name), getattr(alone, name)), name
    core = made.body & (torch.nn.functional.avg_pool3d(made.body[None].float(), 3, 1, 1)[0] > 0.99)
    assert float((made.hu - alone.hu)[core].abs().mean()) < 1.0  # the same spine in other surroundings


def test_other_cases_of_the_shapes_folder_are_not_opened(shared_data, tmp_path):
    """What is for tests only cannot be trained on: junk in its place changes nothing."""
    (tmp_path / "masks").mkdir()
    for path in (shared_data / "masks").iterdir():
        here = tmp_path / "masks" / path.name
        if path.name.startswith("s0327"):
            here.symlink_to(path.resolve())
        elif path.is_dir():
            here.mkdir()
            (here / "vertebrae_L1.nii.gz").write_bytes(b"junk")
        else:
            here.write_bytes(b"junk")
    assert (tmp_path / "masks" / "s0328").is_dir()
    atlas = load_atlas.__wrapped__(tmp_path)
    assert {"L1", "L5"} <= set(atlas.centres)


def test_the_old_spine_is_gone_and_the_new_one_lies_in_the_body(shared_data):
    atlas = load_background(shared_data)
    acq = P.clean_acquisition()
    for seed in (11, 35):
        case = P.sample_case(seed)
        background = Background(seed, case, acq, atlas)
        inside, bone, air = 0, 0, 0
        for level in ("T9", "T12", "L2", "L4"):
            grid = P.axial_grid(
                case, spacing=3.0, slice_spacing=3.0, field_mm=(100, 130), centre=case.find(level).centre_mm[:2],
                z_range=tuple(case.find(level).centre_mm[2] + np.array([-12, 12])),
            )
            own = P.render(case, grid, acq).labels > 0
            hu = background(grid)
            inside, bone, air = inside + int(own.sum()), bone + int((hu[own] > 300).sum()), air + int((hu[own] < -700).sum())
        assert bone < 0.03 * inside and air < 0.01 * inside, (seed, inside, bone, air)  # bone: the necks of the ribs
