"""Crops of whole vertebrae -> crops of the same vertebrae with painted damage, for the vertebra stage's training pool.

``python models/training/cases.py --kind damaged --work DIR`` runs it: it takes the whole vertebrae T11-L5 of ``DIR/crops``,
draws each a plan from the fractures that ``DIR/damage.pt`` was trained on, paints, and writes ``DIR/painted/*.npz`` in the
format of ``DIR/crops``. Truth follows the picture: the body's masks are carried by the same flow as its bone, the height
loss is measured on them, and the signs are the plan's. What does not show its plan is thrown away.

Every painted fracture comes with its twin: the same vertebra through the same generator with a plan of nothing, whole, its
discs drawn out as a pressed plate draws them. Else what the generator leaves in a picture would give the answer.

The generator presses plates in and tilts them; it paints no bands, lines or broken walls yet. So only plans of broken plates
are drawn, from the height loss on at which the policy calls a smooth, undated deformity a fracture
(``phantoms/undated.py``): a milder one without a sign of a break would be a false truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation, uniform_filter1d
from torch import Tensor

import bundle
import train_damage
from damager import FRONT, PLAN, Damaged, DamageNet, carried, reach
from networks import CROP_SPACING
from phantoms.norms import spine_index
from phantoms.pictures import grey
from pool import windowed

LEVELS = tuple(spine_index(level) for level in ("T11", "T12", "L1", "L2", "L3", "L4", "L5"))
SIGNS = len(PLAN) - 5  # bits of a plan: superior, inferior, anterior, posterior
FEWEST_VOXELS = 20  # of a fracture region
LEAST = 0.25  # height loss from which a smooth wedge is a fracture
NOTHING = -1000  # HU: beyond the field
SEVERITY = (0.3, 0.5)  # height losses planned: what is painted falls short of them, and is what counts
PRESSED, STILL = 2.0, 1.2  # mm: a broken plate has moved at least so far somewhere, a sound one at most
STRAY = 0.8  # mm that a plate may move, either way, where nothing was planned
DRAWN, BEYOND, OVER = (1.0, 4.0), 4.0, 6.0  # mm by which a twin's disc is drawn out, from where beyond the plate, over what
SLANT = 0.4  # of it, from front to back


def load(path: Path) -> tuple[DamageNet, Tensor]:
    """The generator and the plans ``[N,9]`` to draw from."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    net = DamageNet()
    net.load_state_dict(state["ema"])
    return net.eval(), state["plans"]


def drawn(plans: Tensor, rng: np.random.Generator) -> Tensor:
    """The plan ``[9]`` of one fracture of plates, with a severity of its own."""
    plates, walls, lost = plans[:, :2].amax(1), plans[:, 2:SIGNS].amax(1), plans[:, SIGNS : SIGNS + 3].amax(1)
    shown = plans[(plates > 0) & (walls == 0) & (lost > 0.05)]
    plan = shown[int(rng.integers(len(shown)))].clone()
    plan[SIGNS : SIGNS + 3] *= float(rng.uniform(*SEVERITY)) / plan[SIGNS : SIGNS + 3].max()
    return plan


def front(volume: np.ndarray) -> Tensor:
    """What of a crop ``[56,72,32]`` damage can reach, ``[1,1,56,48,32]``."""
    return torch.from_numpy(np.ascontiguousarray(volume[:, :FRONT]).astype(np.float32))[None, None]


@torch.no_grad()
def broken(net: DamageNet, hu: np.ndarray, masks: np.ndarray, plan: Tensor) -> Damaged:
    """What the generator makes of one crop ``[56,72,32]``, HU and mask bits; only its front, ``[1,1,56,48,32]``."""
    crop = windowed(front(hu), bundle.VERTEBRA_WINDOW)
    return net(crop, front(masks & 2 > 0), front(masks & 1 > 0), plan[None])


