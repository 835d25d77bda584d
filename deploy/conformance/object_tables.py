"""Tables of the conformance statement that are read from objects: those of a made-up reading."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID

from conformance.code_tables import table
from ovcf_node.domain.identity import Dialect
from ovcf_node.report import encode
from result_cases import Case, make_case, make_context, make_findings

_PICTURE = np.zeros((20, 30, 3), np.uint8)
_ELSEWHERE = frozenset({"ContentSequence", "PixelData"})  # the tree has its own table; pixels are pixels
_DEPTH = 2
_TITLES = {"seg_vertebrae": "Segmentation: vertebrae, fracture regions", "summary": "Secondary capture: summary picture",
           "sr": "Structured report"}


def tables() -> dict[str, Callable[[], str]]:
    """Return marker in the text -> what writes the table; every object is encoded once."""
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder), spacing=4.0, TimezoneOffsetFromUTC="+0100")
    findings = make_findings(vertebrae=case.findings.vertebrae[:2])
    objects = {
        item.role: item.dataset
        for item in encode(make_context(), case.headers, findings, case.masks, _PICTURE, Dialect(), case.volume.sources)
    }
    return {
        "CREATED": lambda: _created(objects, case),
        "ATTRIBUTES": lambda: "\n\n".join(
            f"#### {title}\n\n{_attributes(objects[role], case.headers[0])}" for role, title in _TITLES.items()),
        "REPORT_TREE": lambda: _tree(objects["sr"]),
    }


def _created(objects: dict[str, Dataset], case: Case) -> str:
    rows = [[UID(d.SOPClassUID).name, f"`{d.SOPClassUID}`", d.Modality, role.replace("_", " "), d.SeriesDescription]
            for role, d in objects.items()]
    for sr_class in ("88.33", "88.22"):
        report, = encode(make_context(), case.headers, case.findings, None, None, Dialect(sr_class), (), roles={"sr"})
        uid = report.dataset.SOPClassUID
        rows.append([UID(uid).name, f"`{uid}`", report.dataset.Modality, f"sr, `sr_class = \"{sr_class}\"`",
                     report.dataset.SeriesDescription])
    return table(["SOP class", "UID", "modality", "object", "series description"], rows)


def _attributes(dataset: Dataset, source: Dataset) -> str:
    return table(["attribute", "tag", "VR", "value from"], _rows(dataset, source, 0))


def _rows(dataset: Dataset, source: Dataset, depth: int) -> Iterator[list[str]]:
    for element in dataset:
        if element.keyword in _ELSEWHERE:
            continue
        copied = depth == 0 and element.keyword in source and source[element.keyword].value == element.value
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


def _tree(report: Dataset) -> str:
    tree: _Tree = {}
    _merge(report, tree)
    return table(["relationship", "value type", "concept", "template"], _flat(tree, 0))


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
