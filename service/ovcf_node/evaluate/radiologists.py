"""Score what the node said in shadow mode against what radiologists found: a table in, the study's tables out.

The table (CSV with a header line; comma or semicolon) has one row per vertebra that somebody looked at:

    accession_number or study_instance_uid   which study
    level      T12 ... L5; empty: the row is about the whole study
    fracture   yes | no | empty for "not known"
    type       A | B | C | D | burst; empty where it is not known or there is no fracture

A level T12..L5 that a study does not list counts as not fractured. The first fractured row of a study is its main one: its
type is the patient's. Rows of other levels (T11, S1) are read and left out, because the node does not grade them.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovcf_node.domain.findings import Findings
from ovcf_node.domain.levels import GRADED
from ovcf_node.errors import Permanent
from ovcf_node.evaluate import figures, markdown
from ovcf_node.evaluate.mistakes import contradictions
from ovcf_node.evaluate.score import patient_type, said_about
from ovcf_node.evaluate.truth import TYPES

_YES, _NO = ("yes", "y", "true", "1", "ja"), ("no", "n", "false", "0", "nein")
_LEVEL = re.compile(r"[CTLS][0-9]{1,2}")


@dataclass(frozen=True)
class Said:
    """What a radiologist said of one vertebra; `level` is empty where it was said of the whole study."""

    level: str
    fracture: bool | None
    denis: str | None


@dataclass(frozen=True)
class ReadStudy:
    """One study of the table. `line` is that of its first row: reports name studies by it, never by their numbers."""

    line: int
    study_instance_uid: str = field(repr=False)
    accession_number: str = field(repr=False)
    said: tuple[Said, ...]

    @property
    def fracture(self) -> bool | None:
        """Whether anything T12..L5 is fractured; None where that is not known."""
        known = [s.fracture for s in self.said if s.level in ("", *GRADED)]
        return True if True in known else None if None in known else False

    @property
    def denis(self) -> str | None:
        broken = [s for s in self.said if s.fracture and s.level in ("", *GRADED)]
        return broken[0].denis if broken else None

    def of(self, level: str) -> bool | None:
        """Return whether one level is fractured; unlisted levels are not, unless a fracture was named without a level."""
        listed = [s.fracture for s in self.said if s.level == level]
        if listed:
            return listed[0]
        return None if any(s.level == "" and s.fracture is not False for s in self.said) else False

    def type_of(self, level: str) -> str | None:
        return next((s.denis for s in self.said if s.level == level and s.fracture), None)


def read_table(path: Path) -> list[ReadStudy]:
    """Return the studies of a table in its order. Raises Permanent `truth_unreadable` naming every line that is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent("truth_unreadable", f"cannot be read as UTF-8 text: {type(error).__name__}") from error
    head = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if head.count(";") > head.count(",") else ",")
    columns = {name.strip().lower() for name in reader.fieldnames or ()}
    if not {"level", "fracture"} <= columns or not {"accession_number", "study_instance_uid"} & columns:
        raise Permanent("truth_unreadable", "columns needed: accession_number or study_instance_uid, level, fracture, type")
    found: dict[tuple[str, str], list[tuple[int, Said]]] = {}
    wrong: list[str] = []
    for row in reader:
        values = {(k or "").strip().lower(): (v or "").strip() for k, v in row.items() if not isinstance(v, list)}
        if not any(values.values()):
            continue
        try:
            study = values.get("study_instance_uid", ""), values.get("accession_number", "")
            if not any(study):
                raise ValueError("no study")
            found.setdefault(study, []).append((reader.line_num, _said(values)))
        except ValueError as error:
            wrong.append(f"line {reader.line_num}: {error}")
    found = _joined(found)
    for rows in found.values():
        known: dict[str, Said] = {}
        for line, said in rows:
            if known.setdefault(said.level, said) != said:
                wrong.append(f"line {line}: {said.level or 'the patient'} is answered otherwise in an earlier line")
    if wrong:
        raise Permanent("truth_unreadable", "\n".join(wrong))
    return [ReadStudy(rows[0][0], *study, tuple(said for _, said in rows)) for study, rows in found.items()]


