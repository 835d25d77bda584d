"""Every coded reason a series can end with, in words for people. Codes are stable: logs, SR and findings.json use them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """A coded reason. `text` may add facts (millimetres, counts), never patient identity."""

    code: str
    text: str

    def to_json(self) -> dict:
        return {"code": self.code, "text": self.text}


EXCLUDED: dict[str, str] = {
    "not_ct": "not a CT image storage class",
    "scout": "a scout (localizer) image",
    "not_original_image": "a dose sheet, screen save or other non-anatomical image",
    "derived_map": "a derived parametric map, not CT numbers",
    "own_result": "a result of this or another analysis coming back",
    "better_series": "another series of the study was chosen",
    "orientation": "not an axial, sagittal or coronal stack",
    "too_short": "covers too little of the patient to hold a vertebra",
    "no_spine": "no thoracolumbar spine in the field",
}
"""Recorded and visible, silent to PACS."""

NOT_ASSESSED: dict[str, str] = {
    "missing_slices": "slices are missing",
    "incomplete": "the series did not become complete within the limit",
    "uneven_spacing": "slice spacing is uneven",
    "duplicate_positions": "different slices at the same position",
    "mixed_geometry": "slices of different orientation, size or frame of reference",
    "no_geometry": "no usable slice positions",
    "too_little_spine": "too few complete vertebrae between T12 and S1",
    "metal": "metal hides the vertebrae",
    "unreadable_pixels": "pixel data cannot be decoded",
    "technical_failure": "technical failure after the last attempt",
}
"""Answered with a small SR: silence would read as 'nothing found'."""

LIMITED: dict[str, str] = {
    "thick_slices": "slices thicker than 1.25 mm: reduced accuracy",
    "grading_withheld": "slices thicker than 3 mm: fractures are not graded",
    "grading_absent": "the model bundle has no vertebra stage: fractures are not graded",
    "incomplete_coverage": "the field does not cover T12 to S1 completely",
    "no_frame_of_reference": "no Frame of Reference UID: no segmentation objects",
    "metal_present": "metal or cement in the field",
    "irregular_positions": "slice positions deviate slightly from an even grid",
}
"""Assessed with a limitation that the reader must see."""


def reason(code: str, detail: str = "") -> Reason:
    """Return the Reason of a known code; `detail` is appended in brackets. Unknown codes raise KeyError."""
    text = {**EXCLUDED, **NOT_ASSESSED, **LIMITED}[code]
    return Reason(code, f"{text} ({detail})" if detail else text)