def drawn_out(hu: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The crop with a disc of the vertebra or both drawn out along the spine, HU and mask bits; body and plates stay.

    A pressed plate draws its disc out, which leaves streaks: whoever trains on these crops must find them beside whole
    plates too.
    """
    body = masks[:, :FRONT] & 2 > 0
    w, v, columns = np.arange(len(body))[:, None, None], np.linspace(-1, 1, FRONT)[:, None], body.any(0)
    plates = {1: len(body) - 1 - body[::-1].argmax(0), -1: body.argmax(0)}
    flow = np.zeros((2, *body.shape), np.float32)
    for way in ((1,), (-1,), (1, -1))[int(rng.integers(3))]:  # the upper, the lower, both
        plate = np.where(columns, plates[way], plates[way][columns].mean())
        beyond = np.clip((way * (w - plate) * CROP_SPACING[0] - BEYOND) / OVER, 0, 1)
        flow[0] -= way * beyond * rng.uniform(*DRAWN) * (1 + SLANT * rng.uniform(-1, 1) * v) / CROP_SPACING[0]
    moved = torch.from_numpy(flow)[None] * reach(front(masks & 2 > 0))
    volumes = [windowed(front(hu), bundle.VERTEBRA_WINDOW), front(masks & 2 > 0), front(masks & 1 > 0)]
    picture, body, whole = carried(torch.cat(volumes, 1), moved).split(1, 1)
    return inserted(Damaged(picture, body, whole, body, moved), hu, masks)


def pressed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far the upper and the lower plate moved inwards, mm ``[2,3]``: means of the body's thirds, front to back."""
    both = before.any(0) & after.any(0)
    top = (after[::-1].argmax(0) - before[::-1].argmax(0)) * CROP_SPACING[0]
    low = (after.argmax(0) - before.argmax(0)) * CROP_SPACING[0]
    thirds = np.array_split(np.flatnonzero(both.any(1)), 3)
    return np.array([[x[rows][both[rows]].mean() for rows in thirds] for x in (top, low)])


def losses(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Height lost at the front, middle and back of a body, shares ``[3]``; masks bool ``[w,v,u]``, columns run along w."""
    tall, left = before.sum(0).astype(float), after.sum(0).astype(float)
    rows = np.flatnonzero(tall.max(1) > 0)
    middle = slice(*(int(q) for q in np.quantile(np.flatnonzero(tall.max(0) > 0), (0.25, 0.75))))
    found = []
    for low, high in ((0.05, 0.3), (0.38, 0.62), (0.7, 0.95)):
        part = slice(*(round(rows[0] + share * (rows[-1] - rows[0])) for share in (low, high)))
        found.append(1 - left[part, middle].sum() / tall[part, middle].sum())
    return np.array(found)


def inserted(out: Damaged, hu: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The crop ``[56,72,32]`` with what the generator made in front of it: HU int16 and mask bits 1 and 2."""
    low, high = bundle.VERTEBRA_WINDOW
    before = windowed(torch.from_numpy(hu[:, :FRONT].astype(np.float32)), bundle.VERTEBRA_WINDOW).numpy()
    change = (out.picture[0, 0].numpy() - before) * ((high - low) / 2)
    made = hu.astype(np.float32).copy()
    made[:, :FRONT] += np.where(hu[:, :FRONT] > -1024, change, 0)  # what lies beyond the window stays beyond it
    body, whole = (x[0, 0].numpy() > 0.5 for x in (out.body, out.whole))
    bits = masks.copy()
    bits[:, :FRONT] = 1 * (whole | body) + 2 * body
    return np.clip(np.round(made), -1100, 3500).astype(np.int16), bits


def painted(net: DamageNet, hu: np.ndarray, masks: np.ndarray, plan: Tensor) -> dict | None:
    """One damaged crop as a row of a crop file, or None where it does not show its plan."""
    out = broken(net, hu, masks, plan)
    made, bits = inserted(out, hu, masks)
    sound, body = ((x[:, :FRONT] & 2) > 0 for x in (masks, bits))
    region = (out.fracture[0, 0].numpy() > 0) & body
    signs, found = plan[:SIGNS].numpy() > 0.5, losses(sound, body)
    if found.max() < LEAST or region.sum() < FEWEST_VOXELS:
        return None
    if not all(mm >= PRESSED if sign else mm <= STILL for sign, mm in zip(signs, pressed(sound, body).max(1), strict=False)):
        return None
    bits[:, :FRONT] |= (4 * region).astype(np.uint8)
    s, i, n, _ = signs
    kind = 1 if s and i else 2 if s else 3 if i else 4 if n else 0
    return {"hu": made, "masks": bits, "evidence": signs.astype(np.uint8), "type": kind, "loss": float(found.max())}


def untouched(
    net: DamageNet, hu: np.ndarray, masks: np.ndarray, loss: float, rng: np.random.Generator
) -> dict | None:
    """A whole vertebra as the generator leaves it with a plan of nothing, or None where it moves a plate all the same."""
    made, bits = inserted(broken(net, hu, masks, torch.zeros(len(PLAN))), hu, masks)
    moved = np.abs(pressed(*((x[:, :FRONT] & 2) > 0 for x in (masks, bits))))
    if not (moved <= STRAY).all():  # NaN where the body is gone
        return None
    made, bits = drawn_out(made, bits, rng)
    return {"hu": made, "masks": bits, "evidence": np.zeros(SIGNS, np.uint8), "type": 0, "loss": loss}


def cut(hu: np.ndarray, masks: np.ndarray) -> bool:
    """Whether the field or the crop ends at the body."""
    around = binary_dilation(masks & 2 > 0, iterations=2)
    faces = (around[0], around[-1], around[:, 0], around[:, -1], around[..., 0], around[..., -1])
    return bool((hu[around] <= NOTHING).any() or any(face.any() for face in faces))


def of_file(
    net: DamageNet, plans: Tensor, sample: dict[str, np.ndarray], rng: np.random.Generator, tries: int = 3
) -> list[dict]:
    """Rows of a crop file from the whole vertebrae of another: damaged crops, each followed by its whole twin."""
    rows = []
    for k in range(len(sample["type"])):
        if sample["evidence"][k].any() or sample["old"][k] or sample["mimic"][k] or sample["level"][k] not in LEVELS:
            continue
        hu, masks = sample["hu"][k], sample["masks"][k]
        if cut(hu, masks):
            continue
        tried = (painted(net, hu, masks, drawn(plans, rng)) for _ in range(tries))
        damaged = next((row for row in tried if row is not None), None)
        twin = damaged and untouched(net, hu, masks, float(sample["loss"][k]), rng)
        if twin:
            same = {"old": 0, "mimic": 0, "level": sample["level"][k], "random": sample["random"][k]}
            rows += [{**damaged, **same}, {**twin, **same}]
    return rows


def compared(net: DamageNet, row: dict[str, np.ndarray]) -> tuple[dict[str, float], list[np.ndarray]]:
    """Of one fracture of a pairs file: how the painted crop differs from the rendered one, and both pictures.

    ``l1_whole, l1`` mean absolute HU in and near the body of the undamaged and of the painted picture against the fractured
    one; ``dice`` of the bodies; ``loss_error`` of the largest height loss, points; ``grain`` SD of what a 3-voxel mean along
    the spine takes away in the fractured body, painted over rendered.
    """
    healthy, _, whole, plan, seen, body, _ = (x[None] for x in train_damage.prepared(row, None))
    with torch.no_grad():
        out = net(healthy, torch.from_numpy((row["masks"] & 8 > 0).astype(np.float32))[None, None, :, :FRONT], whole, plan)
    half = (bundle.VERTEBRA_WINDOW[1] - bundle.VERTEBRA_WINDOW[0]) / 2
    near = reach(body)[0, 0].numpy() > 0.5
    pictures = [x[0, 0].numpy() * half for x in (healthy, out.picture, seen)]
    made, true = (x[0, 0].numpy() > 0.5 for x in (out.body, body))
    before = (row["masks"][:, :FRONT] & 8) > 0
    grain = [float((x - uniform_filter1d(x, 3, axis=0))[true].std()) for x in pictures[1:]]
    figures = {
        "l1_whole": float(np.abs(pictures[0] - pictures[2])[near].mean()),
        "l1": float(np.abs(pictures[1] - pictures[2])[near].mean()),
        "dice": float(2 * (made & true).sum() / (made.sum() + true.sum())),
        "loss_error": 100 * abs(float(losses(before, made).max() - losses(before, true).max())),
        "grain": grain[0] / grain[1],
    }
    return figures, [x + half + bundle.VERTEBRA_WINDOW[0] for x in pictures]


def sheet(tiles: list[tuple[list[np.ndarray], str]], path: Path) -> None:
    """Rows of mid-sagittal pictures, each with a line of text."""
    height, width = 56 * 4, FRONT * 5
    canvas = Image.new("L", (width * max(len(t) for t, _ in tiles), height * len(tiles)))
    draw = ImageDraw.Draw(canvas)
    for n, (pictures, text) in enumerate(tiles):
        for c, picture in enumerate(pictures):
            plane = Image.fromarray(grey(picture[::-1, :, picture.shape[2] // 2]))
            canvas.paste(plane.resize((width, height), Image.BILINEAR), (c * width, n * height))
        draw.text((4, n * height + 4), text, fill=255)
    canvas.save(path, quality=85)


def main() -> None:
    """``python models/training/painted.py --work DIR --pairs FOLDER [--sheet FILE]``: figures on pairs never trained on."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, required=True, help="holds damage.pt")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, help="undamaged, painted and rendered")
    a = parser.parse_args()
    torch.set_num_threads(1)
    net = load(a.work / "damage.pt")[0]
    rows = train_damage.BrokenPool(a.pairs).damaged
    done = [compared(net, row) for row in rows]
    for key in done[0][0]:
        print(f"{key}: {np.mean([f[key] for f, _ in done]):.3f} over {len(done)} fractures")
    if a.sheet:
        tiles = []
        for (_, pictures), row in list(zip(done, rows, strict=True))[:10]:
            signs = "".join(c for c, e in zip("SINP", row["told"], strict=False) if e)
            tiles.append((pictures, f"{signs} loss {row['told'][SIGNS:].max():.0%}"))
        sheet(tiles, a.sheet)


if __name__ == "__main__":
    main()
