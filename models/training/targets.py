"""What this project wants of its own bundle, beside what the cohorts reached: the first table of EVALUATION.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ovcf_node.evaluate.geometry import WIDE_MM
from ovcf_node.evaluate.markdown import table

Figures = dict[str, Any]
ANSWER = {True: "yes", False: "**no**"}
BELOW = 3.0
"""Points by which other generators may be worse than `study`."""


@dataclass(frozen=True)
class Target:
    """`pick` finds the value among the figures of a cohort, None without cases; `least` or else `most` is wanted."""

    name: str
    pick: Callable[[Figures], float | None]
    least: float | None = None
    most: float | None = None
    digits: int = 3
    share: bool = True  # or a coefficient: what points can be said of

    @property
    def wanted(self) -> str:
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"

    def said(self, figures: Figures) -> str:
        """What was reached and whether that is enough."""
        value = self.pick(figures)
        if value is None:
            return "-"
        reached = value >= self.least if self.least is not None else value <= self.most
        return f"{value:.{self.digits}f} {ANSWER[reached]}"


def _uncertain_transitional(f: Figures) -> float | None:
    """Share with numbering called uncertain among all transitional anatomy, named or not."""
    both = [f["labels"][name] for name in ("uncertain_lumbosacral", "uncertain_transitional")]
    of = sum(x["of"] for x in both)
    return sum(x["hits"] for x in both) / of if of else None


TARGETS = (
    Target("patients: sensitivity", lambda f: f["detection"]["sensitivity"]["value"], least=0.97),
    Target("patients: specificity", lambda f: f["detection"]["specificity"]["value"], least=0.97),
    Target("Denis type of detected", lambda f: f["types"]["of_detected"]["value"], least=0.95),
    Target("Denis type, end to end", lambda f: f["types"]["end_to_end"]["value"], least=0.93),
    Target("patients: kappa", lambda f: f["detection"]["kappa"], least=0.93),
    Target(
        "every name right, patients without an extra or missing vertebra", lambda f: f["labels"]["patients"]["value"],
        least=0.97,
    ),
    Target("Dice T12-L5", lambda f: f["overlap"]["dice_graded"], least=0.93),
    Target("Dice S1", lambda f: f["overlap"]["dice_s1"], least=0.90),
    Target(
        "height error, mean absolute, mm", lambda f: f["heights"]["all"].get("mean_absolute"), most=0.7, digits=2,
        share=False,
    ),
    Target(
        "height loss error, mean absolute, points", lambda f: f["heights"]["loss_points"].get("mean_absolute"), most=3.0,
        digits=1, share=False,
    ),
    Target(
        "the same where 10 % and more was lost", lambda f: f["heights"]["loss_points_lost_10_percent"].get("mean_absolute"),
        most=3.0, digits=1, share=False,
    ),
    Target("patients not assessed, slices <= 3 mm", lambda f: f["abstention"]["not_assessed"]["value"], most=0.02),
    Target("patients undetermined, slices <= 3 mm", lambda f: f["abstention"]["undetermined_patients"]["value"], most=0.05),
    Target("numbering uncertain, ordinary", lambda f: f["labels"]["uncertain_normal"]["value"], most=0.05),
    Target("numbering uncertain, transitional", _uncertain_transitional, least=0.90),
    Target(
        f"numbering uncertain, transitional, field from {WIDE_MM:g} mm wide",
        lambda f: f["labels"]["uncertain_variants_wide"]["value"], least=0.90,
    ),
)


def lines(cohorts: dict[str, Figures]) -> list[str]:
    """Both tables; a share reaches its target or not as it stands, whatever its interval."""
    rows = [(t.name, t.wanted, *(t.said(f) for f in cohorts.values())) for t in TARGETS]
    return [
        "## Targets, and what was reached", "",
        "Whether a value as it stands reaches the target; the intervals below say how sure that is. `-`: no such case, or "
        "not defined.", "",
        *table(("", "wanted", *cohorts), rows), "", *_distances(cohorts),
    ]


def _distances(cohorts: dict[str, Figures]) -> list[str]:
    """By how many points other generators are worse than the first, where they were read; below 0 they are better."""
    others = [name for name in ("second", "third") if {"study", name} <= set(cohorts)]
    if not others:
        return []

    def said(target: Target, other: str) -> str:
        ours, theirs = target.pick(cohorts["study"]), target.pick(cohorts[other])
        if ours is None or theirs is None:
            return "-"
        points = round(100 * (ours - theirs if target.least is not None else theirs - ours), 6)
        return f"{points:.1f} {ANSWER[points <= BELOW]}"

    rows = [(t.name, f"<= {BELOW:g}", *(said(t, other) for other in others)) for t in TARGETS if t.share]
    return [*table(("points worse than `study`", "wanted", *others), rows), ""]
