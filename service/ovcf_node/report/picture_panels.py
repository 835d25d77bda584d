"""The two image panels of the summary picture: reformat, contours, fracture regions, measured lines, marks."""

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from ovcf_node.domain.findings import Findings, VertebraFinding
from ovcf_node.report import codes, wording
from ovcf_node.report.picture_reformat import View
from ovcf_node.report.picture_style import AMBER, BLACK, RED, WHITE, Rgb, chip, font

_MARKS = {1: ("A", "P"), 0: ("R", "L")}  # left and right edge of the sagittal and the coronal view
_CONTOUR_PX = 2
_FRACTURE_ALPHA = 0.38


def panel(view: View, findings: Findings) -> Image.Image:
    """Return one view with everything that is drawn on it."""
    broken = {v.level for v in findings.vertebrae if v.fracture}
    image = Image.fromarray(_coloured(view, broken))
    _watermark(image)
    draw = ImageDraw.Draw(image)
    if view.axis == 1:
        for vertebra in findings.vertebrae:
            _height_lines(draw, view, vertebra)
    for vertebra in findings.vertebrae:
        _label(draw, view, vertebra)
    _marks(draw, view)
    _scale_bar(draw, view)
    return image


def _coloured(view: View, broken: set[str]) -> np.ndarray:
    rgb = np.repeat(view.grey[:, :, None], 3, axis=2).astype(np.float32)
    for level, inside in view.levels.items():
        rgb[_rim(inside)] = codes.LEVEL_RGB[level]
    red = np.array(codes.FRACTURE_RGB, np.float32)
    for level in broken & set(view.fractures):
        inside = view.fractures[level]
        rgb[inside] = (1 - _FRACTURE_ALPHA) * rgb[inside] + _FRACTURE_ALPHA * red
        rgb[_rim(inside)] = red
    return rgb.astype(np.uint8)


def _rim(inside: np.ndarray) -> np.ndarray:
    return inside & ~binary_erosion(inside, iterations=_CONTOUR_PX)


def _height_lines(draw: ImageDraw.ImageDraw, view: View, vertebra: VertebraFinding) -> None:
    lines = vertebra.height_lines_mm
    for line in (lines.anterior, lines.middle, lines.posterior):
        if line is None:
            continue
        ends = [view.pixel(point) for point in line]
        draw.line(ends, BLACK, 4)
        draw.line(ends, WHITE, 2)
        for x, y in ends:
            draw.ellipse((x - 3.5, y - 3.5, x + 3.5, y + 3.5), fill=WHITE, outline=BLACK)


def _label(draw: ImageDraw.ImageDraw, view: View, vertebra: VertebraFinding) -> None:
    """Name a vertebra in front of it (sagittal) or at its right edge (coronal), clear of its contour."""
    if vertebra.centroid_mm is None:
        return
    _, y = view.pixel(vertebra.centroid_mm)
    if not 0 <= y < view.grey.shape[0]:
        return
    inside = view.levels.get(vertebra.level)
    row = min(max(int(y), 0), view.grey.shape[0] - 1)
    if view.axis == 0:
        text, colour = vertebra.level, codes.LEVEL_RGB[vertebra.level]
        chip(draw, (view.grey.shape[1] - 6, y), text, colour, 15)
        return
    text, colour = _reading(vertebra)
    occupied = np.flatnonzero(inside[row]) if inside is not None else np.array([], int)
    edge = float(occupied[0]) if len(occupied) else view.pixel(vertebra.centroid_mm)[0] - 22 * view.scale
    size = 17 if text == vertebra.level else 15
    chip(draw, (max(edge - 14, font(size).getlength(text) + 16), y), text, colour, size)


def _reading(vertebra: VertebraFinding) -> tuple[str, Rgb]:
    if vertebra.fracture:
        kind = f" {vertebra.denis}" if vertebra.denis else ""
        return f"{vertebra.level} FRACTURE{kind}", RED
    if vertebra.fracture is None and vertebra.abstain is not None:
        return f"{vertebra.level} ?", AMBER
    return vertebra.level, codes.LEVEL_RGB[vertebra.level]


def _marks(draw: ImageDraw.ImageDraw, view: View) -> None:
    rows, columns = view.grey.shape
    left, right = _MARKS[view.axis]
    for place, anchor, text in (
        ((10, 8), "la", left), ((columns - 10, 8), "ra", right),
        ((columns // 2, 6), "ma", "H"), ((columns // 2, rows - 6), "md", "F"),
    ):
        draw.text(place, text, WHITE, font(20), anchor=anchor, stroke_width=2, stroke_fill=BLACK)


def _scale_bar(draw: ImageDraw.ImageDraw, view: View) -> None:
    length_mm = 50
    x, y = 12, view.grey.shape[0] - 14
    end = y - length_mm * view.scale
    draw.line((x, y, x, end), BLACK, 7)
    draw.line((x, y, x, end), WHITE, 3)
    draw.text((x + 8, y), f"{length_mm} mm", WHITE, font(15), anchor="ls", stroke_width=2, stroke_fill=BLACK)


def _watermark(image: Image.Image) -> None:
    """Lay the watermark over the image, faint enough to read the bone through it, too large to be cropped away."""
    first, second = wording.WATERMARK.split(" - ")
    layer = Image.new("L", (image.width, image.width))
    draw = ImageDraw.Draw(layer)
    size = max(14, image.width // 11)
    centre = image.width // 2
    draw.text((centre, centre - size * 0.6), first, 255, font(size), anchor="mm")
    draw.text((centre, centre + size * 0.6), second, 255, font(size), anchor="mm")
    turned = layer.rotate(30).point(lambda value: value // 4)
    for row in range(0, image.height, max(1, image.height // 2)):
        image.paste(WHITE, (0, row + (image.height // 2 - image.width) // 2), turned)
