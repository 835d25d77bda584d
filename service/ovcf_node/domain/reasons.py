"""Every coded reason a series can end with, in words for people. Codes are stable: logs, metrics, pages and findings.json
use them; the SR says the words."""

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
    "rejection_note": "a rejection note: the images it names no longer count",
    "source_withdrawn": "a rejection note withdrew every image of the series",
    "better_series": "another series of the study was chosen",
    "answered_before": "the same instances were answered long ago",
    "orientation": "not an axial, sagittal or coronal stack",
    "too_short": "covers too little of the patient to hold a vertebra",
    "no_spine": "no thoracolumbar spine in the field",
}
"""Recorded and visible, silent to PACS."""

NOT_ASSESSED: dict[str, str] = {
    "missing_slices": "slices are missing",
    "incomplete": "the series did not become complete within the limit",
    "source_withdrawn_in_part": "a rejection note withdrew part of the series",
    "uneven_spacing": "slice spacing is uneven",
    "duplicate_positions": "different slices at the same position",
    "mixed_geometry": "slices of different orientation, size or frame of reference",
    "no_geometry": "no usable slice positions",
    "too_little_spine": "too few complete vertebrae between T12 and S1",
    "metal": "metal hides the vertebrae",
    "unreadable_pixels": "pixel data cannot be decoded",
    "technical_failure": "technical failure after the last attempt",
    "quarantined": "technical failure: reading the series crashed the reader; it is quarantined",
}
"""Answered with a small SR: silence would read as 'nothing found'."""

TECHNICAL: frozenset[str] = frozenset({"technical_failure", "quarantined"})
"""Of these there is no reading: the answer is made without one."""

LIMITED: dict[str, str] = {
    "thick_slices": "slices or pixels coarser than 1.25 mm: reduced accuracy",
    "grading_withheld": "slices or pixels coarser than 3 mm: fractures are not graded",
    "thickness_unknown": "slice thickness is not stated",
    "grading_absent": "the model bundle has no vertebra stage: fractures are not graded",
    "incomplete_coverage": "not every vertebra T12 to S1 was found completely in the field",
    "no_frame_of_reference": "no Frame of Reference UID: no segmentation objects",
    "unparsable_instances": "instances that cannot be parsed were left out",
    "metal_present": "metal or cement in the field",
    "irregular_positions": "slice positions deviate slightly from an even grid",
}
"""Assessed with a limitation that the reader must see."""

VERTEBRA: dict[str, str] = {
    "metal": "metal or cement: not graded",
    "cement": "cement in the body: no recent fracture seen beside it, or not graded",
    "not_measurable": "seen by name and place, without a body that could be measured",
    "incomplete_body": "the body is not wholly in the field: not graded",
    "evidence_conflict": "signs, direct reading and probability do not agree",
    "no_sign": "a fracture is probable, no single sign reaches its operating point",
    "unsteady": "several looks at the same vertebra contradict each other",
    "unusual": "unlike the pictures the models were calibrated on: not graded",
    "low_confidence": "the class of the fracture is not probable enough",
    "posterior_wall": "the posterior wall is involved: not a compression type",
    "height_loss_without_break": "height loss without a broken surface",
    "no_measurable_deformity": "signs of fracture without height loss",
    "height_kept": "signs of fracture on a body that kept its height: not called",
}
"""Of single vertebrae, as `abstain` or in `notes`; the text of each finding adds its facts."""


def reason(code: str, detail: str = "") -> Reason:
    """Return the Reason of a known code; `detail` is appended in brackets. Unknown codes raise KeyError."""
    text = {**EXCLUDED, **NOT_ASSESSED, **LIMITED}[code]
    return Reason(code, f"{text} ({detail})" if detail else text)