def _joined(found: dict[tuple[str, str], list[tuple[int, Said]]]) -> dict[tuple[str, str], list[tuple[int, Said]]]:
    """One entry a study, though some lines name it by its UID, some by its accession number and some by both.

    A name that two studies share stays as it is.
    """
    both = [study for study in found if all(study)]
    names = Counter(name for study in both for name in study)
    full = {name: study for study in both for name in study if names[name] == 1}
    out: dict[tuple[str, str], list[tuple[int, Said]]] = {}
    for study, rows in found.items():
        out.setdefault(full.get(study[0] or study[1], study), []).extend(rows)
    return {study: sorted(rows, key=lambda row: row[0]) for study, rows in out.items()}


def _said(values: Mapping[str, str]) -> Said:
    level, fracture, denis = (values.get(name, "").lower() for name in ("level", "fracture", "type"))
    level = level.upper()
    if level and not _LEVEL.fullmatch(level):
        raise ValueError("level is none of T12, L1 ... L5")
    if fracture not in (*_YES, *_NO, "", "unknown"):
        raise ValueError("fracture is none of yes, no, unknown")
    denis = denis if denis == "burst" else denis.upper()
    if denis not in ("", "burst", *TYPES):
        raise ValueError("type is none of A, B, C, D, burst")
    return Said(level, True if fracture in _YES else False if fracture in _NO else None, denis or None)


def record(study: ReadStudy, findings: Findings) -> dict[str, Any]:
    """Put what was said in shadow mode beside what the radiologist found, as `figures` counts it."""
    said = {v.level: v for v in findings.vertebrae}
    return {
        "case": f"line {study.line}", "cohort": "shadow", "variant": "none", "named": True, "complete": False, "facts": {},
        "status": findings.status, "reasons": [r.code for r in findings.reasons],
        "fracture": study.fracture, "said_fracture": findings.patient.ovcf, "denis": study.denis,
        "said_denis": patient_type(findings), "numbering_uncertain": findings.numbering_uncertain,
        "vertebrae": [
            {"level": level, "fracture": study.of(level), "denis": study.type_of(level), "mimic": None, "height_loss": None,
             "old_deformity": None, "said": said_about(said.get(level))}
            for level in GRADED
        ],
    }


def page(records: Sequence[dict[str, Any]], left_out: Mapping[str, Sequence[int]], readers: Sequence[str]) -> str:
    """Return the comparison as Markdown.

    left_out  why studies of the table are not compared -> their lines
    readers   which software and models read them
    """
    known = [r for r in records if r["fracture"] is not None]
    found = {
        "detection": figures.detection(known, count_refused=True), "types": figures.types(known), "reader": None,
    }
    decided, vertebrae = figures.detection(known, count_refused=False), figures.vertebrae(known)
    lines = [
        "# Shadow mode: the node beside the radiologists", "",
        f"{len(known)} patients compared, read by {', '.join(readers) or 'nobody'}. Research software: not a medical "
        "device. Shares show counts and Wilson's 95 % interval; intervals marked *p* come from resampling patients. A "
        "patient who was refused or left undetermined counts as an error, unless a row says *decided only*. What the "
        "radiologists found is taken as true; nothing here says how often they would agree with each other or with MRI.", "",
        *markdown.study_tables(found, "patients here"), "",
        "**Besides**", "", *markdown.table(("", "this node"), (
            ("sensitivity, decided only", markdown.share(decided["sensitivity"])),
            ("specificity, decided only", markdown.share(decided["specificity"])),
            ("vertebrae: sensitivity", markdown.share(vertebrae["sensitivity"], True)),
            ("vertebrae: specificity", markdown.share(vertebrae["specificity"], True)),
            ("type right, of detected vertebrae", markdown.share(vertebrae["type_of_detected"])),
        )), "",
    ]
    for why, numbers in left_out.items():
        lines += [f"Not compared, {why}: line{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}.", ""]
    wrong = [(r["case"], "; ".join(e)) for r in known if (e := contradictions(r))]
    lines += ["Where the two differ, by line of the table:", "", *markdown.table(("line", "what"), wrong)] if wrong else [
        "The two differ nowhere."]
    return "\n".join(lines) + "\n"
