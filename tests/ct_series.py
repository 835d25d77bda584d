"""Write synthetic CT series: a voxel array and its affine in, DICOM files out, with the oddities of real scanners.

Arrays are (slices, rows, columns) in HU and affines map (slice, row, column, 1) to LPS mm, as in `domain.volume`.

    affine = grid((40, 64, 64), spacing=(2.0, 1.0, 1.0))
    paths = write_ct(folder, linear_hu((40, 64, 64), affine), affine, PatientPosition="FFS")
"""

import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLossless,
    JPEGLosslessSV1,
)

FULL_SLOPE = np.array([0.7, -0.4, 1.1])  # HU per mm of `linear_hu` along L, P, S

_AXES = {  # orientation -> direction of (slice, row, column) steps
    "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "sagittal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
}


def uid(*parts: object) -> str:
    """Return a UID that is the same for the same parts (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(map(str, parts))).int}"


def grid(
    shape: tuple[int, int, int] = (40, 32, 48), *, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    orientation: str = "axial", tilt_degrees: float = 0.0, rotation: np.ndarray | None = None,
    centre: tuple[float, float, float] = (3.0, -17.0, 211.0),
) -> np.ndarray:
    """Return the affine of a grid whose middle lies at `centre` (LPS mm).

    `tilt_degrees` is gantry tilt about the left-right axis: the slices lean while the table step stays along the body,
    so the grid is sheared. `rotation` (3x3) turns the whole grid afterwards (oblique, prone, feet first).
    """
    step, row, column = (np.array(axis, float) for axis in _AXES[orientation])
    if tilt_degrees:
        angle = np.deg2rad(tilt_degrees)
        row = np.array([0.0, np.cos(angle), np.sin(angle)])
        step = step / np.cos(angle)  # slice spacing is measured along the normal
    affine = np.eye(4)
    for axis, (direction, size) in enumerate(zip((step, row, column), spacing, strict=True)):
        affine[:3, axis] = direction * size
    if rotation is not None:
        affine[:3, :3] = rotation @ affine[:3, :3]
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def turned(axis: str, degrees: float) -> np.ndarray:
    """Return the 3x3 rotation about the patient axis "L", "P" or "S"."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    i, j = {"L": (1, 2), "P": (2, 0), "S": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = cosine
    matrix[i, j], matrix[j, i] = -sine, sine
    return matrix


