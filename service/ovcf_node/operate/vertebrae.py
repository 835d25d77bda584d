"""One vertebra of a reading as a row for people: every cell in words, with what is unknown left empty, never zero."""

from dataclasses import dataclass

from ovcf_node.domain.assessments import Assessment, Verdict
from ovcf_node.domain.denis import TYPES
from ovcf_node.domain.findings import VertebraFinding
from ovcf_node.domain.levels import GRADED

_AGES = {"recent_features": "features of a recent fracture", "old": "no features of a recent fracture",
         "indeterminate": "age indeterminate"}


@dataclass(frozen=True)
class VertebraRow:
    """Cells in the order of the table's columns; `answer` is fracture | clear | open, for its look."""

    level: str
    answer: str
    finding: str
    denis: str
    heights: str
    expected: str
    loss: str
    grade: str
    hu: str
    probability: str
    notes: tuple[str, ...]
    assessable: bool
    said: Assessment | None

    @property
    def said_in_words(self) -> str:
        if self.said is None:
            return ""
        if self.said.verdict is Verdict.CORRECTED:
            return f"right finding, level {self.said.corrected_level}"
        return self.said.verdict.value

    @property
    def said_value(self) -> str:
        """What the form's choice holds."""
        if self.said is None:
            return ""
        return ":".join(part for part in (self.said.verdict.value, self.said.corrected_level) if part)


def vertebra_row(vertebra: VertebraFinding, said: Assessment | None, assessable: bool) -> VertebraRow:
    """Return the row of a vertebra and of what a reader said about it."""
    answer = {True: "fracture", False: "clear", None: "open"}[vertebra.fracture]
    open_ = "undetermined" if vertebra.level in GRADED else "labelled, not graded"
    heights, expected = vertebra.heights_mm, vertebra.expected_mm
    return VertebraRow(
        level=vertebra.level, answer=answer,
        finding={"fracture": "fracture suspected", "clear": "no fracture suspected", "open": open_}[answer],
        denis=_denis(vertebra), heights=_three(heights.anterior, heights.middle, heights.posterior),
        expected=_three(expected.anterior, expected.middle, expected.posterior),
        loss="" if vertebra.height_loss is None else f"{100 * vertebra.height_loss:.0f} %", grade=_grade(vertebra),
        hu="" if vertebra.mean_hu is None else f"{vertebra.mean_hu:.0f}",
        probability="" if vertebra.probability is None else f"{100 * vertebra.probability:.0f} %",
        notes=tuple(_notes(vertebra)), assessable=assessable, said=said,
    )


def _denis(vertebra: VertebraFinding) -> str:
    if vertebra.denis:
        return f"{vertebra.denis}: {TYPES[vertebra.denis]}"
    return "not given" if vertebra.fracture else ""


def _three(*values: float | None) -> str:
    return "" if all(v is None for v in values) else " / ".join("?" if v is None else f"{v:.1f}" for v in values)


def _grade(vertebra: VertebraFinding) -> str:
    grade = vertebra.genant
    return "" if grade is None else f"Genant {grade.grade}{', near a boundary' if grade.near_boundary else ''}"


def _notes(vertebra: VertebraFinding) -> list[str]:
    notes = []
    if vertebra.abstain:
        notes.append(f"{'Type' if vertebra.fracture else 'Answer'} withheld: {vertebra.abstain.text}")
    notes += [note.text for note in vertebra.notes]
    classes = [f"AOSpine {vertebra.ao}"] if vertebra.ao else []
    classes += [vertebra.of] if vertebra.of else []
    if classes:
        notes.append(", ".join(classes))
    if vertebra.age:
        notes.append(_AGES[vertebra.age])
    if vertebra.old_deformity:
        notes.append("old (healed) deformity")
    if vertebra.fracture and vertebra.expected_from:
        notes.append(f"expected heights from {vertebra.expected_from}")
    return [f"{note[:1].upper()}{note[1:]}" for note in notes]
