"""Write deploy/CONFORMANCE.md from its text and the tables of the code, or compare with `--check`.

The text is `statement.in.md` beside this file; a line `@NAME@` in it gives way to the table of that name. What can be read
from the code is: SOP classes, transfer syntaxes, query keys, routes, defaults, codes, and, from the objects of a made-up
reading that the encoders write, their attributes and the tree of the report.
"""

import sys
from pathlib import Path

from conformance import code_tables, object_tables

FOLDER = Path(__file__).resolve().parent
STATEMENT = FOLDER.parent / "CONFORMANCE.md"


def statement() -> str:
    """Return the whole statement. Raises KeyError for a marker without a table, ValueError for a table without a marker."""
    tables = code_tables.TABLES | object_tables.tables()
    used, lines = set(), []
    for line in (FOLDER / "statement.in.md").read_text().splitlines():
        if line.startswith("@") and line.endswith("@"):
            used.add(line.strip("@"))
            lines.append(tables[line.strip("@")]())
        else:
            lines.append(line)
    if unused := tables.keys() - used:
        raise ValueError(f"no place in statement.in.md for {sorted(unused)}")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the file; with `--check` compare instead and return 1 where it is stale."""
    text = statement()
    if arguments != ["--check"]:
        STATEMENT.write_text(text)
        return 0
    if STATEMENT.exists() and STATEMENT.read_text() == text:
        return 0
    print("deploy/CONFORMANCE.md is stale: run make conformance")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
