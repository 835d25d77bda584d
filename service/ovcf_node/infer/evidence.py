"""From logits to what is said of a vertebra: calibrated probabilities, operating points, Denis by the one table.

The network says which signs it sees and, in a second reading, which type; the type's probability is the mean of what
the two say. Where they contradict each other no type is probable enough, and the class is withheld with the reason.
Probabilities are means over several looks at the same vertebra; looks that contradict each other leave it undetermined,
unless it is clearly called. "No fracture" is never said against a picture or a sign above its operating point, unless the
body kept its height, which is noted (the posterior wall excepted); nor of a body that lost a quarter of its height unless
it surely looks old. Unknown is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ovcf_node.domain.denis import FractureClass, classify
from ovcf_node.domain.findings import Evidence
from ovcf_node.domain.reasons import Reason
from ovcf_node.infer.stages import VertebraStage

UNKNOWN_EVIDENCE = Evidence()
SURELY_LOST = 0.15
"""Height loss (fraction) from which height speaks no longer against a fracture: one begins at 0.10, measured +- 0.05."""
_SIGNS = ("superior", "inferior", "anterior", "posterior")
_TYPES = (None, "A", "B", "C", "D")
_SPELLS = {"A": ("superior", "inferior"), "B": ("superior",), "C": ("inferior",), "D": ("anterior",)}
_DEFORMED = 0.20  # height loss that is a deformity without any broken surface
_UNEXPLAINED = 0.25  # height loss (Genant 2) that rules out "no fracture" unless the deformity is surely old
_SURELY_OLD = 0.6  # least probability of an old deformity that explains such a loss
_SURELY_WHOLE = 0.15  # and most probability of a fracture beside which it does
_MEASURABLE = 0.05  # height loss below which geometry sees nothing
_UNSTEADY = 0.6  # looks that differ by this much in the probability of fracture contradict each other
_FLOOR = 1e-4  # least probability that becomes log-odds
_MOST_LOSS = 0.5  # a loss against the restored vertebra beyond says no more about a fracture
_WITHOUT_SIGN = 0.75  # least probability of a type that no single sign spells
_TORN = 0.1  # lead of a type over the next below which signs and direct reading that name different ones leave it open
_CLOSE = 0.1  # a probability that exceeds the operating point by less is a close call


@dataclass(frozen=True)
class Signs:
    """Calibrated probabilities of one vertebra: four signs, direct type (none, A..D), old deformity, fracture.

    `picture` is the fracture's probability by the network alone, `fracture` what the height loss makes of it (`weighed`);
    `spread` is how far the looks differ in the former.
    """

    evidence: Evidence
    types: tuple[float, float, float, float, float]
    old: float
    fracture: float
    spread: float = 0.0
    picture: float = 0.0


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
        round(float(fracture.mean()), 4),
    )


def is_suspect(signs: Signs, stage: VertebraStage) -> bool:
    """Say whether a vertebra is unfit as a reference for others' heights: the network sees it broken or deformed."""
    points = stage.operating_points
    return weighed(signs, stage, None).fracture >= points["fracture"] or signs.old >= points["old"]


def height_speaks(signs: Signs, points: Mapping[str, float]) -> bool:
    """Whether height may weigh: not against looks that contradict each other, nor against any hint of the posterior wall."""
    return signs.spread < _UNSTEADY and signs.evidence.posterior < points["posterior"] / 2


def weighed(
    signs: Signs, stage: VertebraStage, height_loss: float | None, restored_loss: float | None = None,
    damage_hu: float | None = None,
) -> Signs:
    """Let the measured height and the restored vertebra speak beside the picture; None is unknown.

    height_loss    fraction against the patient's own vertebrae. A kept height speaks against a fracture, the more the less
                   was lost; what lost much may be old, wedged or short as well: from `SURELY_LOST` on more says no more.
    restored_loss  fraction against the restored vertebra (`restore.Restoration.loss`), `damage_hu` its mean damage in HU.

    All ways end on one scale, so that one operating point serves; an old deformity explains what the restored vertebra
    says was lost and damaged.
    """
    height, restored = stage.height, stage.restored
    if height is None:
        return signs
    picture = min(max(signs.picture, _FLOOR), 1.0 - _FLOOR)
    odds = np.log(picture / (1.0 - picture))
    full = 0.0 if height_loss is None else max(0.0, 1.0 - height_loss / SURELY_LOST)
    if height_loss is None:
        odds = height.network_alone * odds + height.intercept_alone
    elif restored is None or restored_loss is None or damage_hu is None:
        odds = height.network * odds - height.full_height * full + height.intercept
    else:
        told = restored.restored_loss * min(restored_loss, _MOST_LOSS) + restored.damage * damage_hu / 100.0
        odds = (
            restored.network * odds - restored.full_height * full + told * (1.0 - signs.old) + restored.intercept
        )
    return replace(signs, fracture=round(float(_sigmoid(odds)), 4))


