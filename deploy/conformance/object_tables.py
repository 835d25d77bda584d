"""Tables of the conformance statement that are read from objects: those of a made-up reading."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID

from conformance.code_tables import table
from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.domain.identity import Dialect
from ovcf_node.domain.withdrawal import Title
from ovcf_node.report import Rejection, SecondReport, encode, encode_rejection_note
from result_cases import Case, make_case, make_context, make_findings

_PICTURE = np.zeros((20, 30, 3), np.uint8)
_ELSEWHERE = frozenset({"ContentSequence", "PixelData"})  # the tree has its own table; pixels are pixels
_DEPTH = 2
_TITLES = {"seg_vertebrae": "Segmentation: vertebrae, fracture regions", "summary": "Secondary capture: summary picture",
           "sr": "Structured report", "note": "Key Object Selection: rejection note"}
_SAID = SecondReading("anna", "Bergmann^Anna", 1_710_000_000.0, (
    Assessment("T12", Verdict.REJECTED), Assessment("L1", Verdict.CORRECTED, "L2"),
))
_BEFORE = ("1.2.3", "2.25.5", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.6")


def tables() -> dict[str, Callable[[], str]]:
    """Return marker in the text -> what writes the table; every object is encoded once."""
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder), spacing=4.0, TimezoneOffsetFromUTC="+0100")
    findings = make_findings(vertebrae=case.findings.vertebrae[:2])
    objects = {
        item.role: item.dataset
        for item in encode(make_context(), case.headers, findings, case.masks, _PICTURE, Dialect(), case.volume.sources)
    }
    context = make_context(second=SecondReport(_SAID, 2, {}), predecessors=(_BEFORE,))
    second, = encode(context, case.headers, findings, case.masks, None, Dialect(), case.volume.sources, roles={"sr"})
    why = Rejection(Title.QUALITY, context.analysis_started_at, "superseded by a later reading", "site-1", "ovcf-node")
    note = encode_rejection_note(list(objects.values()), why)
    reports = second.dataset, objects["sr"]
    described = objects | {"note": note}
    return {
        "CREATED": lambda: _created(objects, note, case),
        "ATTRIBUTES": lambda: "\n\n".join(
            f"#### {title}\n\n{_attributes(described[role], case.headers[0])}" for role, title in _TITLES.items()),
        "SECOND_ATTRIBUTES": lambda: _table(_added(*(list(_rows(d, case.headers[0], 0)) for d in reports))),
        "REPORT_TREE": lambda: _tree(_flat_tree(objects["sr"])),
        "SECOND_TREE": lambda: _tree(_added(*(_flat_tree(d) for d in reports))),
        "NOTE_TREE": lambda: _tree(_flat_tree(note)),
    }


def _created(objects: dict[str, Dataset], note: Dataset, case: Case) -> str:
    rows = [[UID(d.SOPClassUID).name, f"`{d.SOPClassUID}`", d.Modality, role.replace("_", " "), d.SeriesDescription]
            for role, d in objects.items()]
    for sr_class in ("88.33", "88.22"):
        report, = encode(make_context(), case.headers, case.findings, None, None, Dialect(sr_class), (), roles={"sr"})
        uid = report.dataset.SOPClassUID
        rows.append([UID(uid).name, f"`{uid}`", report.dataset.Modality, f"sr, `sr_class = \"{sr_class}\"`",
                     report.dataset.SeriesDescription])
    uid = note.SOPClassUID
    rows.append([UID(uid).name, f"`{uid}`", note.Modality, "rejection note", note.SeriesDescription])
    return table(["SOP class", "UID", "modality", "object", "series description"], rows)


def _attributes(dataset: Dataset, source: Dataset) -> str:
    return _table(_rows(dataset, source, 0))


def _table(rows: Iterable[list[str]]) -> str:
    return table(["attribute", "tag", "VR", "value from"], rows)


def _added(rows: Sequence[list[str]], known: Sequence[list[str]]) -> list[list[str]]:
    """Return the rows that are not among the known ones, below those that they belong to."""
    shown = {path[:length] for path in set(_paths(rows)) - set(_paths(known)) for length in range(1, len(path) + 1)}
    return [row for row, path in zip(rows, _paths(rows), strict=True) if path in shown]


def _paths(rows: Sequence[list[str]]) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Yield each row with those above it: the number of ">" at its begin is its depth."""
    above: list[tuple[str, ...]] = []
    for row in rows:
        depth = len(row[0]) - len(row[0].lstrip(">"))
        above = [*above[:depth], tuple(row)]
        yield tuple(above)


_OWN = {"InstanceNumber", "PixelRepresentation"}  # ours, even where the made-up CT happens to have the same value


def _rows(dataset: Dataset, source: Dataset, depth: int) -> Iterator[list[str]]:
    for element in dataset:
        if element.keyword in _ELSEWHERE:
            continue
        copied = depth == 0 and element.keyword not in _OWN and source.get(element.keyword) == element.value
        origin = "" if depth else "empty" if element.is_empty else "source images" if copied else "node"
        yield [">" * depth + element.keyword, str(element.tag), element.VR, origin]
        if element.VR == "SQ" and depth < _DEPTH:
            yield from _rows(_union(element.value), source, depth + 1)


def _union(items: list[Dataset]) -> Dataset:
    together = Dataset()
    for item in items:
        for element in item:
            if element.tag not in together:
                together.add(element)
    return together


def _tree(rows: Iterable[list[str]]) -> str:
    return table(["relationship", "value type", "concept", "template"], rows)


def _flat_tree(report: Dataset) -> list[list[str]]:
    tree: _Tree = {}
    _merge(report, tree)
    return list(_flat(tree, 0))


_Tree = dict[tuple[str, ...], "_Tree"]


def _merge(item: Dataset, siblings: _Tree) -> None:
    """Add an item and what it contains; siblings with one concept become one, with the children of all."""
    name = item.ConceptNameCodeSequence[0] if item.get("ConceptNameCodeSequence") else None
    concept = f'({name.CodeValue}, {name.CodingSchemeDesignator}, "{name.CodeMeaning}")' if name else ""
    template = item.get("ContentTemplateSequence")
    row = (item.get("RelationshipType", ""), item.ValueType, concept,
           f"TID {template[0].TemplateIdentifier}" if template else "")
    children = siblings.setdefault(row, {})
    for child in item.get("ContentSequence", []):
        _merge(child, children)


def _flat(tree: _Tree, depth: int) -> Iterator[list[str]]:
    for (relationship, *rest), children in tree.items():
        yield [">" * depth + relationship, *rest]
        yield from _flat(children, depth + 1)
