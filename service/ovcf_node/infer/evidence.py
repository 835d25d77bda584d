"""From logits to what is said of a vertebra: calibrated probabilities, operating points, Denis by the one table.

The network says which signs it sees, the table says what they are called, and a second, direct reading of the type must
agree; where it does not, the class is withheld with the reason. Probabilities are means over several looks at the same
vertebra; looks that contradict each other about a close call leave it undetermined. "No fracture" is never said against
a sign above its operating point, nor of a body that lost a quarter of its height for no known reason. Unknown is None.
"""

from dataclasses import dataclass

import numpy as np

from ovcf_node.domain.denis import FractureClass, classify
from ovcf_node.domain.findings import Evidence
from ovcf_node.domain.reasons import Reason
from ovcf_node.infer.bundle import VertebraStage

UNKNOWN_EVIDENCE = Evidence()
_SIGNS = ("superior", "inferior", "anterior", "posterior")
_TYPES = (None, "A", "B", "C", "D")
_DEFORMED = 0.20  # height loss that is a deformity without any broken surface
_UNEXPLAINED = 0.25  # height loss (Genant 2) that rules out "no fracture" unless the deformity is seen to be old
_MEASURABLE = 0.05  # height loss below which geometry sees nothing
_UNSTEADY = 0.5  # looks that differ by this much in the probability of fracture contradict each other
_CLOSE = 0.2  # distance of that probability from the operating point that is a close call


@dataclass(frozen=True)
class Signs:
    """Calibrated probabilities of one vertebra: four signs, direct type (none, A..D), old deformity, fracture.

    `spread` is how far the looks differ in the probability of fracture.
    """

    evidence: Evidence
    types: tuple[float, float, float, float, float]
    old: float
    fracture: float
    spread: float = 0.0


@dataclass(frozen=True)
class Grading:
    """What is said of one vertebra. The default says nothing: grading was not performed."""

    fracture: bool | None = None
    probability: float | None = None
    evidence: Evidence = UNKNOWN_EVIDENCE
    denis: str | None = None
    ao: str | None = None
    of: str | None = None
    abstain: Reason | None = None
    age: str | None = None
    old_deformity: bool | None = None
    notes: tuple[Reason, ...] = ()


def calibrated(looks: np.ndarray, stage: VertebraStage) -> Signs:
    """Turn logits (looks, 10) into mean probabilities; fracture is the mean of max(S, I, N) and 1 - P(none)."""
    looks = np.atleast_2d(np.asarray(looks, dtype=float))
    signs = _sigmoid(looks[:, :4] / stage.temperature["evidence"])
    logits = looks[:, 4:9] / stage.temperature["type"]
    kinds = np.exp(logits - logits.max(axis=1, keepdims=True))
    kinds /= kinds.sum(axis=1, keepdims=True)
    fracture = (signs[:, :3].max(axis=1) + 1.0 - kinds[:, 0]) / 2.0
    return Signs(
        Evidence(**{name: round(float(p), 4) for name, p in zip(_SIGNS, signs.mean(axis=0), strict=True)}),
        tuple(float(p) for p in kinds.mean(axis=0)),
        float(_sigmoid(looks[:, 9] / stage.temperature["old"]).mean()),
        round(float(fracture.mean()), 4),
        round(float(np.ptp(fracture)), 4),
    )


def is_suspect(signs: Signs, stage: VertebraStage) -> bool:
    """Say whether a vertebra is unfit as a reference for others' heights: the network sees it broken or deformed."""
    points = stage.operating_points
    return signs.fracture >= points["fracture"] or signs.old >= points["old"]


def grade(signs: Signs, stage: VertebraStage, height_loss: float | None) -> Grading:
    """Decide fracture, class, age and notes of one complete vertebra; `height_loss` is a fraction or None."""
    points = stage.operating_points
    broken = {name: getattr(signs.evidence, name) >= points[name] for name in _SIGNS}
    named = classify(**broken)
    if signs.spread >= _UNSTEADY and abs(signs.fracture - points["fracture"]) < _CLOSE:
        return _undetermined(signs, Reason("unsteady", "mirrored or slightly shifted, the same vertebra is read otherwise"))
    if signs.fracture < points["fracture"]:
        return _unbroken(signs, named, signs.old >= points["old"], height_loss)
    abstain = _abstain(signs, named, points["abstain_below"])
    notes = []
    if height_loss is not None and height_loss < _MEASURABLE:
        notes.append(Reason("no_measurable_deformity", f"signs of fracture, but height loss is {height_loss:.0%}"))
    certain = abstain is None or abstain.code == "posterior_wall"
    recent = named.fracture and signs.old < points["old"] / 2
    return Grading(
        True, signs.fracture, signs.evidence,
        named.denis if abstain is None else None,
        named.ao if certain else None,
        named.of if certain else None,
        abstain,
        "recent_features" if recent else "indeterminate",
        signs.old >= points["old"],
        tuple(notes),
    )


def _unbroken(signs: Signs, named: FractureClass, old: bool, height_loss: float | None) -> Grading:
    """Grade a vertebra whose combined probability stays under the operating point: not broken, or undetermined."""
    if named.fracture:
        return _undetermined(signs, Reason(
            "evidence_conflict", "a sign is above its operating point, the probability of fracture is not"
        ))
    lost = None
    if height_loss is not None and height_loss >= _DEFORMED:
        lost = Reason(
            "height_loss_without_break",
            f"height loss {height_loss:.0%} without a broken endplate or cortex: old fracture, Scheuermann or a short "
            "vertebra",
        )
    notes = (lost,) if lost else ()
    if old:
        return Grading(False, signs.fracture, signs.evidence, age="old", old_deformity=True, notes=notes)
    if lost and height_loss >= _UNEXPLAINED:
        return _undetermined(signs, lost)
    if lost:
        return Grading(False, signs.fracture, signs.evidence, age="indeterminate", notes=notes)
    return Grading(False, signs.fracture, signs.evidence, old_deformity=False)


def _undetermined(signs: Signs, why: Reason) -> Grading:
    return Grading(None, signs.fracture, signs.evidence, abstain=why)


def _abstain(signs: Signs, named: FractureClass, least: float) -> Reason | None:
    """Why the class of a fracture is withheld, or None."""
    if named.review:
        return Reason("posterior_wall", named.review)
    if not named.fracture:
        return Reason("no_sign", "the direct reading says fracture, no single sign reaches its operating point")
    direct = int(np.argmax(signs.types))
    if named.denis != _TYPES[direct]:
        by_type = _TYPES[direct] or "none"
        return Reason("evidence_conflict", f"single signs say {named.denis}, the direct reading says {by_type}")
    if signs.types[direct] < least:
        return Reason("low_confidence", f"probability of the class is {signs.types[direct]:.2f}, below {least:.2f}")
    return None


def _sigmoid(logits: np.ndarray | float) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -60, 60)))
