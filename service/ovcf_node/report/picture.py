"""The summary picture: sagittal and coronal view, the per-level table, the limits; understood in five seconds."""

import numpy as np
from PIL import Image, ImageDraw

from ovcf_node.domain.findings import Findings
from ovcf_node.domain.volume import Masks, Volume
from ovcf_node.report import wording
from ovcf_node.report.picture_panels import panel
from ovcf_node.report.picture_reformat import views
from ovcf_node.report.picture_style import BACKGROUND, FAINT, WHITE, Rgb, font, paragraph, wrap
from ovcf_node.report.picture_table import notes, table

WIDTH, HEIGHT = 1280, 940
_BAR_PX, _GAP, _FOOT_PX = 88, 10, 50
_SAGITTAL_PX, _CORONAL_PX = 438, 242
_FOUND: Rgb = (150, 24, 24)
_CLEAR: Rgb = (20, 92, 56)
_UNKNOWN: Rgb = (140, 92, 8)


def render_summary(volume: Volume, findings: Findings, masks: Masks | None) -> np.ndarray:
    """Return the picture, uint8 (HEIGHT, WIDTH, 3) RGB. It holds no patient identity."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    _bar(draw, findings)
    top, bottom = _BAR_PX + _GAP, HEIGHT - _FOOT_PX
    sagittal, coronal = views(
        volume, findings, masks, height=bottom - top, sagittal_width=_SAGITTAL_PX, coronal_width=_CORONAL_PX,
    )
    picture.paste(panel(sagittal, findings), (_GAP, top))
    picture.paste(panel(coronal, findings), (2 * _GAP + _SAGITTAL_PX, top))
    left = 4 * _GAP + _SAGITTAL_PX + _CORONAL_PX - 4
    width = WIDTH - left - _GAP
    below = table(draw, left, top, width, findings)
    notes(draw, left, below + 14, width, bottom, findings, volume.acquisition)
    _foot(draw)
    return np.asarray(picture)


def _bar(draw: ImageDraw.ImageDraw, findings: Findings) -> None:
    """Say the result on a bar whose colour says it too: red found, green nothing suspected, amber not known."""
    if wording.fractured(findings):
        colour = _FOUND
    else:
        colour = _CLEAR if findings.patient.ovcf is False else _UNKNOWN
    draw.rectangle((0, 0, WIDTH, _BAR_PX), fill=colour)
    text = wording.headline(findings)
    size = _headline_size(text, WIDTH - 30)
    lines = wrap(text, size, WIDTH - 30)
    paragraph(draw, (15, round((_BAR_PX - len(lines) * size * 1.3) / 2)), text, size, WIDTH - 30, WHITE)


def _headline_size(text: str, width: int) -> int:
    """Return the largest size on one line, or else the largest that fits the bar."""
    one_line = [s for s in (30, 28, 26, 24) if len(wrap(text, s, width)) == 1]
    fitting = [s for s in (26, 22, 19) if len(wrap(text, s, width)) * s * 1.3 <= _BAR_PX - 8]
    return next(iter([*one_line, *fitting]), 16)


def _foot(draw: ImageDraw.ImageDraw) -> None:
    middle = HEIGHT - _FOOT_PX // 2
    draw.text((_GAP, middle), wording.WATERMARK, WHITE, font(20), anchor="lm")
    start = _GAP + round(font(20).getlength(wording.WATERMARK)) + 26
    size = 14
    width = WIDTH - start - _GAP
    top = middle - round(len(wrap(wording.DISCLAIMER, size, width)) * size * 0.65)
    paragraph(draw, (start, top), wording.DISCLAIMER, size, width, FAINT)
