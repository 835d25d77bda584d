"""The one table of query attributes: the level each belongs to, and how it is matched (PS3.4 C.6.1.1, C.6.2.1)."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Level(IntEnum):
    """The query levels in the order of the hierarchy."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    INSTANCE = 3


class Kind(StrEnum):
    """How a key is matched; named after what is special about its VR."""

    TEXT = "text"
    NAME = "name"
    UID = "uid"
    DATE = "date"
    TIME = "time"
    INTEGER = "integer"


@dataclass(frozen=True)
class Key:
    """An attribute that can be matched; `columns` are several where a person's name has several groups."""

    level: Level
    kind: Kind
    columns: tuple[str, ...]


def _keys(level: Level, **kinds: str) -> dict[str, Key]:
    made = {}
    for keyword, text in kinds.items():
        kind, *columns = text.split()
        made[keyword.replace("__", ".")] = Key(level, Kind(kind), tuple(columns))
    return made


KEYS: dict[str, Key] = (
    _keys(
        Level.PATIENT,
        PatientID="text patient_id",
        IssuerOfPatientID="text issuer_of_patient_id",
        PatientName="name patient_name patient_name_ideographic patient_name_phonetic",
        PatientBirthDate="date patient_birth_date",
        PatientSex="text patient_sex",
    )
    | _keys(
        Level.STUDY,
        StudyInstanceUID="uid study_instance_uid",
        StudyDate="date study_date",
        StudyTime="time study_time",
        AccessionNumber="text accession_number",
        StudyID="text study_id",
        StudyDescription="text study_description",
        ReferringPhysicianName="name referring_physician_name",
        ModalitiesInStudy="text modality",
        SOPClassesInStudy="uid sop_class_uid",
    )
    | _keys(
        Level.SERIES,
        SeriesInstanceUID="uid series_instance_uid",
        SeriesNumber="integer series_number",
        Modality="text modality",
        SeriesDate="date series_date",
        SeriesTime="time series_time",
        SeriesDescription="text series_description",
        BodyPartExamined="text body_part_examined",
    )
    | _keys(
        Level.INSTANCE,
        SOPInstanceUID="uid sop_instance_uid",
        SOPClassUID="uid sop_class_uid",
        InstanceNumber="integer instance_number",
        ContentDate="date content_date",
        ContentTime="time content_time",
        CompletionFlag="text completion_flag",
        VerificationFlag="text verification_flag",
        ConceptNameCodeSequence__CodeValue="text concept_name_code_value",
        ConceptNameCodeSequence__CodingSchemeDesignator="text concept_name_coding_scheme",
        ContentTemplateSequence__TemplateIdentifier="text template_identifier",
    )
)
"""Keyword, or sequence and keyword with a dot between, of everything that can be matched."""

COMPUTED: dict[str, tuple[Level, str]] = {
    "NumberOfPatientRelatedStudies": (Level.PATIENT, "IS"),
    "NumberOfPatientRelatedSeries": (Level.PATIENT, "IS"),
    "NumberOfPatientRelatedInstances": (Level.PATIENT, "IS"),
    "NumberOfStudyRelatedSeries": (Level.STUDY, "IS"),
    "NumberOfStudyRelatedInstances": (Level.STUDY, "IS"),
    "ModalitiesInStudy": (Level.STUDY, "CS"),
    "SOPClassesInStudy": (Level.STUDY, "UI"),
    "NumberOfSeriesRelatedInstances": (Level.SERIES, "IS"),
}
"""Attributes that no object holds: their level and VR."""

_STORED: dict[Level, frozenset[str]] = {
    Level.PATIENT: frozenset({
        "PatientBirthTime", "OtherPatientIDsSequence", "OtherPatientNames", "EthnicGroup", "PatientComments",
    }),
    Level.STUDY: frozenset({
        "IssuerOfAccessionNumberSequence", "ProcedureCodeSequence", "NameOfPhysiciansReadingStudy", "PatientAge",
        "PatientSize", "PatientWeight", "AdmittingDiagnosesDescription", "AdditionalPatientHistory", "Occupation",
        "ReferencedStudySequence",
    }),
    Level.SERIES: frozenset({
        "SeriesDescriptionCodeSequence", "Laterality", "ProtocolName", "PerformingPhysicianName", "OperatorsName",
        "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "RequestAttributesSequence",
        "ReferencedPerformedProcedureStepSequence", "Manufacturer", "ManufacturerModelName", "InstitutionName",
        "StationName", "DeviceSerialNumber", "SoftwareVersions", "FrameOfReferenceUID", "PatientPosition",
    }),
}
_EVERYWHERE = frozenset({"SpecificCharacterSet", "TimezoneOffsetFromUTC", "InstanceAvailability"})
_LEVELS: dict[str, Level] = (
    dict.fromkeys(_EVERYWHERE, Level.PATIENT)
    | {keyword: level for level, keywords in _STORED.items() for keyword in keywords}
    | {keyword.split(".")[0]: key.level for keyword, key in KEYS.items()}
    | {keyword: level for keyword, (level, _) in COMPUTED.items()}
)


def is_listed(keyword: str) -> bool:
    """Say whether an attribute is one that queries know, whatever an object holds."""
    return keyword in _LEVELS


def level_of(keyword: str) -> Level:
    """Return the highest level whose entities are described by an attribute; what is not listed describes an instance."""
    return _LEVELS.get(keyword, Level.INSTANCE)
