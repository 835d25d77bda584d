"""Read an SR's content tree back: items by the meaning of their names, values as people see them."""

from pydicom.dataset import Dataset


def name(item: Dataset) -> str:
    return item.ConceptNameCodeSequence[0].CodeMeaning


def children(item: Dataset, wanted: str) -> list[Dataset]:
    return [child for child in item.get("ContentSequence", []) if name(child) == wanted]


def value(item: Dataset) -> object:
    if item.ValueType == "CODE":
        return item.ConceptCodeSequence[0].CodeMeaning
    if item.ValueType == "NUM":
        return float(item.MeasuredValueSequence[0].NumericValue)
    return item.get("TextValue") or item.get("UID")


def groups(dataset: Dataset) -> dict[str, Dataset]:
    [container] = children(dataset, "Imaging Measurements")
    return {str(value(children(group, "Tracking Identifier")[0])): group for group in container.ContentSequence}


def evaluations(dataset: Dataset) -> Dataset:
    [container] = children(dataset, "Qualitative Evaluations")
    return container


def said(item: Dataset, wanted: str) -> list[object]:
    return [value(child) for child in children(item, wanted)]
