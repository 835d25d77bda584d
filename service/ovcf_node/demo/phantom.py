"""The built-in phantom: a synthetic thoracolumbar CT with a planted fracture, as a DICOM series.

The voxels were rendered once by this project's generator (`models/training/phantoms`) and ship without noise; the
scanner's noise is added here from a seed, so that the series is the same everywhere and needs numpy alone.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from scipy import ndimage

from ovcf_node.domain.identity import uid_from
from ovcf_node.domain.levels import REPORTED

_NOISE_HU = 12.0
_SEED = 20261123


@dataclass(frozen=True)
class Planted:
    """What the phantom's maker put into one vertebra."""

    level: str
    fracture: bool
    denis: str | None
    height_loss: float


@dataclass(frozen=True)
class Phantom:
    """hu int16 (slices, rows, columns), slices towards the head; affine (slice, row, column, 1) -> LPS mm."""

    hu: np.ndarray
    affine: np.ndarray
    planted: tuple[Planted, ...]


def load() -> Phantom:
    """Return the built-in phantom without noise."""
    data = files("ovcf_node").joinpath("demo_phantom.npz").read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        truth = json.loads(str(archive["truth"]))
        planted = tuple(
            Planted(v["level"], v["fracture"], v["denis"], v["height_loss"])
            for v in truth["vertebrae"] if v["level"] in REPORTED
        )
        return Phantom(archive["hu"].astype(np.int16), archive["affine"], planted)


def resampled(phantom: Phantom, spacing_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> Phantom:
    """Return the phantom on a grid of `shape` and `spacing_mm` (slice, row, column) about the same centre; air outside."""
    old = np.linalg.norm(phantom.affine[:3, :3], axis=0)
    scale = np.asarray(spacing_mm) / old
    centre = (np.asarray(phantom.hu.shape) - 1) / 2
    offset = centre - scale * (np.asarray(shape) - 1) / 2
    hu = ndimage.affine_transform(phantom.hu, scale, offset, shape, order=1, mode="constant", cval=-1000)
    affine = phantom.affine.copy()
    affine[:3, :3] = phantom.affine[:3, :3] * scale
    affine[:3, 3] = phantom.affine[:3, :3] @ offset + phantom.affine[:3, 3]
    return Phantom(hu, affine, phantom.planted)


def write_series(
    phantom: Phantom, folder: Path, *, name: str = "demo", noise_hu: float = _NOISE_HU,
    header: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the phantom as an axial CT series with seeded noise, one instance a slice; returns the files.

    `name` tells several series apart: equal names give equal UIDs. `header` replaces attributes, by keyword.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(_SEED)
    common = _header(phantom, name)
    for keyword, value in (header or {}).items():
        setattr(common, keyword, value)
    paths = []
    for index, plane in enumerate(phantom.hu):
        noise = ndimage.gaussian_filter(random.standard_normal(plane.shape, np.float32), 0.7) * (noise_hu * 2.5)
        pixels = np.clip(plane + noise + 1024, 0, 4095).astype("<u2")
        path = folder / f"CT{index + 1:04d}.dcm"
        _instance(common, phantom, name, index, pixels).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _header(phantom: Phantom, name: str) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20261123"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "080000"
    ds.AccessionNumber = "DEMO0001"
    ds.Modality = "CT"
    ds.Manufacturer = "ovcf-node phantom"
    ds.ManufacturerModelName = "synthetic"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "CT thoracolumbar spine (phantom)"
    ds.SeriesDescription = "TL spine 1.0 B (phantom)"
    ds.PatientName = "Phantom^Demo"
    ds.PatientID = "PHANTOM-1"
    ds.PatientBirthDate = date(1945, 5, 8).strftime("%Y%m%d")
    ds.PatientSex = "F"
    ds.BodyPartExamined = "TLSPINE"
    ds.KVP = 120
    ds.SliceThickness = round(float(np.linalg.norm(phantom.affine[:3, 0])), 4)
    ds.ConvolutionKernel = "BONE"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = uid_from("phantom", name, "study")
    ds.SeriesInstanceUID = uid_from("phantom", name, "series")
    ds.StudyID = "1"
    ds.SeriesNumber = 2
    ds.AcquisitionNumber = 1
    ds.FrameOfReferenceUID = uid_from("phantom", name, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = phantom.hu.shape[1:]
    row_step, column_step = phantom.affine[:3, 1], phantom.affine[:3, 2]
    spacing = np.linalg.norm(row_step), np.linalg.norm(column_step)
    ds.PixelSpacing = [_decimal(s) for s in spacing]
    ds.ImageOrientationPatient = [_decimal(v) for v in (*(column_step / spacing[1]), *(row_step / spacing[0]))]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    return ds


def _instance(header: Dataset, phantom: Phantom, name: str, index: int, pixels: np.ndarray) -> Dataset:
    ds = Dataset()
    ds.update(header)
    ds.SOPInstanceUID = uid_from("phantom", name, "instance", str(index))
    ds.InstanceNumber = phantom.hu.shape[0] - index  # scanners count from the head; the order of arrival means nothing
    position = (phantom.affine @ [index, 0, 0, 1])[:3]
    ds.ImagePositionPatient = [_decimal(v) for v in position]
    ds.PixelData = pixels.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _decimal(value: float) -> str:
    return f"{value:.6f}"  # DS holds at most 16 characters (PS3.5 6.2)
