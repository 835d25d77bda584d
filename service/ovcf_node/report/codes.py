"""Every coded concept of the result objects, in one place (PS3.16; private ones in scheme 99OVCF).

A private code stands where neither DICOM nor the SNOMED subset free for DICOM use has the concept: a code that only
looks right (207957008 "closed fracture of lumbar vertebra" circulates as "compression fracture") misleads.
"""

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from ovcf_node.domain.assessments import Verdict
from ovcf_node.domain.denis import TYPES
from ovcf_node.domain.findings import VertebraFinding
from ovcf_node.domain.withdrawal import Title

SCHEME = "99OVCF"


def _own(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning)


# Anatomy: CID 7603; S1 is in no DICOM context group, its code is SNOMED CT's "structure of first sacral vertebra".
LEVELS: dict[str, Code] = {
    "T12": Code("23215003", "SCT", "T12 vertebra"),
    "L1": Code("66794005", "SCT", "L1 vertebra"),
    "L2": Code("14293000", "SCT", "L2 vertebra"),
    "L3": Code("36470004", "SCT", "L3 vertebra"),
    "L4": Code("11994002", "SCT", "L4 vertebra"),
    "L5": Code("49668003", "SCT", "L5 vertebra"),
    "S1": Code("65985001", "SCT", "S1 vertebra"),
}
SPINE = Code("1217256009", "SCT", "Thoraco-lumbar spine")
SACRUM = Code("54735007", "SCT", "Sacrum")  # CID 4031
ANTERIOR = Code("255549009", "SCT", "Anterior")  # CID 2
CENTRAL = Code("26216008", "SCT", "Central")
POSTERIOR = Code("255551008", "SCT", "Posterior")

# Segment categories: CID 7150
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")

# Findings
COMPRESSION_FRACTURE = Code("42942008", "SCT", "Compression fracture of vertebral column")
OTHER_FRACTURE = _own("FRACTURE", "Vertebral fracture, type undetermined or not compression")

# Answers: CID 240 and CID 230
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")
UNDETERMINED = Code("373068000", "SCT", "Undetermined")
YES = Code("373066001", "SCT", "Yes")
NO = Code("373067005", "SCT", "No")

# Questions
SUSPECTED_FRACTURE = _own("VCF", "Suspected vertebral fracture")
PATIENT_FRACTURE = _own("VCF-T12-L5", "Suspected vertebral fracture in T12 to L5")
COMPLETE = _own("COMPLETE", "Vertebral body completely in the field of view")
OLD_DEFORMITY = _own("OLD-DEFORMITY", "Old (healed) vertebral deformity")
DENIS = _own("DENIS", "Denis compression type")
AO = _own("AO", "AOSpine thoracolumbar injury type")
OF = _own("OF", "Osteoporotic fracture (OF) type")
GENANT = _own("GENANT", "Genant semiquantitative grade")
NEAR_BOUNDARY = _own("NEAR-BOUNDARY", "Grade near a boundary: error spans two grades")
AGE = _own("AGE", "CT features of fracture age")
NUMBERING_UNCERTAIN = _own("NUMBERING", "Vertebral numbering uncertain")
EXPECTED_FROM = _own("EXPECTED-FROM", "Source of the expected heights")
ABSTAINED = _own("ABSTAINED", "Reading abstained")
STATUS = _own("STATUS", "Analysis status")
DISCLAIMER = _own("DISCLAIMER", "Conditions of use")
PROBABILITY_TEXT = _own("PROBABILITY-TEXT", "Probability in words")
ASSESSMENT = _own("ASSESSMENT", "Reader's assessment of the finding")
CORRECTED_LEVEL = _own("CORRECTED-LEVEL", "Level of the finding according to the reader")

VERDICTS: dict[Verdict, Code] = {
    Verdict.ACCEPTED: _own("ACCEPTED", "Finding accepted by the reader"),
    Verdict.CORRECTED: _own("CORRECTED", "Finding accepted by the reader at another level"),
    Verdict.REJECTED: _own("REJECTED", "Finding rejected by the reader"),
}

