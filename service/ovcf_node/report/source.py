"""The source series in the one shape the encoders need, whether single-frame, multi-frame or a concatenation.

highdicom stops on headers that real scanners send (missing type 2 attributes, no SliceThickness, orientation per
frame); here each is put right without inventing anything: what is missing becomes empty, thickness comes from the
positions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from ovcf_node.domain.identity import uid_from
from ovcf_node.domain.volume import Acquisition, FrameSource, contrast_stated
from ovcf_node.errors import Permanent

TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "Manufacturer",
)
_PIXEL_GROUP = 0x7FE0
_FUNCTIONAL_GROUPS = 0x5200


@dataclass(frozen=True)
class Source:
    """The series that was read.

    header     patient, study and equipment attributes of the first instance, complete for highdicom; no pixels
    instances  one small dataset per SOP instance, with the UIDs that references need
    frames     where each slice of the volume came from
    slices     one small single-frame dataset per slice of the volume: geometry exactly as the source states it and a
               SOP Instance UID that stands for the frame (see `origin`); empty without a frame of reference
    acquisition  tube voltage and contrast as the headers state them; the other facts stay unknown here
    """

    header: Dataset
    instances: tuple[Dataset, ...]
    frames: tuple[FrameSource, ...]
    slices: tuple[Dataset, ...]
    acquisition: Acquisition

    @property
    def origin(self) -> dict[str, FrameSource]:
        """SOP Instance UID in `slices` -> the frame it stands for."""
        return {str(s.SOPInstanceUID): frame for s, frame in zip(self.slices, self.frames, strict=True)}


def source_of(headers: Sequence[Dataset], frames: Sequence[FrameSource]) -> Source:
    """Build the Source of a series.

    headers  datasets without pixel data: one per slice, or those of the multi-frame instances
    frames   `Volume.sources`; empty where no volume exists (not assessed)
    Raises Permanent("source_headers") when a frame's instance is not among the headers.
    """
    if not headers:
        raise Permanent("source_headers", "no source header")
    by_uid = {str(h.SOPInstanceUID): h for h in headers}
    if any(frame.sop_instance_uid not in by_uid for frame in frames):
        raise Permanent("source_headers", "a slice comes from an instance without a header")
    header = _complete(headers[0])
    located = tuple(frames) if header.get("FrameOfReferenceUID") else ()
    common = _nameless(header)
    planes = [_plane(by_uid[frame.sop_instance_uid], frame, common) for frame in located]
    _set_thickness(planes)
    references = [_reference(h) for h in by_uid.values()]
    references[0].update(common)
    return Source(header, tuple(references), located, tuple(planes), _acquisition(by_uid.values()))


def _acquisition(headers: Iterable[Dataset]) -> Acquisition:
    """Return the tube voltage all agree on, and whether any states contrast."""
    voltages: set[float | None] = set()
    contrasts: set[bool | None] = set()
    for header in headers:
        details = _macros(header, "CTXRayDetailsSequence") or [header]
        usages = _macros(header, "ContrastBolusUsageSequence") or [Dataset()]
        voltages |= {_number(item, "KVP") for item in details}
        agent, coded = str(header.get("ContrastBolusAgent") or ""), bool(header.get("ContrastBolusAgentSequence"))
        contrasts |= {
            contrast_stated(agent, administered=str(u.get("ContrastBolusAgentAdministered") or ""), coded=coded)
            for u in usages
        }
    return Acquisition(
        kvp=voltages.pop() if len(voltages) == 1 else None,
        contrast=True if True in contrasts else None if None in contrasts else False,
    )


def _macros(header: Dataset, keyword: str) -> list[Dataset]:
    groups = [*(header.get("PerFrameFunctionalGroupsSequence") or [])]
    groups += header.get("SharedFunctionalGroupsSequence") or []
    return [item for group in groups for item in group.get(keyword) or []]


def _number(item: Dataset, keyword: str) -> float | None:
    try:
        return float(item.get(keyword))
    except (TypeError, ValueError):
        return None  # absent, empty or malformed


def _complete(header: Dataset) -> Dataset:
    complete = Dataset()
    for tag in list(header.keys()):
        if tag.group not in (_PIXEL_GROUP, _FUNCTIONAL_GROUPS) and tag.group % 2 == 0 and tag.group > 0x0002:
            complete[tag] = header[tag]
    for keyword in TYPE_2:
        if complete.get(keyword) is None:
            setattr(complete, keyword, "")
    return complete


def _reference(header: Dataset) -> Dataset:
    reference = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(reference, keyword, header[keyword].value)
    return reference


def _nameless(header: Dataset) -> Dataset:
    """Return the UIDs of the series, and every type 2 attribute empty.

    highdicom checks names, dates and sex of what it is given and puts an unusual name into a warning, which would reach
    a log; so it is given none, and the objects get patient and study from `Source.header` afterwards, unchanged.
    """
    dataset = Dataset()
    for keyword in TYPE_2:
        setattr(dataset, keyword, "")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if header.get(keyword):
            setattr(dataset, keyword, header[keyword].value)
    return dataset


def _plane(instance: Dataset, frame: FrameSource, common: Dataset) -> Dataset:
    """Return a single-frame dataset at the place of `frame`."""
    plane = Dataset()
    plane.update(common)
    plane.SOPClassUID, plane.Modality = CTImageStorage, "CT"
    plane.SOPInstanceUID = instance.SOPInstanceUID
    if frame.frame_number is not None:
        plane.SOPInstanceUID = uid_from("frame", frame.sop_instance_uid, str(frame.frame_number))
    plane.Rows, plane.Columns = instance.Rows, instance.Columns
    for keyword, group in (
        ("ImagePositionPatient", "PlanePositionSequence"), ("ImageOrientationPatient", "PlaneOrientationSequence"),
        ("PixelSpacing", "PixelMeasuresSequence"),
    ):
        setattr(plane, keyword, _frame_value(instance, frame, group, keyword))
    if "LossyImageCompression" in instance:
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in instance:
                setattr(plane, keyword, instance[keyword].value)
    return plane


def _frame_value(instance: Dataset, frame: FrameSource, group: str, keyword: str) -> object:
    """Return an attribute of a frame: at the root, in its own or in the shared functional groups (PS3.3 C.7.6.16)."""
    places = [instance]
    if frame.frame_number is not None:
        per_frame = instance.get("PerFrameFunctionalGroupsSequence", [])
        own = per_frame[frame.frame_number - 1:frame.frame_number]
        places = [g[group][0] for g in (*own, *instance.get("SharedFunctionalGroupsSequence", [])) if group in g]
    for place in places:
        if place.get(keyword):
            return place[keyword].value
    raise Permanent("source_headers", f"a slice has no {keyword}")


def _set_thickness(planes: list[Dataset]) -> None:
    """Give every plane the distance between neighbours as SliceThickness, which a mask voxel really has."""
    thickness = 1.0
    if len(planes) > 1:
        row, column = np.array(planes[0].ImageOrientationPatient, float).reshape(2, 3)
        positions = np.array([p.ImagePositionPatient for p in planes], float)
        thickness = float(np.median(np.abs(np.diff(positions @ np.cross(row, column))))) or 1.0
    for plane in planes:
        plane.SliceThickness = f"{thickness:.6g}"
