"""What the SR and the picture say in words. One place, so that they never say different things.

"Suspected" throughout: research software gives no diagnosis, and CT alone proves neither osteoporosis nor age.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ovcf_node.domain.assessments import SecondReading, Verdict
from ovcf_node.domain.findings import Findings, VertebraFinding
from ovcf_node.domain.levels import GRADED
from ovcf_node.domain.volume import Acquisition
from ovcf_node.report import codes

WATERMARK = "RESEARCH USE - NOT FOR DIAGNOSIS"
DISCLAIMER = (
    "Research software. Not a medical device. Not for diagnosis. Results are unverified; "
    "the original images must be read in full by a qualified radiologist."
)
SUPINE = "Supine CT under-estimates height loss."
NUMBERING = (
    "Vertebral numbering assumes the usual anatomy: it cannot be verified by counting in this field of view "
    "(transitional vertebrae, supernumerary or absent ribs)."
)
AGE = "Fracture age cannot be established by CT; consider MRI if management depends on it."
OTHER_CAUSES = "Tumour, infection and other causes of fracture are not assessed."
DENIS = "Letters A to D are Denis compression types, not burst fracture types."


class Limit(NamedTuple):
    """A limitation in words; `urgent` where it holds for this series and not for every one."""

    text: str
    urgent: bool


def fractured(findings: Findings) -> list[VertebraFinding]:
    return [v for v in findings.vertebrae if v.fracture]


def ungraded(findings: Findings) -> dict[str, str]:
    """Return every level T12 to L5 without an answer -> why, in a few words."""
    found = {v.level: v for v in findings.vertebrae}
    return {level: _why(found.get(level)) for level in GRADED if level not in found or found[level].fracture is None}


def _why(vertebra: VertebraFinding | None) -> str:
    if vertebra is None:
        return "not found or not in the field"
    if vertebra.complete is None:
        return "not measurable"
    return "undetermined" if vertebra.complete else "not completely in the field"


def headline(findings: Findings) -> str:
    """Return the result in one sentence and, where levels have no answer, a second that names them."""
    if findings.status == "not_assessed":
        return f"NOT ASSESSED: {reasons(findings)}. This does not mean that there is no fracture."
    unread = _unread(findings)
    broken = fractured(findings)
    if broken:
        return f"Suspected vertebral fracture: {'; '.join(describe(v) for v in broken)}.{treated(findings)}{unread}"
    clear = [v.level for v in findings.vertebrae if v.level in GRADED and v.fracture is False]
    if not clear:
        why = reasons(findings) if findings.reasons else "no level could be decided"
        return f"FRACTURES NOT GRADED: {why}. This does not mean that there is no fracture."
    return f"No vertebral fracture suspected in {spans(clear)}.{treated(findings)}{unread}"


def treated(findings: Findings) -> str:
    """Name the levels answered "no fracture" despite cement: what was treated there is not denied."""
    levels = [v.level for v in findings.vertebrae if v.fracture is False and any(n.code == "cement" for n in v.notes)]
    return f" CEMENT in {spans(levels)}: a fracture under it, or an older one, is not ruled out." if levels else ""


def _unread(findings: Findings) -> str:
    by_why: dict[str, list[str]] = {}
    for level, why in ungraded(findings).items():
        by_why.setdefault(why, []).append(level)
    told = "; ".join(f"{spans(levels)} ({why})" for why, levels in by_why.items())
    return f" NOT GRADED: {told}." if told else ""


def assessed(second: SecondReading) -> str:
    """Return what a reader said of the findings in one sentence, without the reader's name."""
    what = {Verdict.ACCEPTED: "accepted", Verdict.REJECTED: "REJECTED"}
    told = [f"{a.level} {what.get(a.verdict, f'corrected to {a.corrected_level}')}" for a in second.assessments]
    return f"SECOND READING by a person: {', '.join(told)}."


