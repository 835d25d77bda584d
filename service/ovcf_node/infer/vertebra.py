"""Read each vertebra in its own frame: crop, network, a second crop where the first sat badly, then other looks at it.

Vertebrae with cement are read once more without it (`cement.py`). A verdict that turns with a mirrored or slightly shifted
and larger crop is no verdict: every graded vertebra is looked at in all three ways, and how far the looks differ goes into
the judgement.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from ovcf_node.domain.levels import GRADED
from ovcf_node.domain.volume import Volume
from ovcf_node.infer.bundle import Bundle
from ovcf_node.infer.cement import Cement, cement_of, without_cement
from ovcf_node.infer.label import Labels, Placed, frame_from
from ovcf_node.infer.resample import Crop, carried, crop_grid, sample_crop, window
from ovcf_node.infer.stages import VertebraStage

_MOVED_MM = 2.0
_TURNED_DEGREES = 4.0
_MOST_DEGREES = 20.0  # a frame is never turned farther than this by one crop
_MOST_MM = 14.0
_LEAST_BODY_VOXELS = 400  # 1.5 cm3: less is no body to measure a frame from
_DEEP_MM = 6.0  # the field's map is no more exact
_SAME_BODY = 0.85  # Dice of the body with its cement and without it, below which one of them is wrong
_LARGER = 1.05  # spacing of the shifted look against the first
_SHIFT_MM = (0.0, -1.5, 1.5)  # of the shifted look along u, v, w


@dataclass(frozen=True)
class VertebraReading:
    """The network's answer for one vertebra, on its crop's grid (w, v, u).

    vertebra, body, fracture  probabilities, float32; vertebra and body are one piece.
    looks  logits (n, 10) of n looks, the crop itself first: four signs, five types, old deformity.
    cement  where it is; `shown` is the crop as the network was shown it, without the cement. The answer is to that.
    """

    level: str
    centre: np.ndarray
    frame: np.ndarray
    crop: Crop
    vertebra: np.ndarray
    body: np.ndarray
    fracture: np.ndarray
    looks: np.ndarray
    cement: Cement | None = None

    @cached_property
    def shown(self) -> Crop:
        if self.cement is None:
            return self.crop
        hu = without_cement(self.crop.hu, self.cement.hole, self.cement.bone, self.crop.grid.spacing)
        return replace(self.crop, hu=hu)

    @property
    def has_body(self) -> bool:
        return int((self.body > 0.5).sum()) >= _LEAST_BODY_VOXELS


def read_vertebrae(
    volume: Volume, bundle: Bundle, labels: Labels, levels: tuple[str, ...],
    progress: Callable[[float], None] = lambda fraction: None,
) -> list[VertebraReading]:
    """Read the vertebrae of `levels`, a second time where the first crop sat off centre or askew."""
    placed = [v for v in labels.vertebrae if v.label in levels]
    readings = []
    for vertebra in placed:
        reading = _read(volume, bundle, labels, vertebra, vertebra.centre, vertebra.frame)
        centre, frame = refined(reading)
        if _differs(reading, centre, frame):
            reading = _read(volume, bundle, labels, vertebra, centre, frame)
        readings.append(_looked_at(volume, bundle, _beside_cement(bundle, labels, vertebra, reading)))
        progress(len(readings) / len(placed))
    return readings


def refined(reading: VertebraReading) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and frame as the crop's masks show them: body centroid, endplate normals, arch direction."""
    if not reading.has_body:
        return reading.centre, reading.frame
    body = reading.body > 0.5
    index = np.argwhere(body)
    centre = reading.crop.grid.point_of(index.mean(axis=0))
    w = _axis(body, reading)
    u = _left(reading, index)
    frame = frame_from(w, u)
    if np.linalg.norm(centre - reading.centre) > _MOST_MM:
        return reading.centre, reading.frame
    return centre, frame


