"""From readings and geometry to a judgement of each vertebra: signs, what its heights should be, what it lost, the verdict.

Heights come second, without a circle: what the network sees broken or deformed is no reference for others, what is left
says how high each vertebra should be, the restoring stage may paint it so, and only then what was lost is weighed against
the picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ovcf_node.domain.levels import GRADED, REPORTED
from ovcf_node.domain.reasons import Reason
from ovcf_node.infer import expected
from ovcf_node.infer.evidence import Grading, Signs, calibrated, grade, height_speaks, is_suspect, weighed
from ovcf_node.infer.morphometry import Geometry
from ovcf_node.infer.restore import Restoration
from ovcf_node.infer.stages import VertebraStage
from ovcf_node.infer.usual import is_unusual
from ovcf_node.infer.vertebra import VertebraReading

_FRACTURED = 0.10  # height loss with which a recent fracture begins (`models/README.md`)
_METAL = Reason("metal", "metal or cement at this vertebra: not graded")
_SUSPECT = Reason("cement", "cement in this vertebra, and a fracture of it is not ruled out: not graded")
_CLEARED = Reason(
    "cement", "cement in this vertebra: no recent fracture seen in the bone that it leaves visible; older ones not ruled out"
)
_UNMEASURED = Reason(
    "not_measurable", "no break seen, but the heights of this body cannot be measured, as in one that is crushed: not graded"
)
_UNUSUAL = Reason("unusual", "the picture of this vertebra is unlike those the models were calibrated on: not graded")


@dataclass(frozen=True)
class Measured:
    """What speaks about one complete vertebra: the network's signs (without heights), expected heights, height loss."""

    signs: Signs
    unusual: bool
    expectation: expected.Expectation | None
    loss: float | None
    cement: bool = False

    @property
    def own_loss(self) -> float | None:
        """The loss where the patient's own vertebrae are the reference; norms err by the size of the person."""
        return self.loss if self.expectation is not None and self.expectation.references else None

    @property
    def kept(self) -> bool:
        """Whether at least two of the patient's own vertebrae say that less was lost than a fracture begins with."""
        return self.own_loss is not None and self.expectation.references > 1 and self.own_loss < _FRACTURED


@dataclass(frozen=True)
class Judgement:
    """What is said of one vertebra and the heights it was held against; `loss` is a fraction or None."""

    grading: Grading
    expectation: expected.Expectation | None
    loss: float | None


def measured(
    readings: Sequence[VertebraReading], geometry: Mapping[str, Geometry], stage: VertebraStage
) -> dict[str, Measured]:
    """Hold the complete vertebrae that metal does not disturb against each other; one with cement is no reference."""
    usable = [r for r in readings if geometry[r.level].complete and not geometry[r.level].metal]
    signs = {r.level: calibrated(r.looks, stage) for r in usable}
    unusual = {r.level for r in usable if is_unusual(r, stage.usual)}
    whole = [level for level in signs if level not in unusual and not geometry[level].cement]

    def held_against(references: list[str]) -> dict[str, Measured]:
        expectations = expected.expectations(
            {level: geometry[level].heights for level in signs}, references,
            {level: geometry[level].width for level in signs},
        )
        out = {}
        for level, seen in signs.items():
            held = expectations.get(level)
            loss = expected.height_loss(geometry[level].heights, held.heights) if held else None
            out[level] = Measured(seen, level in unusual, held, loss, geometry[level].cement)
        return out

    plain = [level for level in whole if not is_suspect(signs[level], stage)]
    first = held_against(plain)
    # What looks broken and kept its height is called no fracture (`evidence.grade`): others may be held against it.
    cleared = [level for level in whole if level not in plain and _cleared(first[level], stage)]
    return held_against([*plain, *cleared]) if cleared else first


def _cleared(known: Measured, stage: VertebraStage) -> bool:
    points = stage.operating_points
    return (
        known.kept and height_speaks(known.signs, points) and known.signs.old < points["old"]
        and weighed(known.signs, stage, known.own_loss).fracture < points["fracture"]
    )


def judge(
    known: Mapping[str, Measured], restored: Mapping[str, Restoration], geometry: Mapping[str, Geometry],
    stage: VertebraStage,
) -> dict[str, Judgement]:
    """Grade what was `measured`; S1, what metal disturbs and what the stage does not know are not judged."""
    out = {}
    for level, one in known.items():
        if level in REPORTED:
            out[level] = Judgement(_grading(level, one, restored.get(level), stage), one.expectation, one.loss)
    for level in REPORTED:
        if level in geometry and geometry[level].metal:
            out[level] = Judgement(Grading(abstain=_METAL), None, None)
    return out


def _grading(level: str, known: Measured, restored: Restoration | None, stage: VertebraStage) -> Grading:
    if level not in GRADED:
        return Grading()
    if known.unusual:
        return Grading(abstain=_UNUSUAL)
    against = (restored.loss, restored.score) if restored else (None, None)
    if known.cement:  # of what was treated, a kept height proves nothing
        return _beside_cement(known, grade(weighed(known.signs, stage, None, *against), stage, known.loss))
    speaks = height_speaks(known.signs, stage.operating_points)
    signs = weighed(known.signs, stage, known.own_loss if speaks else None, *against)
    grading = grade(signs, stage, known.loss, kept=speaks and known.kept)
    # Without heights nothing contradicts a network that overlooks a crushed body.
    return Grading(abstain=_UNMEASURED) if known.loss is None and grading.fracture is False else grading


def _beside_cement(known: Measured, grading: Grading) -> Grading:
    """Say "no fracture" of a vertebra with cement where that is clear, and else nothing: calls there are too often false.

    Clear is what lost less than a deformity against the patient's own vertebrae, or looks old; that it was never broken is
    not said of a treated vertebra.
    """
    if grading.fracture is not False or known.own_loss is None or (grading.notes and not grading.old_deformity):
        return Grading(abstain=_SUSPECT)
    return replace(grading, old_deformity=grading.old_deformity or None, notes=(*grading.notes, _CLEARED))