def grade(signs: Signs, stage: VertebraStage, height_loss: float | None, *, kept: bool = False) -> Grading:
    """Decide fracture, class, age and notes of one complete vertebra; `height_loss` is a fraction or None.

    `kept`: the patient's own vertebrae show that this one has its height, which may overrule signs of a break.
    """
    points = stage.operating_points
    named = _spelled(signs, points)
    if signs.spread >= _UNSTEADY and signs.fracture < points["fracture"] + _CLOSE:
        return _undetermined(signs, Reason("unsteady", "mirrored or slightly shifted, the same vertebra is read otherwise"))
    if signs.fracture < points["fracture"]:
        return _unbroken(signs, named, stage, height_loss, kept)
    recent = named.fracture and signs.old < points["old"] / 2
    denis, abstain = type_of(signs, points)
    if denis is not None:
        named = classify(superior=denis in "AB", inferior=denis in "AC", posterior=False,
                         anterior=denis == "D" or signs.evidence.anterior >= points["anterior"])
    notes = []
    if height_loss is not None and height_loss < _MEASURABLE:
        notes.append(Reason("no_measurable_deformity", f"signs of fracture, but height loss is {height_loss:.0%}"))
    certain = abstain is None or abstain.code == "posterior_wall"
    return Grading(
        True, signs.fracture, signs.evidence,
        denis,
        named.ao if certain else None,
        named.of if certain else None,
        abstain,
        "recent_features" if recent else "indeterminate",
        signs.old >= points["old"],
        tuple(notes),
    )


def _unbroken(
    signs: Signs, named: FractureClass, stage: VertebraStage, height_loss: float | None, kept: bool
) -> Grading:
    """Grade a vertebra whose combined probability stays under the operating point: not broken, or undetermined."""
    points = stage.operating_points
    old = signs.old >= points["old"]
    if named.fracture or weighed(signs, stage, None).fracture >= points["fracture"]:
        if not (kept and stage.height is not None and stage.height.full_height > 0):
            return _undetermined(signs, Reason(
                "evidence_conflict", "picture or sign are above their operating points, the probability of fracture is not"
            ))
        note = Reason("height_kept", f"signs of fracture, but the height loss is {height_loss:.0%}: not called")
        return Grading(False, signs.fracture, signs.evidence, age="old" if old else None, old_deformity=old, notes=(note,))
    lost = None
    if height_loss is not None and height_loss >= _DEFORMED:
        lost = Reason(
            "height_loss_without_break",
            f"height loss {height_loss:.0%} without a broken endplate or cortex, age not certain: fracture, old fracture, "
            "Scheuermann or a short vertebra",
        )
    notes = (lost,) if lost else ()
    unexplained = lost is not None and height_loss >= _UNEXPLAINED
    if old and not (unexplained and (signs.old < _SURELY_OLD or signs.picture > _SURELY_WHOLE)):
        return Grading(False, signs.fracture, signs.evidence, age="old", old_deformity=True, notes=notes)
    if unexplained:
        return _undetermined(signs, lost)
    if lost:
        return Grading(False, signs.fracture, signs.evidence, age="indeterminate", notes=notes)
    return Grading(False, signs.fracture, signs.evidence, old_deformity=False)


def _spelled(signs: Signs, points: Mapping[str, float]) -> FractureClass:
    """What the signs alone spell."""
    return classify(**{name: getattr(signs.evidence, name) >= points[name] for name in _SIGNS})


def _undetermined(signs: Signs, why: Reason) -> Grading:
    return Grading(None, signs.fracture, signs.evidence, abstain=why)


def type_probabilities(signs: Signs) -> tuple[float, float, float, float]:
    """Probabilities of A, B, C, D given a compression fracture: the mean of what the signs and the direct reading say."""
    s, i, n = signs.evidence.superior, signs.evidence.inferior, signs.evidence.anterior
    by_signs = np.array([s * i, s * (1 - i), (1 - s) * i, (1 - s) * (1 - i) * n])
    direct = np.array(signs.types[1:])
    shares = [p / p.sum() if p.sum() > 0 else np.full(4, 0.25) for p in (by_signs, direct)]
    return tuple(float(p) for p in np.mean(shares, axis=0))


def _leans(signs: Signs, denis: str, points: Mapping[str, float]) -> bool:
    """Whether each sign that spells a type is at least half way to its operating point."""
    return all(getattr(signs.evidence, name) >= points[name] / 2 for name in _SPELLS[denis])


def type_of(signs: Signs, points: Mapping[str, float]) -> tuple[str | None, Reason | None]:
    """The Denis type of what is taken for a fracture, or None and why it is withheld."""
    named, least = _spelled(signs, points), points["abstain_below"]
    if named.review:
        return None, Reason("posterior_wall", named.review)
    probable = type_probabilities(signs)
    best, lead = int(np.argmax(probable)), float(np.diff(np.sort(probable)[-2:])[0])
    direct = _TYPES[1 + int(np.argmax(signs.types[1:]))]
    conflict = Reason("evidence_conflict", f"single signs say {named.denis}, the direct reading says {direct}")
    if named.fracture and named.denis != direct and lead < _TORN:
        return None, conflict
    if named.fracture and probable[best] >= least:
        return _TYPES[1 + best], None
    if not named.fracture and probable[best] >= max(least, _WITHOUT_SIGN) and _leans(signs, _TYPES[1 + best], points):
        return _TYPES[1 + best], None
    if not named.fracture:
        return None, Reason("no_sign", "a fracture is probable, no single sign reaches its operating point")
    if named.denis != direct:
        return None, conflict
    return None, Reason("low_confidence", f"probability of the class is {probable[best]:.2f}, below {least:.2f}")


def _sigmoid(logits: np.ndarray | float) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -60, 60)))
