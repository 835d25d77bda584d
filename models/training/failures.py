"""Pictures of an evaluation's errors, small enough for git: one sheet a cohort beside ``EVALUATION.md``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ovcf_node.evaluate.mistakes import errors

COLUMNS, TILE, LINE = 3, (440, 324), 14  # pixels
MOST = 60  # errors on a sheet: the first by name


def sheets(pictures: Path, records: list[dict[str, Any]], out: Path) -> list[Path]:
    """Write ``out/errors-COHORT.jpg`` of the records that hold an error and have a picture; sheets of others are removed."""
    for stale in out.glob("errors-*.jpg"):
        stale.unlink()
    wrong: dict[str, list[Path]] = {}
    for record in sorted(records, key=lambda r: (r["cohort"], r["case"])):
        picture = pictures / f"{record['cohort']}-{record['case']}.png"  # one without an error may be of an older reading
        if picture.exists() and errors(record):
            wrong.setdefault(record["cohort"], []).append(picture)
    return [sheet(mine, out / f"errors-{cohort}.jpg") for cohort, mine in wrong.items()]


def sheet(pictures: list[Path], path: Path) -> Path:
    shown = pictures[:MOST]
    rows = -(-len(shown) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * TILE[0], rows * (TILE[1] + LINE) + LINE))
    draw = ImageDraw.Draw(canvas)
    draw.text((4, 1), f"phantoms; {len(shown)} of {len(pictures)} cases with an error", fill="white")
    for n, picture in enumerate(shown):
        left, top = n % COLUMNS * TILE[0], LINE + n // COLUMNS * (TILE[1] + LINE)
        with Image.open(picture) as image:
            small = image.convert("RGB")
        small.thumbnail(TILE)
        canvas.paste(small, (left, top + LINE))
        draw.text((left + 4, top + 1), picture.stem, fill="white")
    canvas.save(path, quality=60, optimize=True)
    return path
