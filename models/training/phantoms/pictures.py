"""Contact sheets for looking at the phantoms as a radiologist would (bone window)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .acquisition import Acquisition, clean_acquisition, sample_acquisition
from .case import sample_case
from .damage import MIMICS
from .grids import Grid, axial_grid, sample_field
from .patient import Case, VertebraTruth
from .render import render

WINDOW = (-250.0, 850.0)


def grey(hu: np.ndarray, window: tuple[float, float] = WINDOW) -> np.ndarray:
    """HU to 8 bit."""
    low, high = window
    return np.clip((hu - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def frame_plane(
    v: VertebraTruth,
    rows: str,
    columns: str,
    *,
    extent: tuple[float, float],
    step: float,
    offset: tuple[float, float, float] = (0, 0, 0),
) -> Grid:
    """One slice through a vertebra spanned by two of its axes ('u', 'v', 'w'); the first row is the most cranial one."""
    axes = dict(zip("uvw", np.asarray(v.frame), strict=False))
    normal = next(axes[a] for a in "uvw" if a not in (rows, columns))
    sign = -1.0 if rows == "w" else 1.0
    shape = (1, int(extent[0] / step), int(extent[1] / step))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([normal * step, sign * axes[rows] * step, axes[columns] * step], axis=1)
    centre = np.asarray(v.centre_mm) + np.asarray(offset) @ np.asarray(v.frame)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(affine, shape)


def picture(case: Case, grid: Grid, acq: Acquisition, *, outline: bool = False, zoom: int = 1) -> np.ndarray:
    """RGB of a one-slice grid; with `outline`, the fracture region is tinted."""
    made = render(case, grid, acq)
    image = np.repeat(grey(made.hu[0].numpy())[..., None], 3, axis=2)
    if outline and made.fracture is not None:
        mask = made.fracture[0].numpy()
        image[mask, 0] = np.minimum(255, image[mask, 0].astype(int) + 60)
    return image.repeat(zoom, 0).repeat(zoom, 1)


def kinds_of(v: VertebraTruth) -> set[str]:
    """What a vertebra is an example of: Denis letter, 'posterior', 'old', 'healthy', a mimic."""
    kinds = {v.denis} if v.denis else set()
    if v.evidence["posterior"]:
        kinds.add("posterior")
    if v.old_deformity:
        kinds.add("old")
    if not v.fracture and not v.old_deformity:
        kinds.add(v.mimic or "healthy")
    return kinds


@lru_cache(maxsize=1)
def examples(count: int) -> dict[str, list[tuple[Case, VertebraTruth]]]:
    """The first `count` cases for every kind, T10-L5, one vertebra a case."""
    wanted = ("A", "B", "C", "D", "posterior", "old", "healthy", *MIMICS)
    found: dict[str, list[tuple[Case, VertebraTruth]]] = {kind: [] for kind in wanted}
    for seed in range(1500):
        case = sample_case(seed)
        for kind in wanted:
            if len(found[kind]) < count:
                found[kind] += [(case, v) for v in case.vertebrae[9:17] if kind in kinds_of(v)][:1]
        if all(len(items) >= count for items in found.values()):
            break
    return found


def strip(kind: str, count: int, *, outline: bool, clean: bool) -> Image.Image:
    """A row of examples of one kind: sagittal above coronal."""
    columns = []
    for case, v in examples(count)[kind]:
        acq = clean_acquisition() if clean else sample_acquisition(case.seed)
        sagittal = picture(
            case, frame_plane(v, "w", "v", extent=(84, 96), step=0.7, offset=(0, 10, 0)), acq, outline=outline, zoom=2
        )
        coronal = picture(
            case, frame_plane(v, "w", "u", extent=(84, 96), step=0.7, offset=(0, -4, 0)), acq, outline=outline, zoom=2
        )
        image = Image.fromarray(np.concatenate([sagittal, coronal]))
        signs = "".join(name[0] for name, present in v.evidence.items() if present)
        text = f"{kind} {v.level} seed {case.seed} loss {v.height_loss:.0%} {signs} {v.mimic or ''}"
        ImageDraw.Draw(image).text((4, 4), text, fill=(255, 255, 0))
        columns.append(np.asarray(image))
    return Image.fromarray(np.concatenate(columns, axis=1))


def whole(case: Case, acq: Acquisition) -> Image.Image:
    """Sagittal and coronal reformats of a whole patient at 1 mm beside four axial slices."""
    by = {v.level: np.asarray(v.centre_mm) for v in case.vertebrae}
    middle, low, high = by["L2"], by["S5"][2] - 60, by["T1"][2] + 20
    rows = int(high - low)
    sagittal = Grid(
        np.array([[0, 0, 1.0, middle[0]], [0, 1.0, 0, middle[1] - 110], [1.0, 0, 0, low], [0, 0, 0, 1]]), (rows, 240, 1)
    )
    coronal = Grid(
        np.array([[0, 0, 1.0, middle[0] - 170], [0, 1.0, 0, middle[1]], [1.0, 0, 0, low], [0, 0, 0, 1]]), (rows, 1, 340)
    )
    panels = [grey(render(case, g, acq, truth=False).hu.squeeze().numpy()[::-1]) for g in (sagittal, coronal)]
    axial = []
    for level in ("T9", "L1", "L4", "S2"):
        z = by[level][2]
        grid = axial_grid(
            case,
            spacing=1.0,
            slice_spacing=1.0,
            field_mm=(400, rows // 4),
            z_range=(z, z + 1),
            centre=(middle[0], middle[1] - 30),
        )
        axial.append(grey(render(case, grid, acq, truth=False).hu[0].numpy(), (-200, 500)))
    column = np.concatenate(axial)
    column = np.pad(column, ((0, rows - column.shape[0]), (0, 0)))
    return Image.fromarray(np.concatenate([*panels, column], axis=1))


def fields(count: int, spacing: float = 3.0) -> Image.Image:
    """Random training fields at a coarse spacing: the middle sagittal plane of each with its labels."""
    tiles = []
    for seed in range(count):
        case = sample_case(seed)
        grid = sample_field(np.random.default_rng([seed, 5]), case, spacing)
        made = render(case, grid, sample_acquisition(seed))
        x = grid.shape[2] // 2
        pair = np.concatenate([grey(made.hu[:, :, x].numpy()), (made.labels[:, :, x].numpy() * 23)], axis=1)[::-1]
        image = Image.new("L", (260, 260))
        tile = Image.fromarray(pair.repeat(2, 0).repeat(2, 1))
        tile.thumbnail((260, 260))
        image.paste(tile, (0, 0))
        tiles.append(np.asarray(image))
    lines = [np.concatenate(tiles[i : i + 6], axis=1) for i in range(0, len(tiles) - len(tiles) % 6, 6)]
    return Image.fromarray(np.concatenate(lines))


def write_all(folder: str | Path, *, count: int = 6) -> list[Path]:
    """Every Denis type and variant, whole patients and random fields as PNG."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for kind in ("A", "B", "C", "D", "posterior", "old", "healthy", *MIMICS):
        for clean in (True, False) if kind in "ABCD" or kind in ("old", "healthy") else (True,):
            path = folder / f"{kind}{'' if clean else '_scanned'}.png"
            strip(kind, count, outline=False, clean=clean).save(path)
            out.append(path)
    for name, case, acq in (
        ("demo", sample_case(1, profile="demo"), clean_acquisition()),
        ("patient_7", sample_case(7), sample_acquisition(7, profile="study")),
        ("patient_12", sample_case(12), sample_acquisition(12)),
    ):
        out.append(folder / f"whole_{name}.png")
        whole(case, acq).save(out[-1])
    out.append(folder / "fields.png")
    fields(24).save(out[-1])
    return out
