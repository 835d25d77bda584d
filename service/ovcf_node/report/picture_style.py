"""Colours, type sizes and the few ways in which the summary picture sets text."""

from functools import lru_cache

from PIL import ImageDraw, ImageFont

Rgb = tuple[int, int, int]

BACKGROUND: Rgb = (14, 16, 20)
PANEL: Rgb = (30, 33, 40)
TEXT: Rgb = (236, 238, 242)
FAINT: Rgb = (160, 166, 178)
DIM: Rgb = (112, 118, 130)
RULE: Rgb = (70, 75, 86)
RED: Rgb = (255, 92, 84)
AMBER: Rgb = (255, 190, 70)
GREEN: Rgb = (110, 205, 140)
BLACK: Rgb = (0, 0, 0)
WHITE: Rgb = (255, 255, 255)


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's embedded scalable font."""
    return ImageFont.load_default(size=size)


def contrast(rgb: Rgb) -> Rgb:
    """Return black or white, whichever reads better on `rgb`."""
    return BLACK if 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 130 else WHITE


def wrap(text: str, size: int, width: int) -> list[str]:
    """Return the lines of a text set in `width` pixels."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font(size).getlength(longer) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line else lines


def paragraph(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, width: int, colour: Rgb = TEXT,
) -> int:
    """Set a text below `place` in `width` pixels; return the height it took."""
    leading = round(size * 1.3)
    lines = wrap(text, size, width)
    for number, line in enumerate(lines):
        draw.text((place[0], place[1] + number * leading), line, colour, font(size))
    return leading * len(lines)


def chip(draw: ImageDraw.ImageDraw, right_middle: tuple[float, float], text: str, colour: Rgb, size: int = 17) -> None:
    """Set a text on a filled plate that ends at `right_middle`, readable on any image."""
    width, height = font(size).getlength(text) + 12, size + 7
    x, y = right_middle[0] - width, right_middle[1] - height / 2
    draw.rounded_rectangle((x, y, x + width, y + height), 5, fill=colour, outline=BLACK)
    draw.text((x + width / 2, y + height / 2), text, contrast(colour), font(size), anchor="mm")
