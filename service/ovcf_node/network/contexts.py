"""The one table of what this node accepts: SOP class -> transfer syntaxes (PS3.4 B.5, PS3.5 Annex A)."""

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"  # Push Model
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

FIND = (PATIENT_ROOT_FIND, STUDY_ROOT_FIND)
MOVE = (PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE)
GET = (PATIENT_ROOT_GET, STUDY_ROOT_GET)
PATIENT_ROOT = frozenset({PATIENT_ROOT_FIND, PATIENT_ROOT_MOVE, PATIENT_ROOT_GET})

# In order of preference: a sender that leaves us the choice sends what is cheapest to read, and never a lossy image
# where a lossless one is possible.
UNCOMPRESSED: tuple[str, ...] = (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
    DEFLATED_LITTLE_ENDIAN,
)
LOSSLESS: tuple[str, ...] = (
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, Process 14, Selection Value 1
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless, Process 14
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000, lossless only
    "1.2.840.10008.1.2.4.202",  # High-Throughput JPEG 2000 with RPCL options, lossless only
    "1.2.840.10008.1.2.4.90",  # JPEG 2000, lossless only
)
LOSSY: tuple[str, ...] = (
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.203",  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.51",  # JPEG Extended, Process 2 and 4
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline, Process 1
)
IMAGE: tuple[str, ...] = UNCOMPRESSED + LOSSLESS + LOSSY

CT: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image",
}
"""What this node reads. Scouts and dose sheets often are CT Images too; the judge tells them apart."""

COMPANION_IMAGES: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image",
    "1.2.840.10008.5.1.4.1.1.7.2": "Multi-frame Grayscale Byte Secondary Capture Image",
    "1.2.840.10008.5.1.4.1.1.7.3": "Multi-frame Grayscale Word Secondary Capture Image",
    "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture Image",
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation",
}

COMPANION_DOCUMENTS: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.11.1": "Grayscale Softcopy Presentation State",
    "1.2.840.10008.5.1.4.1.1.88.11": "Basic Text SR",
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR",
    "1.2.840.10008.5.1.4.1.1.88.59": "Key Object Selection",
    "1.2.840.10008.5.1.4.1.1.88.67": "X-Ray Radiation Dose SR",
}

# What a peer may fetch from us by C-GET: the kinds of our results, in the syntax they are stored in or the one that
# everybody must accept (PS3.5 10.1).
RESULTS: tuple[str, ...] = tuple(COMPANION_IMAGES) + tuple(COMPANION_DOCUMENTS)
RETRIEVED: tuple[str, ...] = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)

NEIGHBOUR_IMAGES: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.4": "MR Image",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image",
    "1.2.840.10008.5.1.4.1.1.20": "Nuclear Medicine Image",
    "1.2.840.10008.5.1.4.1.1.30": "Parametric Map",
    "1.2.840.10008.5.1.4.1.1.128": "Positron Emission Tomography Image",
    "1.2.840.10008.5.1.4.1.1.130": "Enhanced PET Image",
}

NEIGHBOUR_DOCUMENTS: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.11.2": "Color Softcopy Presentation State",
    "1.2.840.10008.5.1.4.1.1.66": "Raw Data",
    "1.2.840.10008.5.1.4.1.1.66.1": "Spatial Registration",
    "1.2.840.10008.5.1.4.1.1.88.73": "Patient Radiation Dose SR",
    "1.2.840.10008.5.1.4.1.1.104.1": "Encapsulated PDF",
    "1.2.840.10008.5.1.4.1.1.481.3": "RT Structure Set",
}

# A PACS routes whole studies: what lies beside the CT, our own results among it. Refusing those contexts would leave
# the routing job failed for ever, so they are accepted, recorded, and stopped by the judge as excluded.
STORAGE: dict[str, tuple[str, ...]] = (
    dict.fromkeys(CT | COMPANION_IMAGES | NEIGHBOUR_IMAGES, IMAGE)
    | dict.fromkeys(COMPANION_DOCUMENTS | NEIGHBOUR_DOCUMENTS, UNCOMPRESSED)
)

# Of identifiers; not deflated: a few bytes of it could expand to all memory.
QUERIED: tuple[str, ...] = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN)

NAMES: dict[str, str] = CT | COMPANION_IMAGES | COMPANION_DOCUMENTS | NEIGHBOUR_IMAGES | NEIGHBOUR_DOCUMENTS | {
    VERIFICATION: "Verification", STORAGE_COMMITMENT: "Storage Commitment Push Model",
}


def name(sop_class_uid: str) -> str:
    """Return a SOP class as people know it, or its UID."""
    return NAMES.get(sop_class_uid, sop_class_uid)
