"""Decide by the header alone whether an instance can be part of a CT volume.

Never by Body Part Examined, the first value of Image Type or the number of slices: reformats are often DERIVED and
legitimate, and scanners write the examined region as they like.
"""

import re
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from ovcf_node.assemble.attributes import image_type, items, number, numbers, text
from ovcf_node.assemble.source_notes import is_rejection
from ovcf_node.domain.reasons import Reason, reason

CT_CLASSES = frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})

_SECONDARY_CAPTURE = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.7(\.[1-4])?")
_SCOUT_WORDS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM", "SCANOSCOPE"}
_SHEET_WORDS = {"DOSE", "DOSEINFO", "INFO", "SCREEN", "REPORT", "PROT", "RESULTS"}
_MAP_WORDS = {
    "PERFUSION", "CBF", "CBV", "RCBF", "RCBV", "MTT", "TTP", "TTD", "TTS", "TMAX", "PERMEABILITY", "QUANTITY",
    "DIVISION", "MULTIPLICATION", "SUBTRACTION", "MASKED", "DEVIATION", "IODINE", "ZEFF", "VNC",
    "MIP", "MINIP", "VRT", "SSD", "RENDERING",  # projections hold numbers, but not those of a slice
}
_HU_RESCALE_TYPES = {"", "HU", "HU_MOD", "US"}  # US: unspecified, written by many workstations for plain HU
_HU_UNITS = {"[hnsf'U]", "HU"}


@dataclass(frozen=True)
class OwnResult:
    """How results of this node are recognised when they come back."""

    model_name: str = "ovcf-node"


def exclude(dataset: Dataset, own: OwnResult) -> Reason | None:
    """Return why this instance cannot be read as CT slices, or None when it can.

    Codes: own_result, rejection_note, not_ct, scout, not_original_image, derived_map.
    """
    if _made_by(dataset, own):
        return reason("own_result")
    if is_rejection(dataset):
        return reason("rejection_note")
    sop_class = text(dataset, "SOPClassUID")
    if sop_class not in CT_CLASSES:
        captured = _SECONDARY_CAPTURE.fullmatch(sop_class) and text(dataset, "Modality") == "CT"
        return reason("not_original_image", "secondary capture") if captured else reason("not_ct")
    if _is_scout(dataset):
        return reason("scout")
    fault = _no_ct_numbers(dataset)
    if fault:
        return reason("not_original_image", fault)
    fault = _map_of(dataset)
    return reason("derived_map", fault) if fault else None


def exclude_unseen(match: Dataset) -> Reason | None:
    """Return why an instance cannot be read, by what a C-FIND match at IMAGE level tells; None when that is too little.

    SOP Class UID and Image Type are looked at where the archive gives them.
    """
    sop_class = text(match, "SOPClassUID")
    if sop_class and sop_class not in CT_CLASSES:
        captured = _SECONDARY_CAPTURE.fullmatch(sop_class)
        return reason("not_original_image", "secondary capture") if captured else reason("not_ct")
    if _is_scout(match):
        return reason("scout")
    if _words(match) & _SHEET_WORDS:
        return reason("not_original_image", "a sheet or screen save")
    mapped = _map_of(match)
    return reason("derived_map", mapped) if mapped else None


def _made_by(dataset: Dataset, own: OwnResult) -> bool:
    contributing = items(dataset, "ContributingEquipmentSequence")
    return any(text(item, "ManufacturerModelName") == own.model_name for item in (dataset, *contributing))


def _words(dataset: Dataset) -> set[str]:
    # The first two values (ORIGINAL or DERIVED, PRIMARY or SECONDARY) never decide.
    types = [image_type(dataset), *map(image_type, _shared(dataset, "CTImageFrameTypeSequence"))]
    return {word for values in types for value in values[2:] for word in re.split(r"[^A-Z0-9]+", value) if word}


def _is_scout(dataset: Dataset) -> bool:
    options = set(re.split(r"[^A-Z]+", text(dataset, "ScanOptions").upper()))
    acquisitions = {text(item, "AcquisitionType") for item in _shared(dataset, "CTAcquisitionTypeSequence")}
    return bool((_words(dataset) | options) & _SCOUT_WORDS) or "CONSTANT_ANGLE" in acquisitions


def _no_ct_numbers(dataset: Dataset) -> str | None:
    grey = text(dataset, "PhotometricInterpretation").startswith("MONOCHROME")
    if not grey or number(dataset, "SamplesPerPixel") != 1:
        return "no grey values"
    if _words(dataset) & _SHEET_WORDS:
        return "a sheet or screen save"
    if "PerFrameFunctionalGroupsSequence" in dataset:
        return None if _frames_rescaled(dataset) else "no rescale to CT numbers"
    if not _rescaled(dataset):
        return "no rescale to CT numbers"
    placed = numbers(dataset, "ImagePositionPatient", 3) and numbers(dataset, "ImageOrientationPatient", 6)
    # A plane that the scanner itself reconstructed, but without position, is 'no_geometry': that is never silent.
    if not placed and image_type(dataset)[:2] != ("ORIGINAL", "PRIMARY"):
        return "no position in the patient"
    return None


def _rescaled(item: Dataset) -> bool:
    return number(item, "RescaleIntercept") is not None and bool(number(item, "RescaleSlope"))


def _frames_rescaled(dataset: Dataset) -> bool:
    """Whether every frame says how its values become CT numbers (PS3.3 C.7.6.16.2.9), itself, for all, or at the root."""
    if any(map(_rescaled, [dataset, *_shared(dataset, "PixelValueTransformationSequence")])):
        return True
    frames = items(dataset, "PerFrameFunctionalGroupsSequence")
    return bool(frames) and all(any(map(_rescaled, items(f, "PixelValueTransformationSequence"))) for f in frames)


def _map_of(dataset: Dataset) -> str | None:
    mapped = sorted(_words(dataset) & _MAP_WORDS)
    if mapped:
        return mapped[0]
    transformations = [dataset, *_shared(dataset, "PixelValueTransformationSequence")]
    types = {text(item, "RescaleType").upper() for item in transformations}
    if types - _HU_RESCALE_TYPES:
        return f"rescale type {min(types - _HU_RESCALE_TYPES)}"
    # PS3.3 C.8.15.3.10: Enhanced CT must say HU unless it is derived and in another unit.
    enhanced = text(dataset, "SOPClassUID") == EnhancedCTImageStorage
    if enhanced and "US" in types and image_type(dataset)[:1] == ("DERIVED",):
        return "unit not given"
    own = items(dataset, "RealWorldValueMappingSequence")
    units = {
        text(unit, "CodeValue")
        for mapping in (*own, *_shared(dataset, "RealWorldValueMappingSequence"))
        for unit in items(mapping, "MeasurementUnitsCodeSequence")
    } - _HU_UNITS
    return f"unit {min(units)}" if units else None


def _shared(dataset: Dataset, macro: str) -> list[Dataset]:
    groups = items(dataset, "SharedFunctionalGroupsSequence")
    return [item for group in groups for item in items(group, macro)]
