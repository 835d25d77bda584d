"""QIDO-RS: search for studies, series and instances of our results (PS3.18 10.6)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from starlette.requests import Request
from starlette.responses import Response

from ovcf_node.ledger.catalogue import COMPUTED, KEYS, BadKey, Level, Match, Query
from ovcf_node.query.dicomweb.answers import DICOM_JSON, PRIVATE, Problem
from ovcf_node.query.dicomweb.negotiation import Offer, choose
from ovcf_node.query.dicomweb.service import Service, named_in

_PAGE = 1000  # most entities in one answer; the rest is told of by a Warning and reached by `offset`
_FURTHEST = 10**9
_NOT_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed"  # PS3.18 8.3.4.2
_UNKNOWN = "A parameter is not supported, it was ignored"  # PS3.18 8.3; without its words, which may be a patient's
_OFFERS = (Offer(DICOM_JSON),)

# Table 10.6.3-3, -4 and -5: always in the answer, without a value where there is none ...
_ALWAYS: dict[Level, tuple[str, ...]] = {
    Level.STUDY: (
        "StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "ReferringPhysicianName", "PatientName",
        "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
    ),
    Level.SERIES: ("Modality", "SeriesInstanceUID", "SeriesNumber", "NumberOfSeriesRelatedInstances"),
    Level.INSTANCE: ("SOPClassUID", "SOPInstanceUID", "InstanceNumber"),
}
# ... and where there is one.
_IF_KNOWN: dict[Level, tuple[str, ...]] = {
    Level.STUDY: ("SpecificCharacterSet", "TimezoneOffsetFromUTC", "StudyDescription", "IssuerOfPatientID"),
    Level.SERIES: (
        "SpecificCharacterSet", "TimezoneOffsetFromUTC", "SeriesDescription", "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime", "RequestAttributesSequence", "SeriesDate", "SeriesTime", "BodyPartExamined",
    ),
    Level.INSTANCE: (
        "SpecificCharacterSet", "TimezoneOffsetFromUTC", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
        "ContentDate", "ContentTime", "CompletionFlag", "VerificationFlag", "ConceptNameCodeSequence",
        "ContentTemplateSequence",
    ),
}
_UIDS = {Level.STUDY: "StudyInstanceUID", Level.SERIES: "SeriesInstanceUID", Level.INSTANCE: "SOPInstanceUID"}


@dataclass
class _Asked:
    """A query string, understood."""

    keys: dict[str, str] = field(default_factory=dict)
    fields: set[str] = field(default_factory=set)
    everything: bool = False
    limit: int = _PAGE
    offset: int = 0
    warnings: list[str] = field(default_factory=list)


def search(service: Service, request: Request, level: Level) -> Response:
    """Return the matching entities of a level, newest first: 200 with DICOM JSON, or 204 without a body."""
    choose(request, _OFFERS)
    asked = _understand(request)
    named = named_in(request)
    keys = _together(named, asked.keys)
    if keys is None or not asked.limit:
        return _answer([], asked)
    try:
        query = Query(level, keys, service.dialect, offset=asked.offset, limit=asked.limit + 1)
        matches = list(service.catalogue.find(query))
    except BadKey as error:
        raise Problem(400, f"{error.keyword} has no valid value") from error
    if len(matches) > asked.limit:
        asked.warnings.append("There are additional results that can be requested")
    described = [upper for upper in _UIDS if upper < level and _UIDS[upper] not in named] + [level]
    return _answer([_entity(service, request, m, asked, described) for m in matches[:asked.limit]], asked)


def _answer(entities: list[dict[str, Any]], asked: _Asked) -> Response:
    headers = dict(PRIVATE)
    if asked.warnings:
        headers["Warning"] = ", ".join(f'299 ovcf-node "{text}"' for text in asked.warnings)
    if not entities:
        return Response(status_code=204, headers=headers)
    return Response(json.dumps(entities, separators=(",", ":")), headers=headers, media_type=DICOM_JSON)


def _understand(request: Request) -> _Asked:
    asked = _Asked()
    for name, value in request.query_params.multi_items():
        if name == "limit":
            asked.limit = min(_number(name, value), _PAGE)
        elif name == "offset":
            asked.offset = _number(name, value)
        elif name == "includefield":
            _include(asked, value)
        elif name == "fuzzymatching":
            if value.lower() != "false":
                asked.warnings.append(_NOT_FUZZY)
        elif keyword := _keyword(name):
            _match(asked, keyword, value)
        elif name != "accept" and _UNKNOWN not in asked.warnings:
            asked.warnings.append(_UNKNOWN)
    return asked


def _number(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", value) or int(value) > _FURTHEST:
        raise Problem(400, f"{name} is not a number of results")
    return int(value)


def _include(asked: _Asked, value: str) -> None:
    for name in value.split(","):
        if name == "all":
            asked.everything = True
        elif name and not _is_private(name):
            keyword = _keyword(name)
            if keyword is None:
                raise Problem(400, "includefield names no attribute of the standard")
            asked.fields.add(keyword.partition(".")[0])  # of a sequence the whole is returned


def _match(asked: _Asked, keyword: str, value: str) -> None:
    asked.fields.add(keyword.partition(".")[0])
    if keyword not in KEYS:
        if value:
            asked.warnings.append(f"Matching on {keyword} is not supported, it was ignored")
        return
    several = dictionary_VR(tag_for_keyword(keyword.rpartition(".")[2])) in ("UI", "CS")  # no value holds a comma
    if several:
        value = value.replace(",", "\\")
    if keyword not in asked.keys:
        asked.keys[keyword] = value
    elif several:
        asked.keys[keyword] += f"\\{value}"
    else:
        raise Problem(400, f"{keyword} is given twice")


def _is_private(name: str) -> bool:
    """Say whether this is a tag of an odd group, which no result has: not returned, and no reason to refuse."""
    return bool(re.fullmatch(r"[0-9A-Fa-f]{3}[13579BDFbdf][0-9A-Fa-f]{4}", name))


def _keyword(name: str) -> str | None:
    """Return an attribute of PS3.6 by keyword, None for anything else.

    It may come as tag, and inside sequences with dots (PS3.18 8.3.4.1).
    """
    parts = []
    for part in name.split("."):
        if re.fullmatch(r"[0-9A-Fa-f]{8}", part):
            part = keyword_for_tag(int(part, 16))
        if not part or tag_for_keyword(part) is None:
            return None
        parts.append(part)
    return ".".join(parts)


def _together(named: Mapping[str, str], asked: Mapping[str, str]) -> dict[str, str] | None:
    """Return what path and query string ask for together; None where both cannot be true."""
    for keyword, uid in named.items():
        values = [v.strip() for v in asked.get(keyword, "").split("\\")]
        if any(v.strip("*") for v in values) and uid not in values:
            return None
    return dict(asked) | dict(named)


def _entity(
    service: Service, request: Request, match: Match, asked: _Asked, described: list[Level]
) -> dict[str, dict[str, Any]]:
    found = match.attributes
    wanted = {k for level in described for k in _IF_KNOWN[level] if _tag(k) in found}
    wanted |= {keyword for level in described for keyword in _ALWAYS[level]}
    wanted |= {uid for level, uid in _UIDS.items() if level <= match.level}
    wanted |= {k for k in asked.fields if _tag(k) in found or _tag(k) in match.left_out or k in KEYS or k in COMPUTED}
    tags = {_tag(keyword) for keyword in wanted} | (set(found) | match.left_out if asked.everything else set())
    if tags & match.left_out:
        found = service.catalogue.header(match.result_id) | found
    entity = {tag: found[tag] if tag in found else _empty(tag) for tag in tags}
    uids = [found[_tag(uid)]["Value"][0] for level, uid in _UIDS.items() if level <= match.level]
    names = dict(zip(("study", "series", "instance"), uids, strict=False))
    entity["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}  # Instance Availability
    entity["00081190"] = {"vr": "UR", "Value": [service.address(request, **names)]}  # Retrieve URL
    return dict(sorted(entity.items()))


def _tag(keyword: str) -> str:
    return f"{tag_for_keyword(keyword):08X}"


def _empty(tag: str) -> dict[str, Any]:
    return {"vr": dictionary_VR(int(tag, 16)).partition(" ")[0]}