def spans(levels: Sequence[str]) -> str:
    """Return levels in short: T12, L1, L2, L4 -> "T12-L2, L4"."""
    runs: list[list[str]] = []
    for level in sorted(levels, key=GRADED.index):
        if runs and GRADED.index(runs[-1][-1]) + 1 == GRADED.index(level):
            runs[-1].append(level)
        else:
            runs.append([level])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def describe(vertebra: VertebraFinding) -> str:
    """Return one fracture in a few words: "L1 (Denis compression type B: superior endplate, height loss 32%)"."""
    facts = []
    if vertebra.denis:
        facts.append(codes.DENIS_TYPES[vertebra.denis].meaning)
    elif vertebra.abstain and vertebra.abstain.code == "posterior_wall":
        facts.append("not a compression type, review")
    else:
        facts.append(f"type undetermined: {vertebra.abstain.text}" if vertebra.abstain else "type undetermined")
    if vertebra.height_loss is not None:
        facts.append(f"height loss {100 * vertebra.height_loss:.0f}%")
    return f"{vertebra.level} ({', '.join(facts)})"


def abstained(vertebra: VertebraFinding) -> str | None:
    """Return what a vertebra's reading leaves open and why; None where it leaves nothing open."""
    if vertebra.abstain is None:
        return None
    what = "type of the fracture not given" if vertebra.fracture else "undetermined"
    return f"{vertebra.level} {what}: {vertebra.abstain.text}."


def details(vertebra: VertebraFinding) -> list[str]:
    """Return what speaks for a fracture and how it is classified, each as one line."""
    signs = (
        ("superior endplate", vertebra.evidence.superior), ("inferior endplate", vertebra.evidence.inferior),
        ("anterior cortex", vertebra.evidence.anterior), ("posterior wall", vertebra.evidence.posterior),
    )
    known = [f"{name} {100 * value:.0f}%" for name, value in signs if value is not None]
    classes = [f"AOSpine {vertebra.ao}"] if vertebra.ao else []
    classes += [vertebra.of] if vertebra.of else []
    if vertebra.genant:
        near = ", near a boundary" if vertebra.genant.near_boundary else ""
        classes.append(f"Genant grade {vertebra.genant.grade}{near}")
    if vertebra.age:
        classes.append(codes.AGES[vertebra.age].meaning)
    lines = [f"{vertebra.level} evidence of a break: {', '.join(known)}"] if known else []
    lines += [f"{vertebra.level}: {'; '.join(classes)}"] if classes else []
    lines += [f"{vertebra.level}: expected heights from {vertebra.expected_from}"] if vertebra.expected_from else []
    return lines


def reasons(findings: Findings) -> str:
    return "; ".join(reason.text for reason in findings.reasons) or "reason not recorded"


def numbering(findings: Findings) -> str:
    """Return the numbering caveat with what the numbering rests on, louder where the reading itself is uncertain."""
    basis = f" Basis: {findings.numbering_basis}." if findings.numbering_basis else ""
    return f"{'VERTEBRAL NUMBERING UNCERTAIN. ' if findings.numbering_uncertain else ''}{NUMBERING}{basis}"


def comparability(acquisition: Acquisition) -> Limit | None:
    """Return why HU cannot be held against the usual thresholds; None at 120 kVp without contrast.

    Published osteoporosis thresholds are for non-contrast CT at 120 kVp; both facts shift trabecular HU.
    """
    kvp, contrast = acquisition.kvp, acquisition.contrast
    if kvp == 120 and contrast is False:
        return None
    voltage = "tube voltage not stated" if kvp is None else f"{kvp:g} kVp"
    given = {True: "contrast stated", False: "no contrast", None: "contrast not stated"}[contrast]
    certain = contrast is True or kvp not in (None, 120)
    verdict = "not comparable" if certain else "may not be comparable"
    return Limit(f"HU: {voltage}, {given}: {verdict} with non-contrast 120 kVp thresholds.", certain)


def limits(findings: Findings, acquisition: Acquisition) -> list[Limit]:
    """Return every limitation of a reading, the ones of this series first."""
    own = [_sentence(reason.text) for reason in findings.reasons]
    own += [f"{v.level}: {note.text}." for v in findings.vertebrae for note in v.notes]
    if findings.status == "not_assessed":
        return [Limit(text, True) for text in own]
    measured = any(v.mean_hu is not None for v in findings.vertebrae)
    of_hu = comparability(acquisition) if measured else None
    always = [OTHER_CAUSES]
    if any(v.height_loss is not None for v in findings.vertebrae):
        always.append(SUPINE)
    if fractured(findings):
        always += [DENIS, AGE]
    numbered = Limit(numbering(findings), bool(findings.numbering_uncertain))
    general = [Limit(text, False) for text in always]
    return [*(Limit(text, True) for text in own), *([of_hu] if of_hu else []), numbered, *general]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
