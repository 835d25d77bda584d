"""A study that is read in seconds: the built-in phantom on a coarse grid, and a bundle that only labels it."""

import re
import shutil
from pathlib import Path

from node_harness import BUNDLE
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from

ROLES = ("summary", "sr")
"""What such a reading is answered with: masks are the vertebra stage's."""


def write_study(folder: Path, name: str) -> list[Path]:
    """Write a study of 72 instances; equal names give equal UIDs."""
    coarse = phantom.resampled(phantom.load(), (4.0, 3.0, 3.0), (72, 80, 80))
    return phantom.write_series(coarse, folder, name=name)


def series_uid(name: str) -> str:
    return uid_from("phantom", name, "series")


def label_bundle(folder: Path) -> Path:
    """Write the reference bundle without its vertebra stage and what needs it, which take nine tenths of the time."""
    folder.mkdir(parents=True)
    shutil.copy(BUNDLE / "label.onnx", folder)
    manifest = (BUNDLE / "bundle.toml").read_text()
    for stage in ("segment", "vertebra", "restore"):
        manifest = without(manifest, stage, "left out: tests of durability grade nothing")
    (folder / "bundle.toml").write_text(manifest)
    return folder


def without(manifest: str, stage: str, reason: str) -> str:
    """Declare a stage of a bundle absent: its table and those below it go."""
    tables = rf"^\[stages\.{stage}[\].][\s\S]*?(?=^\[(?!stages\.{stage}[\].])|\Z)"
    return re.sub(tables, "", manifest, flags=re.MULTILINE) + f'\n[stages.{stage}]\nabsent = "{reason}"\n'
