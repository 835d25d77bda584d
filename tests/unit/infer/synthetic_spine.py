"""Analytic vertebrae for the tests of this folder: boxes and wedges in their own frames, and networks that know them.

Nothing here comes from `models/training`: a mistake shared by both would stay unseen.
"""

from dataclasses import dataclass, field

import numpy as np

from ovcf_node.domain.findings import BundleIdentity
from ovcf_node.domain.volume import FrameSource, Volume
from ovcf_node.infer.label import frame_from
from ovcf_node.infer.norms import NORMS
from ovcf_node.infer.stages import LabelStage, RestoreStage, SegmentStage, VertebraStage

LABELS = ("background", "above", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "below")
POINTS = {"fracture": 0.5, "superior": 0.5, "inferior": 0.5, "anterior": 0.5, "posterior": 0.5, "old": 0.5,
          "abstain_below": 0.6}
LABEL_STAGE = LabelStage(6.0, (-300.0, 900.0), -1.0, 8, LABELS)
VERTEBRA_STAGE = VertebraStage((1.0, 1.25, 3.0), (56, 72, 32), (27.5, 24.0, 15.5), (-300.0, 1300.0), POINTS,
                               {"evidence": 1.0, "type": 1.0, "old": 1.0})
BONE, TISSUE = 300, 40


@dataclass(frozen=True)
class Block:
    """A body whose endplates are planes: heights (mm) at the anterior and posterior edge, half depth and width; an arch."""

    level: str
    centre: np.ndarray
    frame: np.ndarray
    anterior: float
    posterior: float
    half_depth: float = 17.0
    half_width: float = 22.0
    evidence: str = ""
    type: str = "none"
    old: bool = False

    def height_at(self, v: np.ndarray | float) -> np.ndarray | float:
        return (self.anterior + self.posterior) / 2 + (self.posterior - self.anterior) / 2 * v / self.half_depth

    def body(self, points: np.ndarray, soft: float = 0.5) -> np.ndarray:
        """Membership (..., ) in [0, 1] of LPS points, with a linear edge of `2 * soft` mm."""
        u, v, w = np.moveaxis((points - self.centre) @ self.frame.T, -1, 0)
        depth = np.minimum.reduce([
            self.half_width - np.abs(u), self.half_depth - np.abs(v), self.height_at(v) / 2 - np.abs(w),
        ])
        return np.clip(0.5 + depth / (2 * soft), 0, 1)

    def arch(self, points: np.ndarray) -> np.ndarray:
        u, v, w = np.moveaxis((points - self.centre) @ self.frame.T, -1, 0)
        depth = np.minimum.reduce([9.0 - np.abs(u), 15.0 - np.abs(v - self.half_depth - 14.0), 7.0 - np.abs(w)])
        return np.clip(0.5 + depth, 0, 1)


def spine(levels: tuple[str, ...], *, lean: float = 0.15, losses: dict | None = None) -> list[Block]:
    """Blocks from head to foot on a lordotic curve, heights by the norms (mean of anterior and posterior)."""
    blocks, position, angle = [], np.array([5.0, -40.0, 620.0]), -lean
    for upper, level in zip((None, *levels[:-1]), levels, strict=True):
        norm = NORMS.get(level) or NORMS["T11"]
        axis = np.array([0.0, np.sin(angle), np.cos(angle)])
        if upper is not None:
            above = NORMS.get(upper) or NORMS["T11"]
            position = position - axis * (above.middle / 2 + above.disc_below + norm.middle / 2)
        height = (norm.anterior + norm.posterior) / 2
        loss = (losses or {}).get(level, 0.0)
        blocks.append(Block(level, position.copy(), frame_from(axis), height * (1 - loss), height))
        angle += lean / 2.5
    return blocks


def axial_volume(blocks: list[Block], spacing=(1.2, 1.0, 1.0), shear=0.0) -> Volume:
    """CT of the blocks on an axial grid of `spacing` (z, y, x) mm with some margin; `shear` of a tilted gantry."""
    centres = np.array([b.centre for b in blocks])
    low, high = centres.min(axis=0) - [40, 45, 35], centres.max(axis=0) + [40, 75, 35]
    lean = shear * (high[2] - low[2]) / 2
    low[1], high[1] = low[1] - abs(lean), high[1] + abs(lean)
    shape = tuple(int((high[a] - low[a]) / s) for a, s in zip((2, 1, 0), spacing, strict=True))
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([[0, -shear * spacing[0], spacing[0]], [0, spacing[1], 0], [spacing[2], 0, 0]])
    affine[:3, 3] = low
    affine[1, 3] += lean
    return volume_on(blocks, affine, shape)


def volume_on(blocks: list[Block], affine: np.ndarray, shape: tuple[int, int, int], orientation="axial") -> Volume:
    """CT of the blocks on any grid."""
    hu = np.where(paint(blocks, affine, shape) > 0, BONE, TISSUE).astype(np.int16)
    return Volume(hu, affine, tuple(FrameSource(f"1.2.{k}") for k in range(shape[0])), orientation, "1.2")


