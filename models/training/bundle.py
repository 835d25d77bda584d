"""The bundle contract (``models/README.md``) as code: windowing, probabilities, reading and writing.

The node has its own reader; this one belongs to training and evaluation. The node's are only the self-test's picture, since
it has to go through the node's preprocessing, and the rule that names a type.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import numpy as np

from networks import CROP_ORIGIN, CROP_SHAPE, CROP_SPACING, LABELS
from ovcf_node.domain.findings import Evidence
from ovcf_node.infer import self_test
from ovcf_node.infer.evidence import SURELY_LOST, Signs, type_of
from ovcf_node.infer.stages import LabelStage, RestoreStage, SegmentStage, VertebraStage

REFERENCE = Path(__file__).resolve().parents[1] / "reference"  # the committed bundle
LABEL_WINDOW = (-300.0, 900.0)  # HU
VERTEBRA_WINDOW = (-300.0, 1300.0)  # HU
LABEL_SPACING = 6.0  # mm
SEGMENT_SPACING = 3.0  # mm
SEGMENT_MARGIN = 30.0  # mm around the vertebrae of the label stage
MULTIPLE_OF = 8
_GRID = (LABEL_WINDOW, -1.0, MULTIPLE_OF, LABELS)
FIELDS = {"label": LabelStage(LABEL_SPACING, *_GRID), "segment": SegmentStage(SEGMENT_SPACING, *_GRID, SEGMENT_MARGIN)}
VERTEBRA = VertebraStage(CROP_SPACING, CROP_SHAPE, CROP_ORIGIN, VERTEBRA_WINDOW, {}, {})
RESTORE = RestoreStage(VERTEBRA_WINDOW)
OUTPUTS = {
    "label": ("classes", "body", "offset"),
    "segment": ("classes", "body", "offset"),
    "vertebra": ("vertebra", "body", "fracture", "evidence", "type", "old"),
}
# In SDs of an output. PyTorch and onnxruntime differ by up to 0.0007 on the self-test's picture; products rounded to TF32's
# ten bits by 0.002, to bfloat16's seven by 0.017 (both emulated on a CPU).
TOLERANCE = {"tolerance": 0.005}
ON_GPU = {"CUDAExecutionProvider": 0.02, "TensorrtExecutionProvider": 0.02}
DEFAULT_POINTS = {
    "fracture": 0.5,
    "superior": 0.5,
    "inferior": 0.5,
    "anterior": 0.5,
    "posterior": 0.5,
    "old": 0.5,
    "abstain_below": 0.6,
}
DEFAULT_TEMPERATURE = {"evidence": 1.0, "type": 1.0, "old": 1.0}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(np.asarray(x, np.float64), -60, 60)))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def probabilities(evidence, kind, old, temperature: dict[str, float]) -> dict[str, np.ndarray]:
    """Calibrated probabilities from logits ``[N,4], [N,5], [N,1]``.

    ``fracture`` is the contract's mean of ``max(S, I, N)`` and ``1 - P(none)``.
    """
    e = sigmoid(np.asarray(evidence) / temperature["evidence"])
    t = softmax(np.asarray(kind, np.float64) / temperature["type"])
    o = sigmoid(np.asarray(old) / temperature["old"]).reshape(-1)
    return {"evidence": e, "type": t, "old": o, "fracture": 0.5 * (e[:, :3].max(1) + 1.0 - t[:, 0])}


def height_features(picture: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The contract's two terms of a fracture's log-odds: the picture's, and minus how full the height is (1 to 0)."""
    picture = np.clip(picture, 1e-4, 1 - 1e-4)
    return np.log(picture / (1 - picture)), np.minimum(loss / SURELY_LOST, 1) - 1