def _read(
    volume: Volume, bundle: Bundle, labels: Labels, vertebra: Placed, centre: np.ndarray, frame: np.ndarray
) -> VertebraReading:
    stage: VertebraStage = bundle.vertebra
    crop = sample_crop(volume, crop_grid(centre, frame, stage.spacing_mm, stage.shape, stage.origin_index))
    said = _said(crop_answer(bundle, crop.hu), crop, labels, vertebra)
    return VertebraReading(vertebra.label, np.asarray(centre), np.asarray(frame), crop, *said)


def crop_answer(bundle: Bundle, hu: np.ndarray) -> dict[str, np.ndarray]:
    """What the network says of one crop (w, v, u). On a CPU several at a time are no faster, and take their memory."""
    return bundle.run("vertebra", {"crop": window(hu, bundle.vertebra.window_hu)[None, None]})


def _beside_cement(bundle: Bundle, labels: Labels, vertebra: Placed, reading: VertebraReading) -> VertebraReading:
    """Read a vertebra again with its cement filled in: masks, fracture region and first look answer to that picture.

    Where that answer has another body, or the cement leaves too little to read, the first one stays, as not readable.
    """
    cement = cement_of(reading.crop, reading.vertebra > 0.5, reading.body > 0.5) if reading.has_body else None
    if cement is None or not cement.readable:
        return replace(reading, cement=cement)
    filled = replace(reading, cement=cement)
    whole, body, fracture, looks = _said(crop_answer(bundle, filled.shown.hu), reading.crop, labels, vertebra)
    before, after = reading.body > 0.5, body > 0.5
    if 2 * (before & after).sum() < _SAME_BODY * (before.sum() + after.sum()):
        return replace(reading, cement=replace(cement, readable=False))
    return replace(filled, vertebra=whole, body=body, fracture=fracture, looks=looks)


def _said(
    answer: dict[str, np.ndarray], crop: Crop, labels: Labels, vertebra: Placed
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertebra, body, fracture (w, v, u) and logits (1, 10) of an answer."""
    whole, body = own_masks(answer, crop.inside & ~_foreign(crop, labels, vertebra))
    return whole, body, _sigmoid(answer["fracture"][0, 0]) * crop.inside, _signs(answer)


def own_masks(answer: dict[str, np.ndarray], own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (w, v, u) of vertebra and body in an answer, each one piece of the voxels `own`."""
    # The body keeps its soft rim where the whole vertebra ends: endplates are read between voxels.
    return tuple(_one_piece(np.where(own, _sigmoid(answer[name][0, 0]), 0)) for name in ("vertebra", "body"))


def _looked_at(volume: Volume, bundle: Bundle, reading: VertebraReading) -> VertebraReading:
    """Add the mirrored and the shifted, larger look to a graded vertebra that has a body."""
    if not reading.has_body or reading.level not in GRADED:
        return reading
    others = reading.shown.hu[..., ::-1], _larger(volume, reading, bundle.vertebra).hu
    return replace(reading, looks=np.concatenate([reading.looks, *(_signs(crop_answer(bundle, hu)) for hu in others)]))


def _larger(volume: Volume, reading: VertebraReading, stage: VertebraStage) -> Crop:
    centre = reading.centre + np.asarray(_SHIFT_MM) @ reading.frame
    spacing = tuple(_LARGER * s for s in stage.spacing_mm)
    crop = sample_crop(volume, crop_grid(centre, reading.frame, spacing, stage.shape, stage.origin_index))
    if reading.cement is None:
        return crop
    hole, bone = (carried(m, reading.crop.grid.affine, crop.grid) for m in (reading.cement.hole, reading.cement.bone))
    return replace(crop, hu=without_cement(crop.hu, hole, bone, crop.grid.spacing))


def _signs(answer: dict[str, np.ndarray]) -> np.ndarray:
    """Logits (1, 10) of an answer: signs, types, old deformity."""
    return np.concatenate([answer["evidence"], answer["type"], answer["old"]], axis=1).astype(float)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)


