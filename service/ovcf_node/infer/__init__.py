"""Stage 3: read one CT volume. Locate and name the vertebrae, read each in its own frame, measure, judge.

`read` is the front door; `bundle.load` brings the networks. Everything is deterministic: the same volume and bundle
give the same reading.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ovcf_node.domain.findings import HeightLines, Heights, VertebraFinding
from ovcf_node.domain.levels import GRADED, REPORTED
from ovcf_node.domain.reasons import Reason, reason
from ovcf_node.domain.volume import Masks, Volume
from ovcf_node.infer import expected
from ovcf_node.infer.bundle import Bundle, load, load_identity
from ovcf_node.infer.judgement import Judgement, Measured, judge, measured
from ovcf_node.infer.label import Labels, Placed, field_for, locate
from ovcf_node.infer.masks import masks_on_grid
from ovcf_node.infer.morphometry import Geometry, measure
from ovcf_node.infer.numbering import checked
from ovcf_node.infer.restore import Restoration, restorations
from ovcf_node.infer.segment import found
from ovcf_node.infer.vertebra import VertebraReading, read_vertebrae

__all__ = ["Bundle", "Reading", "load", "load_identity", "looks_like_spine", "read"]

LEAST_COMPLETE = 3
"""Fewer complete vertebrae between T12 and S1 than this are not assessed."""

_READ_LEVELS = ("T11", *REPORTED)  # T11 is a neighbour to measure against, never reported
_NOT_MEASURABLE = Reason("not_measurable", "seen but not measurable (collapse, metal or cut field)")
_INCOMPLETE_BODY = Reason("incomplete_body", "the body is not wholly in the field: not graded")


@dataclass(frozen=True)
class Reading:
    """What one volume shows.

    status       assessed | limited | not_assessed | excluded, as far as the image decides it.
    reasons      coded limits or the reason of the status.
    vertebrae    T12..S1 as found, head to foot.
    spine        number of vertebrae T12..S1 found, complete or not.
    ovcf         True when a graded vertebra is fractured, False only when all of T12..L5 were graded and none is;
                 otherwise None.
    probability  largest fracture probability over the graded vertebrae (they are not independent: combining them as if
                 they were would overstate); None unless at least one was graded.
    """

    status: str
    reasons: tuple[Reason, ...] = ()
    vertebrae: tuple[VertebraFinding, ...] = ()
    masks: Masks | None = None
    numbering_uncertain: bool | None = None
    numbering_basis: str | None = None
    spine: int = 0
    ovcf: bool | None = None
    probability: float | None = None
    timings_s: dict[str, float] = field(default_factory=dict)


class _Clock:
    """Seconds per step, in order."""

    def __init__(self, progress: Callable[[str, float], None]):
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def done(self, step: str, fraction: float) -> None:
        now = time.perf_counter()
        self.seconds[step] = round(now - self._since, 3)
        self._since = now
        self.progress(step, fraction)


def looks_like_spine(volume: Volume, bundle: Bundle) -> int:
    """Return how many vertebrae T12..S1 the label stage sees; for series that cannot be assessed."""
    return len(locate(field_for(volume, bundle), bundle).reported)


def read(
    volume: Volume, bundle: Bundle, *, withhold_grading: bool = False, threads: int = 2,
    progress: Callable[[str, float], None] = lambda step, fraction: None,
) -> Reading:
    """Read a volume; `withhold_grading` leaves out heights and everything about fractures (slices too thick).

    `progress` is called with the step just done and the fraction of all work. Raises Permanent when a stage cannot run.
    """
    clock = _Clock(progress)
    labels = found(volume, bundle, clock.done)
    if not labels.reported:
        return Reading("excluded", (reason("no_spine"),), timings_s=clock.seconds)
    labels = checked(labels, volume, bundle.label.labels)
    clock.done("numbering", 0.47)
    if not bundle.has("vertebra"):
        return _labels_only(labels, clock)
    readings = [
        r for r in read_vertebrae(volume, bundle, labels, _READ_LEVELS, lambda f: progress("vertebra", 0.47 + 0.28 * f))
        if r.has_body
    ]
    clock.done("vertebra", 0.75)
    geometry = {r.level: measure(r.crop, r.vertebra, r.body, r.cement) for r in readings}
    seen = [r.level for r in readings if r.level in REPORTED]
    verdict, reasons = _verdict(geometry, seen)
    graded = not withhold_grading and verdict != "not_assessed"
    known = measured(readings, geometry, bundle.vertebra) if graded else {}
    clock.done("measure", 0.8)
    restored = restored_of(volume, bundle, readings, geometry, known)
    if restored:
        clock.done("restore", 0.85)
    judged = judge(known, restored, geometry, bundle.vertebra) if graded else {}
    vertebrae = tuple(
        _finding(v.label, geometry[v.label], judged, restored.get(v.label)) if v.label in seen
        else _seen(v, _NOT_MEASURABLE)
        for v in reversed(labels.reported)
    )
    masks = None
    if verdict in ("assessed", "limited"):
        fractured = frozenset(v.level for v in vertebrae if v.fracture)
        masks = masks_on_grid(volume, labels, [r for r in readings if r.level in REPORTED], fractured, threads)
    clock.done("masks", 1.0)
    return Reading(
        "limited" if verdict == "assessed" and (reasons or withhold_grading) else verdict, reasons, vertebrae, masks,
        labels.numbering_uncertain, labels.numbering_basis, len(vertebrae), _any_fracture(vertebrae),
        max((v.probability for v in vertebrae if v.probability is not None), default=None), clock.seconds,
    )


def _any_fracture(vertebrae: tuple[VertebraFinding, ...]) -> bool | None:
    """Whether the patient has a fracture T12..L5: a level that is missing or undetermined leaves 'no' unknown."""
    said = {v.level: v.fracture for v in vertebrae}
    if any(said.get(level) for level in GRADED):
        return True
    return False if all(said.get(level) is False for level in GRADED) else None


def _verdict(geometry: dict[str, Geometry], found: list[str]) -> tuple[str, tuple[Reason, ...]]:
    """Whether the field suffices: status and reasons.

    The label stage saw vertebrae here (`Labels.reported` keeps skulls and hips out): when no crop confirms one, that
    is too little to assess and must be said, not silently excluded.
    """
    complete = [level for level in found if geometry[level].complete]
    metal = [level for level in found if geometry[level].metal]
    if len(complete) < LEAST_COMPLETE:
        return "not_assessed", (reason("too_little_spine", f"{len(complete)} of at least {LEAST_COMPLETE}"),)
    if len(metal) > len(found) / 2:
        return "not_assessed", (reason("metal", ", ".join(metal)),)
    reasons = []
    missing = [level for level in REPORTED if level not in complete]
    if missing:
        reasons.append(reason("incomplete_coverage", f"not complete: {', '.join(missing)}"))
    bright = [level for level in found if geometry[level].metal or geometry[level].cement]
    if bright:
        reasons.append(reason("metal_present", ", ".join(bright)))
    return ("limited" if reasons else "assessed"), tuple(reasons)


def restored_of(
    volume: Volume, bundle: Bundle, readings: list[VertebraReading], geometry: dict[str, Geometry],
    known: dict[str, Measured],
) -> dict[str, Restoration]:
    """Restore the graded vertebrae of `known` heights; it explains the reading, and is heard where the bundle says so.

    Not those with cement: all of it would be damage.
    """
    expected = {
        level: m.expectation for level, m in known.items() if level in GRADED and m.expectation and not m.cement
    }
    return restorations(volume, bundle, readings, {level: geometry[level].heights for level in expected}, expected)


def _finding(
    level: str, geometry: Geometry, judged: dict[str, Judgement], restored: Restoration | None
) -> VertebraFinding:
    """Put one vertebra together; without judgement there are no heights either."""
    facts = {
        "level": level, "complete": geometry.complete, "mean_hu": geometry.mean_hu, "volume_cm3": geometry.volume_cm3,
        "centroid_mm": geometry.centroid,
    }
    if level not in judged:
        cut = level in GRADED and not geometry.complete
        return VertebraFinding(**facts, notes=(_INCOMPLETE_BODY,) if cut else ())
    judgement = judged[level]
    grading, expectation = judgement.grading, judgement.expectation
    # The sacral body tapers into S2 without a free lower endplate: six-point heights are not defined for it.
    whole = level in GRADED and not geometry.metal
    return VertebraFinding(
        **facts,
        fracture=grading.fracture, probability=grading.probability, evidence=grading.evidence, denis=grading.denis,
        ao=grading.ao, of=grading.of, abstain=grading.abstain, age=grading.age, old_deformity=grading.old_deformity,
        notes=grading.notes,
        heights_mm=geometry.heights if whole else Heights(),
        height_lines_mm=geometry.lines if whole else HeightLines(),
        expected_mm=expectation.heights if expectation else Heights(),
        expected_from=expectation.source if expectation else None,
        height_loss=judgement.loss,
        genant=expected.genant(judgement.loss, expectation.standard_error) if expectation else None,
        restored_loss=restored.loss if restored else None,
        damage_hu=restored.score if restored else None,
    )


def _seen(vertebra: Placed, *notes: Reason) -> VertebraFinding:
    """A vertebra of which only name and place are known; whether its body is complete is not."""
    return VertebraFinding(
        vertebra.label, complete=None, centroid_mm=tuple(round(float(x), 2) for x in vertebra.centre), notes=notes
    )


def _labels_only(labels: Labels, clock: _Clock) -> Reading:
    """Name the vertebrae and say nothing else: without a vertebra stage, completeness is not claimed either."""
    vertebrae = tuple(_seen(v) for v in reversed(labels.reported))
    return Reading(
        "limited", (reason("grading_absent"),), vertebrae, None, labels.numbering_uncertain, labels.numbering_basis,
        len(vertebrae), timings_s=clock.seconds,
    )