DENIS_TYPES: dict[str, Code] = {
    letter: _own(f"DENIS-{letter}", f"Denis compression type {letter}: {words}") for letter, words in TYPES.items()
}
GENANT_GRADES: dict[int, Code] = {
    0: _own("GENANT-0", "Genant grade 0 (height loss below 20 %)"),
    1: _own("GENANT-1", "Genant grade 1 (mild, 20 to 25 %)"),
    2: _own("GENANT-2", "Genant grade 2 (moderate, 25 to 40 %)"),
    3: _own("GENANT-3", "Genant grade 3 (severe, 40 % or more)"),
}
AGES: dict[str, Code] = {
    "recent_features": _own("AGE-RECENT", "CT features suggestive of recent fracture"),
    "old": _own("AGE-OLD", "CT features not suggestive of recent fracture"),
    "indeterminate": _own("AGE-UNCERTAIN", "Fracture age indeterminate on CT"),
}
STATUSES: dict[str, Code] = {
    "assessed": _own("ASSESSED", "Assessed"),
    "limited": _own("LIMITED", "Assessed with limitations"),
    "not_assessed": _own("NOT-ASSESSED", "Not assessed"),
}


def ao_type(name: str) -> Code:
    """Return the code of an AOSpine type such as "A1"."""
    return _own(f"AO-{name}", f"AOSpine type {name}")


def of_type(name: str) -> Code:
    """Return the code of an OF type such as "OF2"."""
    return _own(name, f"OF classification type {name.removeprefix('OF')}")


# Document structure
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")  # TID 1500 row 12
IMPRESSION = Code("121073", "DCM", "Impression")
QUALITY_FINDING = Code("111052", "DCM", "Quality Finding")
PROCESSING_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
CT_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")  # CID 100
REPORT_TITLE = Code("126000", "DCM", "Imaging Measurement Report")  # CID 7021
TEXT_REPORT_TITLE = _own("REPORT", "Vertebral fracture analysis report")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")  # CID 7005
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202

REJECTION_TITLES: dict[Title, Code] = {  # CID 7010
    Title.QUALITY: Code("113001", "DCM", "Rejected for Quality Reasons"),
    Title.PATIENT_SAFETY: Code("113037", "DCM", "Rejected for Patient Safety Reasons"),
    Title.WORKLIST: Code("113038", "DCM", "Incorrect Modality Worklist Entry"),
}

# CID 6047, by (everything succeeded, something found)
SUMMARIES: dict[tuple[bool, bool], Code] = {
    (True, False): Code("111241", "DCM", "All algorithms succeeded; without findings"),
    (True, True): Code("111242", "DCM", "All algorithms succeeded; with findings"),
    (False, False): Code("111243", "DCM", "Not all algorithms succeeded; without findings"),
    (False, True): Code("111244", "DCM", "Not all algorithms succeeded; with findings"),
}
NOTHING_SUCCEEDED = Code("111245", "DCM", "No algorithms succeeded; without findings")

LEVEL_RGB: dict[str, tuple[int, int, int]] = {  # Okabe and Ito, distinguishable for the colour-blind
    "T12": (230, 159, 0),
    "L1": (86, 180, 233),
    "L2": (0, 158, 115),
    "L3": (240, 228, 66),
    "L4": (0, 114, 178),
    "L5": (213, 94, 0),
    "S1": (204, 121, 167),
}
FRACTURE_RGB = (255, 0, 0)


def presence(value: bool | None) -> Code:
    """Return Present, Absent or, for what is not known, Undetermined (never Absent)."""
    return UNDETERMINED if value is None else PRESENT if value else ABSENT


def yes_no(value: bool | None) -> Code:
    """Return Yes, No or, for what is not known, Undetermined (never No)."""
    return UNDETERMINED if value is None else YES if value else NO


def fracture_type(vertebra: VertebraFinding) -> Code:
    """Return what a fracture is called: "compression" only where the reading could give it a Denis compression type."""
    return COMPRESSION_FRACTURE if vertebra.denis else OTHER_FRACTURE


def coding_scheme(designator: str) -> Dataset:
    """Return the Coding Scheme Identification item (PS3.3 C.12.1.1.1) of a private designator."""
    item = Dataset()
    item.CodingSchemeDesignator = designator
    if designator == SCHEME:
        item.CodingSchemeName = "ovcf-node vertebral fracture codes"
        item.CodingSchemeVersion = "1"
        item.CodingSchemeResponsibleOrganization = "ovcf-node project"
    return item
