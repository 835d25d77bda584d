"""What is wrong with a record of `score`: the one list that pictures, failures and reports go by."""

from collections.abc import Iterator
from typing import Any

from ovcf_node.domain.levels import GRADED
from ovcf_node.evaluate.truth import NORMAL

Record = dict[str, Any]

NEAR_MM = 12.0
"""A level is named right when the centre reported under that name lies within this distance of the true one."""

_REFUSED = ("not_assessed", "excluded")
_SAID = {True: "fracture", False: "no fracture", None: "undetermined"}


def said_of(record: Record, row: dict[str, Any]) -> dict[str, Any]:
    """What was said of a true vertebra: under its name, or at its place where names are not ordinary or not certain."""
    return row["said"] if record["named"] and record["variant"] in NORMAL else row["place"] or {}


def right_name(row: dict[str, Any]) -> bool:
    """Whether a vertebra of a record was found under its own name at its own place."""
    return row["distance_mm"] is not None and row["distance_mm"] <= NEAR_MM


def errors(record: Record) -> list[str]:
    """Say in words what is wrong with a case; empty when nothing is. A refused case has no other errors."""
    return [*contradictions(record), *(_unanswered(record) if record["status"] not in _REFUSED else ())]


def contradictions(record: Record) -> list[str]:
    """The same without whole vertebrae that got no answer: what is otherwise than the truth says."""
    if record["status"] in _REFUSED:
        return [f"{record['status']}: {', '.join(record['reasons'])}"]
    return [*_of_patient(record), *_of_names(record), *_of_vertebrae(record)]


def _of_patient(record: Record) -> Iterator[str]:
    if record["fracture"] is not None and record["said_fracture"] is not record["fracture"]:
        yield f"truth {_SAID[record['fracture']]}, said {_SAID[record['said_fracture']]}"
    elif record["fracture"] and record["denis"] and record["said_denis"] != record["denis"]:
        yield f"truth type {record['denis']}, said {record['said_denis'] or 'withheld'}"


def _of_names(record: Record) -> Iterator[str]:
    """Wrong names of a whole field, numbering that is doubted without a cause or not doubted in spite of one."""
    variant, doubted = record["variant"], record["numbering_uncertain"]
    whole = record["named"] and record["complete"]
    if whole and variant in NORMAL:
        wrong = [v["level"] for v in record["vertebrae"] if not right_name(v)]
        if wrong:
            yield f"names: {', '.join(wrong)}"
    if whole and variant == "none" and doubted:
        yield "numbering called uncertain without a cause"
    if not doubted and (variant not in NORMAL or (whole and variant != "none")):
        yield f"{variant}: numbering not called uncertain"


def _of_vertebrae(record: Record) -> Iterator[str]:
    """False alarms, fractures that were not called, wrong types but for the one that `_of_patient` tells already."""
    rows = list(_graded(record))
    alone = record["fracture"] and sum(bool(v["fracture"]) for v, _ in rows) == 1
    told = alone and record["said_fracture"] and record["said_denis"] != record["denis"]
    for v, here in rows:
        said = here.get("fracture")
        if said and not v["fracture"]:
            yield f"{v['level']} false fracture ({_shape(v)})"
        elif v["fracture"] and not said:
            known = (v["denis"] or "fracture") + (f", loss {v['height_loss']:.0%}" if v["height_loss"] else "")
            yield f"{v['level']} {'missed' if said is False else _no_answer(here)} ({known})"
        elif said and v["denis"] and here["denis"] != v["denis"] and not told:
            yield f"{v['level']} type {v['denis']}, said {here['denis'] or 'withheld'}"


def _unanswered(record: Record) -> Iterator[str]:
    """Whole vertebrae of which nothing was said."""
    for v, here in _graded(record):
        if not v["fracture"] and here.get("fracture") is None:
            yield f"{v['level']} {_no_answer(here)} ({_shape(v)})"


def _graded(record: Record) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each true vertebra T12..L5 with a known truth, and what was said of it."""
    for v in record["vertebrae"]:
        if v["level"] in GRADED and v["fracture"] is not None:
            yield v, said_of(record, v)


def _shape(row: dict[str, Any]) -> str:
    return row["mimic"] or ("old" if row["old_deformity"] else "plain")


def _no_answer(here: dict[str, Any]) -> str:
    return "undetermined" if here else "not graded"
