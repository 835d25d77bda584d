"""What this project wants of its own bundle, beside what the cohorts reached: the first table of EVALUATION.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ovcf_node.evaluate.markdown import table

Figures = dict[str, Any]
ANSWER = {True: "yes", False: "**no**"}
BELOW = 3.0
"""Points by which other generators may stay below `study`."""


@dataclass(frozen=True)
class Target:
    """`pick` finds the value among the figures of a cohort, None without cases; `least` or else `most` is wanted."""

    name: str
    pick: Callable[[Figures], float | None]
    least: float | None = None
    most: float | None = None
    digits: int = 3

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


DETECTION = (
    Target("patients: sensitivity", lambda f: f["detection"]["sensitivity"]["value"], least=0.97),
    Target("patients: specificity", lambda f: f["detection"]["specificity"]["value"], least=0.97),
    Target("Denis type of detected", lambda f: f["types"]["of_detected"]["value"], least=0.95),
    Target("Denis type, end to end", lambda f: f["types"]["end_to_end"]["value"], least=0.93),
)
TARGETS = (
    *DETECTION,
    Target("patients: kappa", lambda f: f["detection"]["kappa"], least=0.93),
    Target(
        "every name right, patients without an extra or missing vertebra", lambda f: f["labels"]["patients"]["value"],
        least=0.97,
    ),
    Target("Dice T12-L5", lambda f: f["overlap"]["dice_graded"], least=0.93),
    Target("Dice S1", lambda f: f["overlap"]["dice_s1"], least=0.90),
    Target("height error, mean absolute, mm", lambda f: f["heights"]["all"].get("mean_absolute"), most=0.7, digits=2),
    Target("patients not assessed, slices <= 3 mm", lambda f: f["abstention"]["not_assessed"]["value"], most=0.02),
    Target("patients undetermined, slices <= 3 mm", lambda f: f["abstention"]["undetermined_patients"]["value"], most=0.05),
    Target("numbering uncertain, ordinary", lambda f: f["labels"]["uncertain_normal"]["value"], most=0.05),
    Target("numbering uncertain, transitional", _uncertain_transitional, least=0.90),
)


def lines(cohorts: dict[str, Figures]) -> list[str]:
    """The table; a share reaches its target or not as it stands, whatever its interval."""
    rows = [(t.name, t.wanted, *(t.said(f) for f in cohorts.values())) for t in TARGETS]
    return [
        "## Targets, and what was reached", "",
        "Whether a value as it stands reaches the target; the intervals below say how sure that is. `-`: no such case, or "
        "not defined.", "",
        *table(("", "wanted", *cohorts), [*rows, *_others(cohorts)]), "",
    ]


def _others(cohorts: dict[str, Figures]) -> Iterator[tuple[str, ...]]:
    """How far other generators stay below the first, where they were read."""
    for other in ("second", "third"):
        if not {"study", other} <= set(cohorts):
            continue
        for target in DETECTION:
            ours, theirs = target.pick(cohorts["study"]), target.pick(cohorts[other])
            if ours is not None and theirs is not None:
                points = round(100 * (ours - theirs), 6)
                said = f"{points:.1f} {ANSWER[points <= BELOW]}"
                name = f"{target.name}: points of `{other}` below `study`"
                yield name, f"<= {BELOW:g}", *(said if cohort == other else "" for cohort in cohorts)
