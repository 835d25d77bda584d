"""Writing a rendered volume as a CT series: one CT Image Storage file per slice, deterministic UIDs under 2.25."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from .grids import Grid

INTERCEPT = -1024
#: Lowest stored HU; scanners pad with it outside the reconstruction circle.
LOWEST_HU = -1024


def derived_uid(*parts: object) -> str:
    """A UID under 2.25 from a SHA-256 of the parts (PS3.5 B.2: a 128-bit number in decimal)."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def write_series(
    folder: str | Path,
    hu,
    grid: Grid,
    *,
    patient: Mapping[str, object] | None = None,
    study: Mapping[str, object] | None = None,
    series: Mapping[str, object] | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write slices (index 0 of `hu`) head first.  The mappings hold DICOM keywords that replace the defaults."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    values = np.asarray(hu.detach().cpu() if hasattr(hu, "detach") else hu, dtype=np.float32)
    stored = np.clip(np.rint(values), LOWEST_HU, 32767 + INTERCEPT).astype(np.int32) - INTERCEPT
    slice_axis, column_axis, row_axis = (grid.affine[:3, k] / grid.spacing[k] for k in range(3))
    head_first = range(len(stored) - 1, -1, -1) if slice_axis[2] > 0 else range(len(stored))
    dataset = _header({**_defaults(seed, grid), **(patient or {}), **(study or {}), **(series or {})})
    dataset.ImageOrientationPatient = [_decimal(x) for x in (*row_axis, *column_axis)]
    dataset.PixelSpacing = [_decimal(grid.spacing[1]), _decimal(grid.spacing[2])]
    dataset.Rows, dataset.Columns = stored.shape[1:]
    paths = []
    for number, k in enumerate(head_first, start=1):  # one data set, a slice after the other: building it anew takes longest
        dataset.SOPInstanceUID = derived_uid(dataset.SeriesInstanceUID, number, seed)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = str(number)
        position = grid.point_of((k, 0, 0))
        dataset.ImagePositionPatient = [_decimal(x) for x in position]
        dataset.SliceLocation = _decimal(float(position @ slice_axis))
        dataset.set_pixel_data(stored[k].astype(np.uint16), "MONOCHROME2", 16, generate_instance_uid=False)
        path = folder / f"CT{number:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _defaults(seed: int, grid: Grid) -> dict[str, object]:
    return {
        "PatientName": f"PHANTOM^{seed:06d}",
        "PatientID": f"PHANTOM-{seed:06d}",
        "PatientBirthDate": "19520101",
        "PatientSex": "F",
        "PatientAge": "072Y",
        "StudyInstanceUID": derived_uid("study", seed),
        "StudyDate": "20240105",
        "StudyTime": "101500",
        "AccessionNumber": f"A{seed:07d}",
        "ReferringPhysicianName": "",
        "StudyID": f"{seed % 10**8}",
        "StudyDescription": "Synthetic CT of the spine",
        "SeriesInstanceUID": derived_uid("series", seed, grid.shape, grid.affine.round(4).tolist()),
        "SeriesNumber": "2",
        "SeriesDate": "20240105",
        "SeriesTime": "101600",
        "SeriesDescription": "Synthetic phantom, no patient",
        "Modality": "CT",
        "FrameOfReferenceUID": derived_uid("frame", seed),
        "PositionReferenceIndicator": "",
        "Laterality": None,
        "BodyPartExamined": "SPINE",
        "PatientPosition": "HFS",
        "Manufacturer": "ovcf-node phantoms",
        "ManufacturerModelName": "analytic",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "KVP": "120",
        "XRayTubeCurrent": "200",
        "ConvolutionKernel": "STANDARD",
        "SliceThickness": _decimal(float(grid.spacing[0])),
        "RotationDirection": "CW",
        "ScanOptions": "HELICAL",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    }


def _header(common: Mapping[str, object]) -> FileDataset:
    """What all slices of a series have in common."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in common.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.SOPClassUID = CTImageStorage
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = "20240105", "101700"
    dataset.AcquisitionNumber = "1"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240105", "101600"
    dataset.ContentDate, dataset.ContentTime = "20240105", "101600"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(INTERCEPT), "1", "HU"
    dataset.WindowCenter, dataset.WindowWidth = "400", "1800"
    return dataset
