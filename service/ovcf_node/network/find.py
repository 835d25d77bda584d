"""Ask an archive what it has: C-FIND as a requestor, Study Root (PS3.4 C.4.1, C.6.2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom import Association
from pynetdicom.presentation import build_context

from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import contexts
from ovcf_node.network.associate import Remote, association, comment_of, status_of

_PENDING = (0xFF00, 0xFF01)
_CANCELLED = 0xFE00
_MESSAGE_ID = 1
_AFTER_CANCEL = 5_000  # responses under way when a C-CANCEL is sent; beyond that nobody listens


@dataclass(frozen=True)
class StudyMatch:
    """One study of an archive; what the archive does not say is empty or None. `date` is YYYYMMDD."""

    study_instance_uid: str
    accession_number: str = field(repr=False)
    date: str
    modalities: tuple[str, ...]
    instances: int | None


@dataclass(frozen=True)
class SeriesMatch:
    """One series of an archive; what the archive does not say is empty or None."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    number: int | None
    description: str
    instances: int | None


@contextmanager
def querying(remote: Remote) -> Iterator["Query"]:
    """Open an association for queries; raises Transient, or Permanent (rejected, `context_refused`)."""
    with association(remote, [build_context(contexts.STUDY_ROOT_FIND)]) as opened:
        if not opened.accepted_contexts:
            raise Permanent("context_refused", "Study Root Query/Retrieve - FIND is not accepted")
        yield Query(opened)


class Query:
    """Queries over one association. Each raises Transient or Permanent (`find_failed`, `too_many_matches`)."""

    def __init__(self, opened: Association):
        self._association = opened

    def studies(self, *, study_instance_uid: str = "", accession_number: str = "", limit: int = 50) -> list[StudyMatch]:
        """Return the studies with this UID or Accession Number, and nothing else that the archive may answer."""
        identifier = _identifier(
            "STUDY", StudyInstanceUID=study_instance_uid, AccessionNumber=accession_number, StudyDate="",
            ModalitiesInStudy="", NumberOfStudyRelatedInstances=None,
        )
        found = [_study(match) for match in self._find(identifier, limit) if match.get("StudyInstanceUID")]
        return [
            study for study in found
            if study_instance_uid in ("", study.study_instance_uid)
            and accession_number.casefold() in ("", study.accession_number.casefold())
        ]

    def series(self, study_instance_uid: str, series_instance_uid: str = "") -> list[SeriesMatch]:
        """Return the series of a study, or the one with this UID."""
        identifier = _identifier(
            "SERIES", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=series_instance_uid, Modality="",
            SeriesNumber=None, SeriesDescription="", NumberOfSeriesRelatedInstances=None,
        )
        found = [_series(match, study_instance_uid) for match in self._find(identifier) if match.get("SeriesInstanceUID")]
        return [series for series in found if series_instance_uid in ("", series.series_instance_uid)]

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> list[Dataset]:
        """Return the matches at IMAGE level with SOP Class UID, Image Type and Number of Frames where they are known."""
        identifier = _identifier(
            "IMAGE", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=series_instance_uid, SOPInstanceUID="",
            SOPClassUID="", ImageType="", NumberOfFrames=None,
        )
        return self._find(identifier)

    def _find(self, identifier: Dataset, limit: int | None = None) -> list[Dataset]:
        matches: list[Dataset] = []
        received = 0
        responses = self._association.send_c_find(identifier, contexts.STUDY_ROOT_FIND, msg_id=_MESSAGE_ID)
        for answer, match in responses:
            status = status_of(answer)
            if status in _PENDING and match is not None:
                received += 1
                if limit is None or received <= limit:
                    matches.append(match)
                elif received == limit + 1:  # it ignores our key and would go on with everything it has
                    self._association.send_c_cancel(_MESSAGE_ID, query_model=contexts.STUDY_ROOT_FIND)
                elif received > limit + _AFTER_CANCEL:  # it ignores C-CANCEL too
                    self._association.abort()
                    break
            elif status == 0xA700:
                raise Transient("find_failed", "status 0xA700: out of resources")
            elif status not in (0x0000, _CANCELLED, *_PENDING):
                raise Permanent("find_failed", f"status 0x{status:04X} {comment_of(answer)}".rstrip())
        if limit is not None and received > limit:
            raise Permanent("too_many_matches", f"more than {limit}: the archive does not match the key it was given")
        return matches


def find_count(remote: Remote, study_instance_uid: str, series_instance_uid: str) -> int | None:
    """Ask how many instances a series has: None when the acceptor does not know the series.

    Number of Series Related Instances (0020,1209) is optional; an acceptor that does not return it is asked at IMAGE
    level and its matches are counted. Raises Transient or Permanent (`find_failed`, rejected association).
    """
    with querying(remote) as query:
        found = query.series(study_instance_uid, series_instance_uid)
        if not found:
            return None
        count = found[0].instances
        return len(query.instances(study_instance_uid, series_instance_uid)) if count is None else count


def _identifier(level: str, **keys: str | None) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def _study(match: Dataset) -> StudyMatch:
    modalities = match.get("ModalitiesInStudy") or ()
    return StudyMatch(
        study_instance_uid=str(match.StudyInstanceUID), accession_number=_text(match, "AccessionNumber"),
        date=_text(match, "StudyDate"),
        modalities=tuple(modalities) if isinstance(modalities, MultiValue) else (str(modalities),) if modalities else (),
        instances=_number(match, "NumberOfStudyRelatedInstances"),
    )


def _series(match: Dataset, study_instance_uid: str) -> SeriesMatch:
    return SeriesMatch(
        study_instance_uid=study_instance_uid, series_instance_uid=str(match.SeriesInstanceUID),
        modality=_text(match, "Modality"), number=_number(match, "SeriesNumber"),
        description=_text(match, "SeriesDescription"), instances=_number(match, "NumberOfSeriesRelatedInstances"),
    )


def _text(match: Dataset, keyword: str) -> str:
    return str(match.get(keyword) or "").strip()


def _number(match: Dataset, keyword: str) -> int | None:
    try:
        return int(match.get(keyword))
    except (TypeError, ValueError):  # absent, empty, or not a number
        return None
