"""Small picture sheets for ``models/training/README.md``: every type and variant, from each painter of training samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import fourth

from . import plain
from .acquisition import clean_acquisition, sample_acquisition
from .additions import with_lumbar_ribs
from .case import sample_case
from .damage import MIMICS
from .grids import Grid, axial_grid, crop_grid
from .metal import hardware
from .pictures import examples, frame_plane, grey, picture
from .render import render
from .scanned import MIMICS as SCANNED_MIMICS
from .scanned import render_scanned, sample_scanned

KINDS = ("healthy", "A", "B", "C", "D", "posterior", "old", *MIMICS)
VARIANTS = ("none", "sacralised", "lumbarised", "T13", "L6", "four_lumbar", "lumbar_rib")


def _titled(image: np.ndarray, text: str) -> np.ndarray:
    made = Image.fromarray(image)
    ImageDraw.Draw(made).text((3, 2), text, fill=255)
    return np.asarray(made)


def _sheet(tiles: list[np.ndarray], columns: int) -> Image.Image:
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return Image.fromarray(np.concatenate(rows))


def types(scanned: bool) -> Image.Image:
    """Two mid-sagittal examples of every kind, side by side: noise-free, or as random scanners see them."""
    tiles = []
    for kind in KINDS:
        for case, v in examples(2)[kind]:
            acq = sample_acquisition(case.seed) if scanned else clean_acquisition()
            plane = frame_plane(v, "w", "v", extent=(70, 92), step=0.8, offset=(0, 10, 0))
            tiles.append(_titled(picture(case, plane, acq)[..., 0], f"{kind} {v.level}"))
    return _sheet([t.repeat(1, 0) for t in tiles], 8)


def meshes(solids, count: int = 3) -> Image.Image:
    """Crops from surface meshes of every kind: sagittal and coronal, scanned."""
    tiles = []
    for kind in ("plain", "A", "B", "C", "D", "old", *SCANNED_MIMICS):
        for n in range(count):
            rng = np.random.default_rng([n, len(tiles)])
            solid = solids[int(rng.integers(len(solids)))]
            mimic = kind in SCANNED_MIMICS
            vertebra = sample_scanned(rng, solid, "mimic" if mimic else kind, mimic=kind if mimic else None)
            grid = crop_grid(vertebra).refined((1, 1, 2))
            hu = render_scanned(vertebra, grid, sample_acquisition(100 + len(tiles)), rng)[0].numpy()
            pair = np.concatenate([grey(hu[::-1, :, 32]), grey(hu[::-1, 24, :])], axis=1)
            tiles.append(_titled(pair.repeat(2, 0).repeat(2, 1)[::1], kind))
    return _sheet(tiles, 2 * count)


def plains(count: int = 3) -> Image.Image:
    """Plain vertebrae of every kind: sagittal, coronal, and the masks in the sagittal slice."""
    kinds = [name for name in plain.KINDS if name != "mimic"]
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*kinds, *plain.MIMICS, "patch", "dish")}
    for seed in range(2000):
        hu, masks, what = plain.crop(seed)
        patch = any(name in what.lost and what.lost[name][1] == plain.SHAPES.index("patch") for name in ("top", "low"))
        kind = "patch" if patch else "dish" if "dish" in what.lost else what.mimic or what.kind
        if len(found[kind]) < count:
            found[kind].append(_titled(np.concatenate(_views(hu, masks), axis=1).repeat(2, 0).repeat(2, 1), kind))
        if all(len(tiles) == count for tiles in found.values()):
            break
    return _sheet([tile for tiles in found.values() for tile in tiles], count)


def fourths(count: int = 120) -> Image.Image:
    """The first crop of every kind among ``count`` of the fourth painter: sagittal, coronal, and the masks."""
    names, sample = fourth.kinds(7, count), fourth.crops(7, count)
    tiles = []
    for kind in sorted(set(names), key=lambda k: (k not in ("A", "B", "C", "D", "old", "plain"), k)):
        k = names.index(kind)
        hu, masks = sample["hu"][k], sample["masks"][k]
        tiles.append(_titled(np.concatenate(_views(hu, masks), axis=1).repeat(2, 0).repeat(2, 1), kind))
    return _sheet(tiles, 3)


def _views(hu: np.ndarray, masks: np.ndarray) -> list[np.ndarray]:
    """Sagittal and coronal slice of a crop, and its masks in the sagittal slice."""
    shades = np.select([masks & 4 > 0, masks & 2 > 0, masks & 1 > 0], [255, 150, 70], 0).astype(np.uint8)
    return [grey(hu[::-1, :, 16]), grey(hu[::-1, 30, :]), shades[::-1, :, 16]]


def variants() -> Image.Image:
    """Transitional anatomy: sagittal slice and coronal maximum projection of the first patient of each."""
    found: dict[str, np.ndarray] = {}
    for seed in range(2000):
        case = sample_case(seed)
        if case.variant == "none" and case.variant in found:
            case = with_lumbar_ribs(case)
        if case.variant in found:
            continue
        middle = np.array(case.find("L3").centre_mm)
        span = (middle[2] - 190, middle[2] + 170)
        grid = axial_grid(case, spacing=1.8, slice_spacing=1.8, field_mm=(230, 200), z_range=span)
        hu = render(case, grid, clean_acquisition(), truth=False).hu
        x = int(grid.index_of(middle)[2])
        pair = [grey(hu[:, :, x].numpy()[::-1]), grey(hu.amax(1).numpy()[::-1])]
        found[case.variant] = _titled(np.concatenate(pair, axis=1), case.variant)
        if set(found) == set(VARIANTS):
            break
    return _sheet([found[name] for name in VARIANTS], 4)


def _examples(case, acq) -> dict[str, np.ndarray]:
    """The additions that one patient and scan have: name -> picture."""
    loud = replace(clean_acquisition(), metal=0.8, noise_sd=10.0)
    legs, parts = case.additions.legs, {"screws": hardware(case), "clips": case.additions.last}
    made = {"neck": _box(case, case.neck[4].centre_mm, "x")}
    if legs:
        made["thighs"] = _box(case, (*case.torso.centre_xy, legs.top_z + 20), "y", 3.2)
    for name, metal in parts.items():
        for part in [p for p in metal if p.tissue == "metal"][:1]:
            made[name] = _box(case, part.a, "z", acq=loud)
    if acq.circle:
        made["circle"] = _box(case, case.find("L2").centre_mm, "z", acq=acq)
    for v in [v for v in case.vertebrae if v.fracture and v.mimic == "lesion" and not v.evidence["anterior"]][:1]:
        made["lytic"] = _box(case, v.centre_mm, "x", 0.7)
    return made


def additions(count: int = 3) -> Image.Image:
    """What training patients have on top of the others: neck, thighs, metal, circle, lytic breaks."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("neck", "thighs", "clips", "screws", "circle", "lytic")}
    for seed in range(400):
        for name, tile in _examples(sample_case(seed), sample_acquisition(seed)).items():
            if len(found[name]) < count:
                found[name].append(_titled(tile, name))
        if all(len(tiles) == count for tiles in found.values()):
            break
    return _sheet([tile for tiles in found.values() for tile in tiles], 2 * count)


def _box(case, middle, normal: str, step: float = 1.5, acq=None, size: int = 120) -> np.ndarray:
    """One slice of `size` voxels of `step` mm across LPS axis `normal` (x, y or z)."""
    shape = [size, size, size]
    shape["zyx".index(normal)] = 1
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]], affine[3, 3] = step, 1.0
    affine[:3, 3] = np.asarray(middle) - step * (np.array(shape[::-1]) - 1) / 2
    hu = render(case, Grid(affine, tuple(shape)), acq or clean_acquisition(), truth=False).hu.squeeze().numpy()
    return grey(hu if normal == "z" else hu[::-1], (-1300, 1000) if acq and acq.circle else (-250, 600))


def write_sheets(folder: Path, solids=()) -> list[Path]:
    """The sheets as JPEG (a few hundred kB each)."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    made = {"types": types(False), "types_scanned": types(True), "variants": variants(), "additions": additions()}
    made |= {"plain": plains(), "fourth": fourths()}
    bare = [solid for solid in solids if solid.bare]
    if bare:
        made["meshes"] = meshes(bare)
    for name, image in made.items():
        image.save(folder / f"{name}.jpg", quality=82)
    return [folder / f"{name}.jpg" for name in made]
