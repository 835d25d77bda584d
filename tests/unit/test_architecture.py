"""The house rules that a reader relies on: imports run one way, one door per outside library, files for one sitting."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "service" / "ovcf_node"
ORDER = [
    "errors", "config", "observe", "domain", "storage", "ledger", "engine", "network", "receive", "assemble", "infer",
    "report", "deliver", "query", "operate", "workflow", "evaluate", "app", "supervisor", "demo", "commission",
    "cli", "__main__",
]
STAGES = {"receive", "assemble", "infer", "report", "deliver", "query", "operate"}
# `config`, `domain` and `observe` are the bottom; settings are plain values and may be read anywhere above.
DOORS = {
    "pynetdicom": {"network"}, "dbos": {"engine"}, "sqlalchemy": {"ledger"}, "alembic": {"ledger"},
    "onnxruntime": {"infer"}, "highdicom": {"report"}, "typer": {"cli"}, "jinja2": {"operate"},
    "httpx": {"deliver"}, "uvicorn": {"app"}, "prometheus_client": {"operate"},
}
FILES = sorted(p for p in PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_modules(path: Path) -> set[str]:
    names = (name.split(".") for name in imports(path) if name.startswith("ovcf_node."))
    return {parts[1] for parts in names if parts[1] in ORDER}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    if path == PACKAGE / "__init__.py":
        return
    here = module_of(path)
    assert here in ORDER, f"{here} has no place in the reading order"
    later = {m for m in own_modules(path) if ORDER.index(m) > ORDER.index(here)}
    assert not later, f"{here} imports what comes after it: {later}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_stages_do_not_know_each_other(path):
    here = module_of(path)
    if here in STAGES:
        assert not (own_modules(path) & STAGES) - {here}


@pytest.mark.parametrize("library", DOORS)
def test_one_door_per_library(library):
    used = {module_of(p) for p in FILES if any(re.match(rf"{library}(\.|$)", name) for name in imports(p))}
    assert used == DOORS[library]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 350


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_reading_order_is_the_documented_one():
    text = (PACKAGE / "__init__.py").read_text()
    documented = re.findall(r"^\d+\. +`(\w+)`", text, re.MULTILINE)
    assert documented == [name for name in ORDER if name in documented]
    assert set(documented) >= STAGES
