"""The text column of the summary picture: the per-level table, then status, limits and provenance."""

from PIL import ImageDraw

from ovcf_node.domain.findings import Findings, HeightLines, VertebraFinding
from ovcf_node.domain.levels import GRADED, REPORTED
from ovcf_node.domain.volume import Acquisition
from ovcf_node.report import codes, wording
from ovcf_node.report.measurements import MEASUREMENTS, UNKNOWN
from ovcf_node.report.picture_style import AMBER, DIM, FAINT, GREEN, RED, RULE, TEXT, Rgb, contrast, font, paragraph, wrap

_ROW_PX = 38
_MORE = "More limits in the structured report."
_LEVEL_PX, _FRACTURE_PX, _TYPE_PX = 56, 84, 62
_BODY, _SMALL = 17, 15


def table(draw: ImageDraw.ImageDraw, left: int, top: int, width: int, findings: Findings) -> int:
    """Draw the per-level table; return the y below it."""
    columns = [m for m in MEASUREMENTS if m.column]
    cell = (width - _LEVEL_PX - _FRACTURE_PX - _TYPE_PX) // len(columns)
    starts = [left + _LEVEL_PX + _FRACTURE_PX + _TYPE_PX + cell * n for n in range(len(columns))]
    heading_px = 44
    for x, text in (
        (left + _LEVEL_PX // 2, "Level"), (left + _LEVEL_PX + _FRACTURE_PX // 2, "Fracture"),
        (left + _LEVEL_PX + _FRACTURE_PX + _TYPE_PX // 2, "Denis\ncompr."),
        *((x + cell // 2, str(m.column)) for x, m in zip(starts, columns, strict=True)),
    ):
        place = (x, top + heading_px // 2)
        draw.multiline_text(place, text, FAINT, font(_SMALL), anchor="mm", align="center", spacing=3)
    y = top + heading_px
    found = {vertebra.level: vertebra for vertebra in findings.vertebrae}
    for level in REPORTED:
        draw.line((left, y, left + width, y), RULE)
        vertebra = found.get(level)
        if vertebra is None:
            _missing_row(draw, left, y, level)
            y += _ROW_PX
            continue
        _row(draw, left, y, width, vertebra)
        for x, measurement in zip(starts, columns, strict=True):
            text = measurement.text(vertebra)
            colour = FAINT if text == UNKNOWN else TEXT
            draw.text((x + cell // 2, y + _ROW_PX // 2), text, colour, font(_BODY), anchor="mm")
        y += _ROW_PX
    draw.line((left, y, left + width, y), RULE)
    return y


def _missing_row(draw: ImageDraw.ImageDraw, left: int, y: int, level: str) -> None:
    middle = y + _ROW_PX // 2
    draw.rounded_rectangle((left + 5, y + 6, left + _LEVEL_PX - 5, y + _ROW_PX - 6), 5, outline=RULE)
    draw.text((left + _LEVEL_PX // 2, middle), level, DIM, font(_BODY), anchor="mm")
    draw.text((left + _LEVEL_PX + 12, middle), "not found", DIM, font(_SMALL), anchor="lm")


def _row(draw: ImageDraw.ImageDraw, left: int, y: int, width: int, vertebra: VertebraFinding) -> None:
    if vertebra.fracture:
        draw.rectangle((left, y + 1, left + width, y + _ROW_PX - 1), fill=(72, 20, 22))
    middle = y + _ROW_PX // 2
    colour = codes.LEVEL_RGB[vertebra.level]
    draw.rounded_rectangle((left + 5, y + 6, left + _LEVEL_PX - 5, y + _ROW_PX - 6), 5, fill=colour)
    draw.text((left + _LEVEL_PX // 2, middle), vertebra.level, contrast(colour), font(_BODY), anchor="mm")
    text, colour = answer(vertebra)
    draw.text((left + _LEVEL_PX + _FRACTURE_PX // 2, middle), text, colour, font(_BODY), anchor="mm")
    kind = vertebra.denis or ("?" if vertebra.fracture else UNKNOWN)
    place = (left + _LEVEL_PX + _FRACTURE_PX + _TYPE_PX // 2, middle)
    draw.text(place, kind, FAINT if kind == UNKNOWN else TEXT, font(_BODY), anchor="mm")


def answer(vertebra: VertebraFinding) -> tuple[str, Rgb]:
    """Return the word in the fracture column and its colour; what is not known is never "no"."""
    if vertebra.fracture:
        return "YES", RED
    if vertebra.fracture is None:
        return ("?", AMBER) if vertebra.level in GRADED else ("n/a", FAINT)
    return ("no (old)", AMBER) if vertebra.old_deformity else ("no", GREEN)


def notes(
    draw: ImageDraw.ImageDraw, left: int, top: int, width: int, bottom: int, findings: Findings,
    acquisition: Acquisition,
) -> None:
    """Set status, limits and provenance between `top` and `bottom`; what does not fit is said to be in the report."""
    provenance = _provenance(findings)
    floor = bottom - 22 * len(provenance) - 8
    y = top
    entries = [(f"Status: {findings.status.replace('_', ' ')}", TEXT, _BODY)]
    for vertebra in wording.fractured(findings):
        entries += [(text, TEXT, _SMALL) for text in wording.details(vertebra)]
    entries += [(text, AMBER, _SMALL) for text in map(wording.abstained, findings.vertebrae) if text]
    entries += [
        (limit.text, AMBER if limit.urgent else FAINT, _SMALL) for limit in wording.limits(findings, acquisition)
    ]
    if any(v.height_lines_mm != HeightLines() for v in findings.vertebrae):
        red = " Red: suspected fracture region." if wording.fractured(findings) else ""
        entries.append((f"White lines: measured heights.{red}", FAINT, _SMALL))
    for number, (text, colour, size) in enumerate(entries, start=1):
        needed = paragraph_height(text, size, width - 16)
        more = 0 if number == len(entries) else paragraph_height(_MORE, _SMALL, width)  # room to say that it goes on
        if y + needed + more > floor:
            draw.text((left, y), _MORE, AMBER, font(_SMALL))
            break
        draw.ellipse((left, y + size // 2 - 1, left + 5, y + size // 2 + 4), fill=colour)
        y += paragraph(draw, (left + 14, y), text, size, width - 16, colour) + 5
    draw.line((left, floor + 2, left + width, floor + 2), RULE)
    for number, text in enumerate(provenance):
        draw.text((left, floor + 9 + 22 * number), text, FAINT, font(_SMALL))


def paragraph_height(text: str, size: int, width: int) -> int:
    return round(size * 1.3) * len(wrap(text, size, width))


def _provenance(findings: Findings) -> list[str]:
    lines = [f"Software {findings.software}"]
    if findings.bundle:
        lines.append(f"Models {findings.bundle.name} {findings.bundle.version} ({findings.bundle.digest[:12]})")
    return lines
