"""Pictures of an evaluation's errors, small enough for git: one sheet a cohort beside ``EVALUATION.md``."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

COLUMNS, TILE, LINE = 3, (440, 324), 14  # pixels
MOST = 30  # errors on a sheet: the first by name


def sheets(pictures: Path, cohorts: list[str], out: Path) -> list[Path]:
    """Write ``out/errors-COHORT.jpg`` of every cohort that has pictures in the folder; sheets of others are removed."""
    for stale in out.glob("errors-*.jpg"):
        stale.unlink()
    return [sheet(mine, out / f"errors-{c}.jpg") for c in cohorts if (mine := sorted(pictures.glob(f"{c}-*.png")))]


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
