"""What the SR and the picture say in words. One place, so that they never say different things.

"Suspected" throughout: research software gives no diagnosis, and CT alone proves neither osteoporosis nor age.
"""

from typing import NamedTuple

from ovcf_node.domain.findings import Findings, VertebraFinding
from ovcf_node.domain.levels import GRADED
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
DENIS = "Letters A to D are Denis compression types, not burst fracture types."


class Limit(NamedTuple):
    """A limitation in words; `urgent` where it holds for this series and not for every one."""

    text: str
    urgent: bool


def fractured(findings: Findings) -> list[VertebraFinding]:
    return [v for v in findings.vertebrae if v.fracture]


def headline(findings: Findings) -> str:
    """Return the result in one sentence."""
    broken = fractured(findings)
    if findings.status == "not_assessed":
        return f"NOT ASSESSED: {reasons(findings)}. This does not mean that there is no fracture."
    if broken:
        undecided = [v.level for v in findings.vertebrae if v.level in GRADED and v.fracture is None]
        rest = f" Undetermined: {', '.join(undecided)}." if undecided else ""
        return f"Suspected vertebral fracture: {'; '.join(describe(v) for v in broken)}.{rest}"
    if findings.patient.ovcf is None:
        why = reasons(findings) if findings.reasons else "no level could be decided"
        return f"FRACTURES NOT GRADED: {why}. This does not mean that there is no fracture."
    read = {v.level: v.fracture for v in findings.vertebrae if v.level in GRADED}
    clear = [level for level, fracture in read.items() if fracture is False]
    undecided = [level for level, fracture in read.items() if fracture is None]
    unseen = [level for level in GRADED if level not in read]
    text = f"No vertebral fracture suspected in {', '.join(clear) or 'the levels read'}."
    text += f" Undetermined: {', '.join(undecided)}." if undecided else ""
    return text + (f" Not in the field: {', '.join(unseen)}." if unseen else "")


def describe(vertebra: VertebraFinding) -> str:
    """Return one fracture in a few words: "L1 (Denis compression type B: superior endplate, height loss 32%)"."""
    facts = []
    if vertebra.denis:
        facts.append(codes.DENIS_TYPES[vertebra.denis].meaning)
    elif vertebra.abstain and vertebra.abstain.code != "posterior_wall":
        facts.append("type undetermined")
    else:
        facts.append("not a compression type, review")
    if vertebra.height_loss is not None:
        facts.append(f"height loss {100 * vertebra.height_loss:.0f}%")
    return f"{vertebra.level} ({', '.join(facts)})"


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
    """Return the numbering caveat, louder where the reading itself is uncertain."""
    if not findings.numbering_uncertain:
        return NUMBERING
    basis = f" ({findings.numbering_basis})" if findings.numbering_basis else ""
    return f"VERTEBRAL NUMBERING UNCERTAIN{basis}. {NUMBERING}"


def limits(findings: Findings) -> list[Limit]:
    """Return every limitation of a reading, the ones of this series first."""
    own = [_sentence(reason.text) for reason in findings.reasons]
    own += [f"{v.level}: {note.text}." for v in findings.vertebrae for note in v.notes]
    if findings.status == "not_assessed":
        return [Limit(text, True) for text in own]
    always = []
    if any(v.height_loss is not None for v in findings.vertebrae):
        always.append(SUPINE)
    if fractured(findings):
        always += [DENIS, AGE]
    numbered = Limit(numbering(findings), bool(findings.numbering_uncertain))
    return [*(Limit(text, True) for text in own), numbered, *(Limit(text, False) for text in always)]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