def _one_piece(probability: np.ndarray) -> np.ndarray:
    """Keep the largest connected piece above one half, and the soft rim around it."""
    pieces, count = ndimage.label(probability > 0.5)
    if count <= 1:
        return probability
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return np.where((pieces == largest) | (pieces == 0), probability, 0).astype(np.float32)


def _foreign(crop: Crop, labels: Labels, vertebra: Placed) -> np.ndarray:
    """Voxels deep inside another vertebra of the field's map: the crop network may spill over, not so far."""
    others = (labels.numbers > 0) & (labels.numbers != vertebra.instance.number)
    deep = ndimage.binary_erosion(others, iterations=max(1, round(_DEEP_MM / labels.field.spacing)), border_value=1)
    if not deep.any():
        return np.zeros(crop.hu.shape, dtype=bool)
    return carried(deep, labels.field.affine, crop.grid)


def _axis(body: np.ndarray, reading: VertebraReading) -> np.ndarray:
    """Mean normal of the two endplates, each a robust plane through the body's upper or lower surface."""
    spacing = reading.crop.grid.spacing
    columns = body.any(axis=0) & (body.sum(axis=0) * spacing[0] > 6.0)
    v, u = np.nonzero(columns)
    if len(v) < 60:
        return reading.frame[2]
    top = body.shape[0] - 1 - np.argmax(body[::-1], axis=0)[columns]
    bottom = np.argmax(body, axis=0)[columns]
    slopes = [_plane(v * spacing[1], u * spacing[2], surface * spacing[0]) for surface in (top, bottom)]
    # Mean slope of both plates: a wedge leans its plates in opposite directions, the axis halves the angle.
    dv, du = np.mean(slopes, axis=0)
    u_axis, v_axis, w_axis = reading.frame
    w = w_axis - dv * v_axis - du * u_axis
    return _limited(w / np.linalg.norm(w), w_axis)


def _plane(v: np.ndarray, u: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    """Slopes dw/dv, dw/du of a plane by iteratively reweighted least squares (Cauchy, 1.5 mm)."""
    design = np.column_stack([v - v.mean(), u - u.mean(), np.ones(len(v))])
    weight = np.ones(len(v))
    solution = np.zeros(3)
    for _ in range(6):
        root = np.sqrt(weight)[:, None]
        solution = np.linalg.lstsq(design * root, w * root[:, 0], rcond=None)[0]
        weight = 1.0 / (1.0 + ((w - design @ solution) / 1.5) ** 2)
    return float(solution[0]), float(solution[1])


def _left(reading: VertebraReading, body_index: np.ndarray) -> np.ndarray:
    """Patient left of this vertebra: across the direction from body to arch, where enough of the arch is seen."""
    arch = np.argwhere((reading.vertebra > 0.5) & (reading.body < 0.5))
    if len(arch) < 1500 or len(arch) < 0.3 * len(body_index):
        return reading.frame[0]
    spacing = reading.crop.grid.spacing
    step = (arch.mean(axis=0) - body_index.mean(axis=0)) * spacing
    turn = np.arctan2(step[2], step[1])  # u over v
    if step[1] < 15.0 or abs(turn) < np.radians(3.0):
        return reading.frame[0]
    turn = np.clip(turn, -np.radians(_MOST_DEGREES), np.radians(_MOST_DEGREES))
    return np.cos(turn) * reading.frame[0] - np.sin(turn) * reading.frame[1]


def _limited(w: np.ndarray, before: np.ndarray) -> np.ndarray:
    angle = np.arccos(np.clip(w @ before, -1, 1))
    most = np.radians(_MOST_DEGREES)
    if angle <= most:
        return w
    side = w - (w @ before) * before
    return np.cos(most) * before + np.sin(most) * side / np.linalg.norm(side)


def _differs(reading: VertebraReading, centre: np.ndarray, frame: np.ndarray) -> bool:
    turned = np.degrees(np.arccos(np.clip((np.trace(frame @ reading.frame.T) - 1) / 2, -1, 1)))
    return bool(np.linalg.norm(centre - reading.centre) > _MOVED_MM or turned > _TURNED_DEGREES)
