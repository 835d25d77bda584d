"""Which code reads: a digest of the sources that a record of the evaluation depends on.

The software's version changes with releases; between two of them a record tells by this whether it is still what the
installed code would say.
"""

import hashlib
from functools import cache
from pathlib import Path

import ovcf_node

_PACKAGES = ("assemble", "domain", "infer")  # from files to findings
_MODULES = (  # that call them and make a record, and what both rest on
    "workflow/reading.py", "evaluate/score.py", "evaluate/mistakes.py", "evaluate/truth.py", "config/node.py",
    "storage/malformed.py",
)


@cache
def digest() -> str:
    """Return the SHA-256 over path and content of those sources, in the order of their paths."""
    return digest_of(Path(ovcf_node.__file__).parent)


def digest_of(package: Path) -> str:
    """Return it for the package in a folder."""
    found = hashlib.sha256()
    sources = [path for name in _PACKAGES for path in (package / name).rglob("*.py")]
    for path in sorted([*sources, *(package / name for name in _MODULES)]):
        content = path.read_bytes()
        found.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()
