r"""One key of a query as one SQL condition (PS3.4 C.2.2.2), on SQLite and PostgreSQL.

Values come as DICOM writes them: several with `\` between, ranges with `-`, wildcards `*` and `?`. Whatever a peer sends
ends up as a bound parameter, and what cannot be a value of its VR is refused instead of guessed at.
"""

import re

from sqlalchemy import ColumnElement, and_, false, or_

from ovcf_node.errors import Permanent
from ovcf_node.ledger.catalogue.entry import fold, full_time
from ovcf_node.ledger.catalogue.keys import KEYS, Key, Kind
from ovcf_node.ledger.schema import catalogue

_VALUES_AT_MOST = 5000  # bound parameters are limited, and nobody has that many studies in a worklist
_LENGTH_AT_MOST = 1024
_LIKE_SPECIAL = re.compile(r"([\\%_])")


class BadKey(Permanent):
    """A key holds what its VR does not allow; the text names the keyword, never the value."""

    def __init__(self, keyword: str):
        super().__init__("bad_key", f"{keyword} has no valid value")
        self.keyword = keyword


def condition(keyword: str, value: str, dialect_name: str) -> ColumnElement[bool] | None:
    """Return the condition of one key of `KEYS`; None for universal matching. Raises BadKey.

    dialect_name  "sqlite" or "postgresql": they write wildcards differently
    """
    values = [part.strip(" \x00") for part in value.split("\\")]
    if not any(part.strip("*") for part in values):
        if len(values) > 1 and not any(values):
            raise BadKey(keyword)
        return None
    values = [part for part in values if part]
    if len(values) > _VALUES_AT_MOST or max(map(len, values)) > _LENGTH_AT_MOST or "\x00" in value.strip("\x00"):
        raise BadKey(keyword)
    key = KEYS[keyword]
    if key.kind is Kind.UID:
        return catalogue.c[key.columns[0]].in_(values)
    one = {Kind.TEXT: _text, Kind.NAME: _name, Kind.DATE: _date, Kind.TIME: _time, Kind.INTEGER: _integer}[key.kind]
    try:
        parts = [one(key, _encodable(part), dialect_name) for part in values]
    except ValueError as error:
        raise BadKey(keyword) from error
    return or_(*parts) if len(parts) > 1 else parts[0]


def _encodable(text: str) -> str:
    text.encode()  # UnicodeEncodeError, a ValueError, for what no database can be asked
    return text


def _like(column: ColumnElement[str], value: str, dialect_name: str) -> ColumnElement[bool]:
    if "*" not in value and "?" not in value:
        return column == value
    value = re.sub(r"\*+", "*", value)
    if dialect_name == "sqlite":
        return column.op("GLOB", is_comparison=True)(value.replace("[", "[[]"))
    pattern = _LIKE_SPECIAL.sub(r"\\\1", value).replace("*", "%").replace("?", "_")
    return column.like(pattern, escape="\\")


def _text(key: Key, value: str, dialect_name: str) -> ColumnElement[bool]:
    return _like(catalogue.c[key.columns[0]], value, dialect_name)


def _name(key: Key, value: str, dialect_name: str) -> ColumnElement[bool]:
    columns = [catalogue.c[name] for name in key.columns]
    groups = [fold(group) for group in value.split("=")]
    if len(groups) == 1:
        # A name without group delimiters is looked for where it can be: Latin letters in the alphabetic group only.
        wanted = columns[:1] if groups[0].isascii() else columns
        return or_(*(_like(column, groups[0], dialect_name) for column in wanted))
    asked = [(column, group) for column, group in zip(columns, groups, strict=False) if group.strip("*")]
    return and_(*(_like(column, group, dialect_name) for column, group in asked)) if asked else false()


def _date(key: Key, value: str, _: str) -> ColumnElement[bool]:
    column = catalogue.c[key.columns[0]]
    found = re.fullmatch(r"(\d{8})?\s*(-)?\s*(\d{8})?", value.replace(".", ""))
    if found is None or (found[3] and not found[2]):
        raise ValueError("not a date or a range of dates")
    low, dash, high = found.groups()
    return column == low if not dash else _between(column, low, high)


def _time(key: Key, value: str, _: str) -> ColumnElement[bool]:
    first, dash, last = value.partition("-")
    low = full_time(first) if first.strip() else None
    high = full_time(last if dash else first, last="9") if (last if dash else first).strip() else None
    if (first.strip() and low is None) or ((last if dash else first).strip() and high is None):
        raise ValueError("not a time or a range of times")
    return _between(catalogue.c[key.columns[0]], low, high)


def _between(column: ColumnElement[str], low: str | None, high: str | None) -> ColumnElement[bool]:
    bounds = ([column >= low] if low else []) + ([column <= high] if high else [])
    if not bounds:
        raise ValueError("a range without ends")
    return and_(*bounds)


def _integer(key: Key, value: str, _: str) -> ColumnElement[bool]:
    if not re.fullmatch(r"[+-]?\d{1,12}", value):
        raise ValueError("not an integer")
    number = int(value)
    return catalogue.c[key.columns[0]] == number if abs(number) < 2**31 else false()
