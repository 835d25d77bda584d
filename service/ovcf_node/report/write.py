"""A result dataset as the bytes of a DICOM file: Explicit VR Little Endian, always the same bytes."""

from io import BytesIO

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from ovcf_node.domain.identity import uid_from

IMPLEMENTATION_CLASS_UID = uid_from("implementation class", "ovcf-node")  # the same as in associations
IMPLEMENTATION_VERSION_NAME = "OVCF_NODE_1"  # fixed: the bytes of a stored result must not change with a release


def to_bytes(dataset: Dataset) -> bytes:
    """Return the PS3.10 file of a dataset; the dataset itself stays as it is."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    file = Dataset()
    file.update(dataset)
    file.file_meta, file.preamble = meta, bytes(128)
    buffer = BytesIO()
    dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()
