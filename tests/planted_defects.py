"""Defects whose messages name a patient, planted in every process of a node that is started with `PYTHONPATH` at a folder.

Each happens once: the first process that comes to it takes its file away.
"""

from collections.abc import Iterable
from pathlib import Path

_START_UP = '''
"""Start-up file of every Python process below this folder: wraps functions, each raises once."""
import importlib.abc, importlib.util, pathlib, sys

FOLDER, WORDS, NEEDLES = pathlib.Path({folder!r}), {words!r}, {needles!r}

def raising(function, place):
    def wrapped(*args, **options):
        if NEEDLES[place] in repr((args, options)):
            try:
                (FOLDER / place).unlink()
            except FileNotFoundError:
                return function(*args, **options)
            raise ValueError(f"could not convert string to float: {{WORDS}}")
        return function(*args, **options)
    return wrapped

class Planter(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        places = [place for place in NEEDLES if place.split(":")[0] == name]
        if not places or getattr(self, "busy", None) == name:
            return None
        self.busy = name
        spec = importlib.util.find_spec(name)
        self.busy = None
        execute = spec.loader.exec_module

        def plant(module):
            execute(module)
            for place in places:
                *owners, last = place.split(":")[1].split(".")
                owner = module
                for part in owners:
                    owner = getattr(owner, part)
                setattr(owner, last, raising(getattr(owner, last), place))

        spec.loader.exec_module = plant
        return spec

sys.meta_path.insert(0, Planter())
'''


def plant_defects(folder: Path, words: str, needles: dict[str, str]) -> None:
    """Write the start-up file. `needles`: "module:function" or "module:Class.function" -> what its arguments must show."""
    folder.mkdir()
    for place in needles:
        (folder / place).touch()
    (folder / "sitecustomize.py").write_text(_START_UP.format(folder=str(folder), words=words, needles=needles))


def not_met(folder: Path, needles: Iterable[str]) -> list[str]:
    """Return the planted defects that did not happen."""
    return [place for place in needles if (folder / place).exists()]