def linear_hu(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """Return int16 HU that are a linear function of the LPS position, so that any misplaced voxel shows."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return expected_hu(index @ affine[:3, :3].T + affine[:3, 3])


def expected_hu(position: np.ndarray) -> np.ndarray:
    """Return the int16 HU that `linear_hu` puts at LPS positions of shape (..., 3)."""
    return np.rint(np.asarray(position) @ FULL_SLOPE).astype(np.int16)


def write_ct(
    folder: Path, hu: np.ndarray, affine: np.ndarray, *, transfer_syntax: str = ExplicitVRLittleEndian,
    slope: float | Sequence[float] = 1.0, intercept: float | Sequence[float] = -1024.0, signed: bool = False,
    bits_stored: int = 16, outside: np.ndarray | None = None, padding: int | None = None, declare_padding: bool = True,
    reverse_numbers: bool = False, omit: Sequence[int] = (), study: str = "study", series: str = "series",
    prefix: str = "IM", **overrides: Any,
) -> list[Path]:
    """Write one single-frame CT instance per slice; return the paths in array order.

    slope, intercept   one value, or one per slice
    outside, padding   voxels of the boolean array `outside` get the stored value `padding`, declared as
                       PixelPaddingValue unless `declare_padding` is False (as GE does for -2000 and -3024)
    omit               slice indices left out (missing slices)
    transfer_syntax    any uncompressed one, RLE, JPEG 2000 (32 x 32 at least), JPEG-LS (pydicom), JPEG Lossless (GDCM)
    overrides          DICOM keyword -> value, or -> callable of the slice index; None removes the element
    """
    folder.mkdir(parents=True, exist_ok=True)
    slopes, intercepts = _per_slice(slope, len(hu)), _per_slice(intercept, len(hu))
    paths = []
    for index, plane in enumerate(hu):
        if index in omit:
            continue
        stored = _stored(plane, slopes[index], intercepts[index], signed)
        if outside is not None:
            stored[outside[index]] = np.int64(padding).astype(stored.dtype)
        dataset = _identity(study, series, CTImageStorage, uid(study, series, index))
        dataset.InstanceNumber = len(hu) - index if reverse_numbers else index + 1
        dataset.ImagePositionPatient = _numbers(affine[:3, 3] + index * affine[:3, 0])
        dataset.ImageOrientationPatient = _orientation(affine)
        dataset.PixelSpacing = _pixel_spacing(affine)
        dataset.SliceThickness = _number(_slice_spacing(affine))
        dataset.RescaleSlope, dataset.RescaleIntercept = _number(slopes[index]), _number(intercepts[index])
        dataset.RescaleType = "HU"
        _pixel_module(dataset, plane.shape, signed, bits_stored)
        if padding is not None and declare_padding:
            dataset.add_new(0x00280120, "SS" if signed else "US", padding)
        _override(dataset, overrides, index)
        path = folder / f"{prefix}{index:04d}.dcm"
        _save(dataset, stored, path, transfer_syntax)
        paths.append(path)
    return paths


def write_enhanced_ct(
    folder: Path, hu: np.ndarray, affine: np.ndarray, *, sop_class: str = EnhancedCTImageStorage,
    transfer_syntax: str = ExplicitVRLittleEndian, slope: float | Sequence[float] = 1.0,
    intercept: float | Sequence[float] = -1024.0, parts: int = 1, times: int = 1, time_step_hu: int = 500,
    shuffle: bool = False, study: str = "study", series: str = "enhanced", prefix: str = "EN", **overrides: Any,
) -> list[Path]:
    """Write the volume as Enhanced CT multi-frame instances (PS3.3 A.38); return the paths.

    parts    number of instances of one concatenation (1: no concatenation)
    times    temporal positions: the volume again, `time_step_hu` higher each time, with Temporal Position Index
    shuffle  store the frames in an order that is not the order in space
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(hu)
    slopes, intercepts = _per_slice(slope, count), _per_slice(intercept, count)
    frames = [(time, index) for time in range(times) for index in range(count)]
    if shuffle:
        frames = [frames[i] for i in np.random.default_rng(5).permutation(len(frames))]
    paths = []
    for part, chosen in enumerate(np.array_split(np.arange(len(frames)), parts)):
        members = [frames[i] for i in chosen]
        dataset = _identity(study, series, sop_class, uid(study, series, "part", part))
        dataset.InstanceNumber = part + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        dataset.VolumetricProperties, dataset.PixelPresentation = "VOLUME", "MONOCHROME"
        dataset.ContentQualification, dataset.VolumeBasedCalculationTechnique = "RESEARCH", "NONE"
        dataset.AcquisitionDateTime = "20240102101500"
        _dimensions(dataset, uid(study, series, "dimensions"))
        if parts > 1:
            dataset.ConcatenationUID = uid(study, series, "concatenation")
            dataset.SOPInstanceUIDOfConcatenationSource = uid(study, series, "source")
            dataset.InConcatenationNumber, dataset.InConcatenationTotalNumber = part + 1, parts
            dataset.ConcatenationFrameOffsetNumber = int(chosen[0])
        dataset.NumberOfFrames = len(members)
        dataset.SharedFunctionalGroupsSequence = [_shared_groups(affine)]
        dataset.PerFrameFunctionalGroupsSequence = [
            _frame_groups(affine, time, index, slopes[index], intercepts[index]) for time, index in members
        ]
        _pixel_module(dataset, hu.shape[1:], False, 16)
        _override(dataset, overrides, part)
        stored = np.stack([
            _stored(hu[index] + time * time_step_hu, slopes[index], intercepts[index], False) for time, index in members
        ])
        path = folder / f"{prefix}{part:04d}.dcm"
        _save(dataset, stored, path, transfer_syntax)
        paths.append(path)
    return paths


def _per_slice(value: float | Sequence[float], count: int) -> list[float]:
    return [float(value)] * count if np.isscalar(value) else [float(v) for v in value]


def _stored(plane: np.ndarray, slope: float, intercept: float, signed: bool) -> np.ndarray:
    values = np.rint((plane.astype(float) - intercept) / slope)
    dtype = np.dtype(np.int16 if signed else np.uint16)
    limits = np.iinfo(dtype)
    if values.min() < limits.min or values.max() > limits.max:
        raise ValueError(f"HU do not fit {dtype} with slope {slope} and intercept {intercept}")
    return values.astype(dtype)


def _number(value: float) -> str:
    return f"{value:.10g}"[:16]


def _numbers(values: Sequence[float]) -> list[str]:
    return [_number(round(float(v), 6) + 0.0) for v in values]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _orientation(affine: np.ndarray) -> list[str]:
    return [f"{v:.9f}" for v in (*(_unit(affine[:3, 2]) + 0.0), *(_unit(affine[:3, 1]) + 0.0))]


def _pixel_spacing(affine: np.ndarray) -> list[str]:
    return _numbers([np.linalg.norm(affine[:3, 1]), np.linalg.norm(affine[:3, 2])])


def _slice_spacing(affine: np.ndarray) -> float:
    normal = _unit(np.cross(affine[:3, 1], affine[:3, 2]))
    return float(abs(affine[:3, 0] @ normal))


def _identity(study: str, series: str, sop_class: str, sop_instance: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, sop_instance
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid(study), uid(study, series)
    dataset.FrameOfReferenceUID = uid(study, "frame")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20240102"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101500"
    dataset.AccessionNumber, dataset.StudyID, dataset.SeriesNumber = "A1", "1", 2
    dataset.Modality, dataset.Manufacturer, dataset.ManufacturerModelName = "CT", "Phantom Works", "Synthetic CT"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "1", "1"
    dataset.PatientName, dataset.PatientID = "Phantom^Test", "PHANTOM-1"
    dataset.PatientBirthDate, dataset.PatientSex = "19500101", "F"
    dataset.ReferringPhysicianName = dataset.PositionReferenceIndicator = ""
    dataset.StudyDescription, dataset.SeriesDescription = "CT spine", "Spine"
    dataset.BodyPartExamined, dataset.PatientPosition = "LSPINE", "HFS"
    dataset.KVP, dataset.ConvolutionKernel, dataset.AcquisitionNumber = "120", "B60s", 1
    return dataset


def _pixel_module(dataset: Dataset, shape: tuple[int, int], signed: bool, bits_stored: int) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(signed)
    dataset.WindowCenter, dataset.WindowWidth = "50", "400"


def _dimensions(dataset: Dataset, organization: str) -> None:
    item, temporal, position = Dataset(), Dataset(), Dataset()
    item.DimensionOrganizationUID = temporal.DimensionOrganizationUID = position.DimensionOrganizationUID = organization
    for index, pointer in ((temporal, 0x00209128), (position, 0x00209057)):
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, 0x00209111
    dataset.DimensionOrganizationSequence, dataset.DimensionIndexSequence = [item], [temporal, position]


def _shared_groups(affine: np.ndarray) -> Dataset:
    measures, orientation, frame_type, anatomy, code = (Dataset() for _ in range(5))
    measures.PixelSpacing, measures.SliceThickness = _pixel_spacing(affine), _number(_slice_spacing(affine))
    orientation.ImageOrientationPatient = _orientation(affine)
    frame_type.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    frame_type.PixelPresentation, frame_type.VolumetricProperties = "MONOCHROME", "VOLUME"
    frame_type.VolumeBasedCalculationTechnique = "NONE"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "421060004", "SCT", "Vertebral column"
    anatomy.AnatomicRegionSequence, anatomy.FrameLaterality = [code], "U"
    groups = Dataset()
    groups.PixelMeasuresSequence, groups.PlaneOrientationSequence = [measures], [orientation]
    groups.CTImageFrameTypeSequence, groups.FrameAnatomySequence = [frame_type], [anatomy]
    return groups


def _frame_groups(affine: np.ndarray, time: int, index: int, slope: float, intercept: float) -> Dataset:
    content, position, transformation = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", index + 1
    content.TemporalPositionIndex, content.DimensionIndexValues = time + 1, [time + 1, index + 1]
    content.FrameAcquisitionNumber = time + 1
    position.ImagePositionPatient = _numbers(affine[:3, 3] + index * affine[:3, 0])
    transformation.RescaleSlope, transformation.RescaleIntercept = _number(slope), _number(intercept)
    transformation.RescaleType = "HU"
    groups = Dataset()
    groups.FrameContentSequence, groups.PlanePositionSequence = [content], [position]
    groups.PixelValueTransformationSequence = [transformation]
    return groups


def _override(dataset: Dataset, overrides: dict[str, Any], index: int) -> None:
    for keyword, given in overrides.items():
        value = given(index) if isinstance(given, Callable) else given
        if value is None:
            if keyword in dataset:
                delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)


def _save(dataset: Dataset, stored: np.ndarray, path: Path, transfer_syntax: str) -> None:
    dataset.file_meta = FileMetaDataset()
    native = {ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
    big = transfer_syntax == ExplicitVRBigEndian
    dataset.PixelData = np.ascontiguousarray(stored, stored.dtype.newbyteorder(">" if big else "<")).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = transfer_syntax if transfer_syntax in native else ExplicitVRLittleEndian
    if transfer_syntax not in native:
        _compress(dataset, stored, transfer_syntax)
    dataset.save_as(path, enforce_file_format=True)


def _compress(dataset: Dataset, stored: np.ndarray, transfer_syntax: str) -> None:
    if transfer_syntax in (JPEGLossless, JPEGLosslessSV1):
        dataset.PixelData = _jpeg_lossless(dataset, transfer_syntax)
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.file_meta.TransferSyntaxUID = transfer_syntax
    else:
        dataset.compress(transfer_syntax, stored, generate_instance_uid=False)


def _jpeg_lossless(dataset: Dataset, transfer_syntax: str) -> bytes:
    import gdcm  # pydicom has no encoder of its own for this family

    selection = "JPEGLosslessProcess14_1" if transfer_syntax == JPEGLosslessSV1 else "JPEGLosslessProcess14"
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "image.dcm")
        dataset.save_as(path, enforce_file_format=True)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(path)
        reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, selection)))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise ValueError("GDCM cannot encode JPEG Lossless")
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(path)
        writer.Write()
        return dcmread(path).PixelData