def restored_features(old: np.ndarray, restored_loss: np.ndarray, damage_hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Its two further terms: the loss against the restored vertebra, and the damage per 100 HU, where it looks not old."""
    return np.minimum(restored_loss, 0.5) * (1 - old), damage_hu / 100 * (1 - old)


def weighed(
    picture: np.ndarray, old: np.ndarray, loss: np.ndarray, height: dict[str, float],
    restored: dict[str, float] | None = None, restored_loss: np.ndarray | None = None, damage_hu: np.ndarray | None = None,
) -> np.ndarray:
    """Probability of a fracture from the picture and as much of height loss, restored loss and damage as is not NaN.

    ``restored`` holds the weights of the last two; without it they are not heard.
    """
    odds, lack = height_features(picture, loss)
    said = height["network_alone"] * odds + height["intercept_alone"]
    said = np.where(np.isfinite(loss), height["network"] * odds + height["full_height"] * lack + height["intercept"], said)
    if restored:
        short, damaged = restored_features(old, restored_loss, damage_hu)
        told = restored["full_height"] * lack + restored["restored_loss"] * short + restored["damage"] * damaged
        said = np.where(np.isfinite(told), restored["network"] * odds + told + restored["intercept"], said)
    return sigmoid(said)


def denis(evidence: np.ndarray, points: dict[str, float]) -> str:
    """The compression type that evidence probabilities ``[4]`` spell: none, A, B, C, D or burst (clinical.md 2.4)."""
    s, i, n, p = (evidence[k] >= points[name] for k, name in enumerate(("superior", "inferior", "anterior", "posterior")))
    if p and (s or i):
        return "burst"
    return "A" if s and i else "B" if s else "C" if i else "D" if n else "none"


def types_said(p: dict[str, np.ndarray], points: dict[str, float]) -> np.ndarray:
    """What the node says of each fracture of `probabilities`: A..D, burst, or None where it withholds the type."""
    said = []
    for signs, kind in zip(np.round(p["evidence"], 4), p["type"], strict=True):
        letter, why = type_of(Signs(Evidence(*map(float, signs)), tuple(map(float, kind)), 0.0, 1.0), points)
        said.append("burst" if why and why.code == "posterior_wall" else letter)
    return np.array(said, object)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def session(path: Path, threads: int = 1):
    """An onnxruntime CPU session of the file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(sess, stage: str, tensor: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of one stage by name."""
    names = list(OUTPUTS[stage])
    return dict(zip(names, sess.run(names, {sess.get_inputs()[0].name: tensor}), strict=True))


def read(folder: Path) -> dict:
    """``bundle.toml`` of a folder, digests checked."""
    data = tomllib.loads((folder / "bundle.toml").read_text())
    for name, stage in data["stages"].items():
        if "file" in stage and digest(folder / stage["file"]) != stage["sha256"]:
            raise ValueError(f"{folder}: {stage['file']} of stage {name} differs from its digest in bundle.toml")
    return data


def _value(x) -> str:
    if isinstance(x, str):
        return '"' + x.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(x, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in x) + "]"
    return repr(x)


def _table(name: str, values: dict) -> list[str]:
    return [f"[{name}]", *(f"{k} = {_value(v)}" for k, v in values.items()), ""]


def table(name: str, values: dict) -> str:
    """One table of ``bundle.toml``, an empty line after it."""
    return "\n".join(_table(name, values)) + "\n"


def promised(stage: str, sess, given: dict[str, np.ndarray]) -> str:
    """The self-test's tables of a stage, from what its session answers to ``given``."""
    names = [output.name for output in sess.get_outputs()]
    answer = dict(zip(names, sess.run(names, given), strict=True))
    return (
        table(f"{stage}.self_test", TOLERANCE)
        + table(f"{stage}.self_test.tolerance_of", ON_GPU)
        + table(f"{stage}.self_test.expected", {name: self_test.numbers(value) for name, value in answer.items()})
    )


def write(
    folder: Path, identity: dict, points: dict, temperature: dict, usual: dict | None = None,
    height: dict | None = None, restored: dict | None = None,
) -> None:
    """Write ``bundle.toml`` beside the ONNX files of ``folder``; self-test numbers come from onnxruntime."""
    lines = _table("bundle", identity)
    grid = {"window_hu": LABEL_WINDOW, "pad_value": -1.0, "multiple_of": MULTIPLE_OF}
    fixed = {
        "label": {"spacing_mm": LABEL_SPACING, **grid, "labels": LABELS},
        "segment": {"spacing_mm": SEGMENT_SPACING, "margin_mm": SEGMENT_MARGIN, **grid, "labels": LABELS},
        "vertebra": {
            "spacing_mm": CROP_SPACING,
            "shape": CROP_SHAPE,
            "origin_index": CROP_ORIGIN,
            "window_hu": VERTEBRA_WINDOW,
        },
    }
    for stage, settings in fixed.items():
        path = folder / f"{stage}.onnx"
        if stage == "segment" and not path.exists():
            lines += _table(f"stages.{stage}", {"absent": "not part of this bundle: masks come from the other stages"})
            continue
        lines += _table(f"stages.{stage}", {"file": path.name, "sha256": digest(path), **settings})
        if stage == "vertebra":
            lines += _table("stages.vertebra.operating_points", {k: round(float(v), 4) for k, v in points.items()})
            lines += _table("stages.vertebra.temperature", {k: round(float(v), 4) for k, v in temperature.items()})
            for name, values in (("usual", usual), ("height", height), ("restored", restored)):
                if values:
                    lines += _table(f"stages.vertebra.{name}", values)
        given = self_test.crop_tensors(VERTEBRA) if stage == "vertebra" else self_test.field_tensors(FIELDS[stage])
        lines.append(promised(f"stages.{stage}", session(path), given))
    lines += _table(
        "stages.restore", {"absent": "not part of this bundle: expected heights come from neighbours and level norms"}
    )
    (folder / "bundle.toml").write_text("\n".join(lines))
