"""Writes the self-tests of a bundle anew, its own or anyone's: ``python models/training/retest.py FOLDER``.

For bundles whose numbers an older node promised. The tolerances become ours (``bundle.TOLERANCE``), nothing outside the
self-tests changes, and the bundle's digest does.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

import bundle
from ovcf_node.infer import self_test
from ovcf_node.infer.stages import label_stage, restore_stage, vertebra_stage


def given(stages: dict, name: str) -> dict:
    """The tensors of one stage's self-test, prepared as the manifest says."""
    if name in ("label", "segment"):
        return self_test.field_tensors(label_stage(stages[name]))
    vertebra = vertebra_stage(stages["vertebra"])
    return self_test.crop_tensors(vertebra, restore_stage(stages[name], vertebra) if name == "restore" else None)


def without_tests(text: str) -> dict:
    """A manifest less its self-tests."""
    manifest = tomllib.loads(text)
    for stage in manifest["stages"].values():
        stage.pop("self_test", None)
    return manifest


def retest(folder: Path) -> None:
    """Replace the self-tests of every stage in ``folder/bundle.toml``; nothing is written where more would change."""
    manifest, stages = folder / "bundle.toml", bundle.read(folder)["stages"]
    before = manifest.read_text().rstrip("\n") + "\n"
    text = before
    for name in (name for name, stage in stages.items() if "file" in stage):
        tables = bundle.promised(f"stages.{name}", bundle.session(folder / stages[name]["file"]), given(stages, name))
        header = rf"\[stages\.{name}\.self_test(?:\.\w+)?\][ \t]*(?:#.*)?\n"
        old = rf"(?:^{header}(?:[^\[\n].*\n|\n(?={header}))*)+"
        text, count = re.subn(old, lambda _: tables.rstrip("\n") + "\n", text, flags=re.MULTILINE)  # noqa: B023
        if count != 1:
            raise SystemExit(f"{manifest}: {count} places with a self-test of stage {name}, must be 1")
    if without_tests(text) != without_tests(before):
        raise SystemExit(f"{manifest}: more than the self-tests would change; nothing was written")
    manifest.write_text(text)
    bundle.read(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="bundle folder")
    retest(parser.parse_args().folder)


if __name__ == "__main__":
    main()
