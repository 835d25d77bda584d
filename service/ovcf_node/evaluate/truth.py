"""A cohort on disk: one folder per case with a CT series and what is true of it. `models/README.md` documents it."""

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ovcf_node.domain.findings import Heights
from ovcf_node.domain.levels import GRADED
from ovcf_node.errors import Permanent

TYPES = ("A", "B", "C", "D")
NORMAL = ("none", "sacralised", "lumbarised")
"""Variants in which every vertebra still has an ordinary name."""
_POSITIONS = tuple(field.name for field in fields(Heights))
_LEVEL = re.compile(r"C[1-7]|T([1-9]|1[0-3])|L[1-6]|S[1-5]")
TRUTH, LABELS, SERIES = "truth.json", "labels.npz", "ct"


@dataclass(frozen=True)
class TrueVertebra:
    """What is true of one vertebra. `denis` is A..D, or "burst" where the posterior wall is involved; None is unknown.

    centre_mm    centroid of the vertebral body, LPS mm.
    height_loss  largest relative loss of the three heights against the undamaged body.
    """

    level: str
    centre_mm: tuple[float, float, float]
    fracture: bool | None = None
    denis: str | None = None
    old_deformity: bool | None = None
    height_loss: float | None = None
    heights_mm: dict[str, float] | None = None
    mimic: str | None = None


@dataclass(frozen=True)
class TrueCase:
    """One case of a cohort.

    variant   "none", or the transitional anatomy; numbering of such cases is scored by `numbering_uncertain` only.
    named     False where the level names are not certain (no sacrum and no ribs): positions are scored, names apart.
    complete  True where every body T12..S1 lies in the field.
    facts     anything to group by: slice_mm, contrast, kernel, field_mm ...
    labels    uint8 (slices, rows, columns) on the grid of the series, slices along +S; `levels.mask_value`, 0 elsewhere.
    """

    name: str
    cohort: str
    vertebrae: tuple[TrueVertebra, ...]
    variant: str
    named: bool
    complete: bool
    facts: dict[str, str | float | None]
    labels: np.ndarray | None

    @property
    def fracture(self) -> bool | None:
        """Whether a lumbar vertebra or T12 is fractured; None where none is known to be and one may be.

        A level T12..L5 that is not listed may be, where every body is in the field and names are ordinary.
        """
        said = [v.fracture for v in self.vertebrae if v.level != "S1" and (v.level in GRADED or self.variant != "none")]
        if self.complete and self.variant in NORMAL:
            said += [None] * len(set(GRADED) - {v.level for v in self.vertebrae})
        return True if any(said) else None if None in said or not said else False

    @property
    def denis(self) -> str | None:
        """The type of the patient: that of the vertebra with the largest height loss; None without a fracture."""
        broken = [v for v in self.vertebrae if v.fracture and v.level in GRADED]
        return max(broken, key=lambda v: v.height_loss or 0.0).denis if broken else None

    def find(self, level: str) -> TrueVertebra | None:
        return next((v for v in self.vertebrae if v.level == level), None)


def cases(cohort: Path) -> list[Path]:
    """Return the case folders of a cohort in order. Raises Permanent `no_cases` where there is none."""
    found = sorted(p.parent for p in cohort.rglob(TRUTH))
    if not found:
        raise Permanent("no_cases", f"no {TRUTH} below the cohort's folder")
    return found


def identity(folder: Path) -> tuple[str, str, str]:
    """Return cohort and name of a case, and the SHA-256 of its truth. Raises Permanent `truth_unreadable`."""
    try:
        content = (folder / TRUTH).read_bytes()
        return json.loads(content).get("cohort", folder.parent.name), folder.name, hashlib.sha256(content).hexdigest()
    except (AttributeError, ValueError, OSError) as error:
        raise Permanent("truth_unreadable", f"case {folder.name}: {type(error).__name__} {error}") from error


def read(folder: Path) -> TrueCase:
    """Read the truth of one case. Raises Permanent `truth_unreadable` naming the case and what is wrong with it."""
    try:
        document = json.loads((folder / TRUTH).read_text())
        vertebrae = tuple(_vertebra(v) for v in document["vertebrae"])
        levels = [v.level for v in vertebrae]
        variant = document.get("variant", "none")
        if not levels or not all(map(_LEVEL.fullmatch, levels)) or len(set(levels)) < len(levels):
            raise ValueError(f"levels {levels} are not names like T12, L1 or S1, each once")
        labels = None
        if (folder / LABELS).exists():
            with np.load(folder / LABELS) as data:
                labels = data["labels"]
        return TrueCase(
            folder.name, document.get("cohort", folder.parent.name), vertebrae, variant,
            document.get("named", True), document.get("complete", True), document.get("facts", {}), labels,
        )
    except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise Permanent("truth_unreadable", f"case {folder.name}: {type(error).__name__} {error}") from error


def _vertebra(value: dict) -> TrueVertebra:
    denis = value.get("denis")
    if denis not in (None, "burst", *TYPES):
        raise ValueError(f"denis {denis!r} is none of {', '.join(TYPES)}, burst")
    for key in ("fracture", "old_deformity"):
        if value.get(key) not in (None, True, False):
            raise ValueError(f"{key} {value[key]!r} is none of true, false, null")
    loss, heights = value.get("height_loss"), value.get("heights_mm")
    if loss is not None and not 0 <= loss < 1:
        raise ValueError(f"height_loss {loss!r} is no fraction")
    if heights is not None and not (set(heights) == set(_POSITIONS) and all(h > 0 for h in heights.values())):
        raise ValueError(f"heights_mm {heights!r} are not {', '.join(_POSITIONS)} in mm")
    x, y, z = value["centre_mm"]
    return TrueVertebra(
        value["level"], (float(x), float(y), float(z)), value.get("fracture"), denis, value.get("old_deformity"),
        loss, heights, value.get("mimic"),
    )