def paint(blocks: list[Block], affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Which block (1-based) holds each voxel of a grid, 0 where none."""
    out = np.zeros(shape, dtype=np.uint8)
    inverse = np.linalg.inv(affine)
    reach = np.array(np.meshgrid(*[(-60.0, 60.0)] * 3)).reshape(3, -1).T
    for number, block in enumerate(blocks, start=1):
        corners = (block.centre + reach) @ inverse[:3, :3].T + inverse[:3, 3]
        low = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, shape)
        high = np.clip(np.ceil(corners.max(axis=0)).astype(int), 0, shape)
        index = np.moveaxis(np.indices(high - low), 0, -1) + low
        points = index @ affine[:3, :3].T + affine[:3, 3]
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        out[box][np.maximum(block.body(points), block.arch(points)) > 0.5] = number
    return out


@dataclass
class KnowingBundle:
    """Stands in for a bundle: answers from the blocks themselves. `watch` must see every grid before `run` is called."""

    blocks: list[Block]
    fields: list = field(default_factory=list)
    grids: list = field(default_factory=list)
    absent: dict = field(default_factory=dict)
    label: LabelStage = LABEL_STAGE
    segment: SegmentStage | None = None
    vertebra: VertebraStage | None = VERTEBRA_STAGE
    restore: RestoreStage | None = None
    coarse: list[Block] | None = None  # what the label stage sees, where that differs
    identity: BundleIdentity = BundleIdentity("knowing", "1", "0" * 64, "research")  # noqa: RUF009

    def has(self, stage: str) -> bool:
        return stage == "label" or (stage in ("segment", "vertebra") and getattr(self, stage) is not None)

    def run(self, stage: str, tensors: dict) -> dict:
        if stage in ("label", "segment"):
            seen = self.coarse if stage == "label" and self.coarse else self.blocks
            return label_answer(seen, self.fields[-1], tensors["image"].shape[2:])
        assert len(tensors["crop"]) == 1, "crops are shown one by one: several take the memory of several"
        return {name: value[None].astype(np.float32) for name, value in self._crop(self.grids[-1]).items()}

    def watch(self, monkeypatch) -> "KnowingBundle":
        """Record the fields and crop grids the code under test makes; networks see only tensors."""
        from ovcf_node.infer import label, segment, vertebra

        original_sample, original_cement = vertebra.sample_crop, vertebra.cement_of

        def located(volume_field, bundle, locate=label.locate):
            self.fields.append(volume_field)
            return locate(volume_field, bundle)

        def resampled(volume, spacing, isotropic=segment.isotropic):
            self.fields.append(isotropic(volume, spacing))
            return self.fields[-1]

        def sampled(volume, grid):
            self.grids.append(grid)
            return original_sample(volume, grid)

        def cemented(crop, whole, body):
            found = original_cement(crop, whole, body)
            if found is not None:  # it is shown again, without being sampled again
                self.grids.append(crop.grid)
            return found

        def whole(image):
            return image, (np.zeros(3, dtype=int), np.array(image.shape))

        monkeypatch.setattr("ovcf_node.infer.locate", located)
        monkeypatch.setattr(segment, "locate", located)
        monkeypatch.setattr(label, "_trimmed", whole)
        monkeypatch.setattr(segment, "isotropic", resampled)
        monkeypatch.setattr(vertebra, "sample_crop", sampled)
        monkeypatch.setattr(vertebra, "cement_of", cemented)
        return self

    def _crop(self, grid) -> dict:
        points = grid.point_of(np.moveaxis(np.indices(grid.shape), 0, -1))
        origin = grid.point_of(np.array(VERTEBRA_STAGE.origin_index))
        block = min(self.blocks, key=lambda b: np.linalg.norm(b.centre - origin))
        body = block.body(points)
        sign = np.array([3.0 if letter in block.evidence else -3.0 for letter in "SINP"])
        types = np.array([5.0 if name == block.type else 0.0 for name in ("none", "A", "B", "C", "D")])
        upper = np.sum((points - block.centre) * block.frame[2], axis=-1) > 0
        return {
            "vertebra": logit(np.maximum(body, block.arch(points)))[None], "body": logit(body)[None],
            "fracture": logit(body * upper * bool(block.evidence))[None], "evidence": sign, "type": types,
            "old": np.array([3.0 if block.old else -3.0]),
        }


def label_answer(blocks: list[Block], grid, padded_shape: tuple[int, ...], blur: float = 0.25) -> dict:
    """The label network's answer to `blocks` on a field, with a share `blur` of each class given to its neighbours."""
    shape = grid.hu.shape
    classes = np.zeros((len(LABELS), *padded_shape))
    classes[0] = 5.0
    body = np.full((1, 1, *padded_shape), -5.0)
    offset = np.zeros((1, 3, *padded_shape))
    points = grid.point_of(np.moveaxis(np.indices(shape), 0, -1))
    for block in blocks:
        core = block.body(points, soft=3.0) > 0.5
        mine = core | (block.arch(points) > 0.5)
        name = block.level if block.level in LABELS else ("below" if block.level.startswith("S") else "above")
        at = LABELS.index(name)
        share = np.zeros(len(LABELS))
        for step, part in ((0, 1 - blur), (-1, blur / 2), (1, blur / 2)):
            share[min(max(at + step, 1), len(LABELS) - 1)] += part
        place = tuple(np.nonzero(mine))
        classes[(slice(None), *place)] = np.log(np.maximum(share, 1e-3))[:, None]
        body[(0, 0, *np.nonzero(core))] = 4.0
        offset[0].reshape(3, *padded_shape)[(slice(None), *place)] = (block.centre - points[mine]).T / 10.0
    return {"classes": classes[None].astype(np.float32), "body": body.astype(np.float32),
            "offset": offset.astype(np.float32)}


def logit(probability: np.ndarray) -> np.ndarray:
    p = np.clip(probability, 0.01, 0.99)
    return np.log(p / (1 - p))
