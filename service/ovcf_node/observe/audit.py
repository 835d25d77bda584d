"""The audit trail: who did what with whose images, as messages of the DICOM Audit Trail Message Format Profile (PS3.15 A.5).

The one place where patient identity may go. A process says once where its messages go (`install`); without that nothing is
made, and nothing of a patient kept. What to say when is the business of the callers, how to say it is here.
"""

import base64
import os
import re
import socket
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

Sink = Callable[[bytes], None]
"""Keeps one encoded message until the collector has it; must not raise for what a retry can mend."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SUCCESS, _FAILURE = "0", "4"
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>'  # without the line feed that ElementTree adds: a line a message


class Code(tuple[str, str], Enum):
    """Codes of CID 400, 401 and 402 (PS3.16), all of scheme DCM, with their meaning."""

    APPLICATION_ACTIVITY = ("110100", "Application Activity")
    BEGIN_TRANSFERRING = ("110102", "Begin Transferring DICOM Instances")
    ACCESSED = ("110103", "DICOM Instances Accessed")
    TRANSFERRED = ("110104", "DICOM Instances Transferred")
    STUDY_DELETED = ("110105", "DICOM Study Deleted")
    QUERY = ("110112", "Query")
    SECURITY_ALERT = ("110113", "Security Alert")
    USER_AUTHENTICATION = ("110114", "User Authentication")
    APPLICATION_START = ("110120", "Application Start")
    APPLICATION_STOP = ("110121", "Application Stop")
    LOGIN = ("110122", "Login")
    LOGOUT = ("110123", "Logout")
    NODE_AUTHENTICATION = ("110126", "Node Authentication")
    SOFTWARE_CONFIGURATION = ("110131", "Software Configuration")
    RESTRICTED_FUNCTION = ("110132", "Use of Restricted Function")
    APPLICATION = ("110150", "Application")
    DESTINATION = ("110152", "Destination Role ID")
    SOURCE = ("110153", "Source Role ID")
    STUDY_INSTANCE_UID = ("110180", "Study Instance UID")
    SOP_CLASS_UID = ("110181", "SOP Class UID")
    NODE_ID = ("110182", "Node ID")


@dataclass(frozen=True)
class Participant:
    """A person or a process that takes part; `ae_title` and `address` where it has them."""

    user_id: str
    requestor: bool = False
    role: Code | None = None
    ae_title: str = ""
    address: str = ""


@dataclass(frozen=True)
class Study:
    """Whose images: `instances` counts them by SOP Class UID."""

    study_instance_uid: str
    patient_id: str = ""
    patient_name: str = ""
    accession_number: str = ""
    instances: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Who reports: the node's name, its site, the process."""

    installation: str
    site: str
    process: str


class _Rate:
    """Lets so many pass a minute, and counts the others."""

    AT_MOST = 60

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun, self._passed, self._held = 0.0, 0, 0

    def left_out(self, now: float) -> int | None:
        """Return None for one too many, else how many were too many since the last that passed."""
        with self._lock:
            if now >= self._begun + 60.0:
                self._begun, self._passed = now, 0
            if self._passed >= self.AT_MOST:
                self._held += 1
                return None
            held, self._held = self._held, 0
            self._passed += 1
            return held


_alerts = _Rate()
_sink: Sink | None = None
_source = Source("ovcf-node", "", "")


def install(source: Source, sink: Sink | None) -> None:
    """Say where this process's messages go; None: nowhere, and none is made."""
    global _source, _sink  # as logging: one process, one trail
    _source, _sink = source, sink


def wanted() -> bool:
    """Say whether messages go anywhere: whoever must read files to know a patient need not otherwise."""
    return _sink is not None


def ourselves(role: Code | None = None, *, requestor: bool = False, ae_title: str = "") -> Participant:
    """Return this process as a participant."""
    return Participant(f"{_source.process}:{os.getpid()}", requestor, role, ae_title, _address())


def activity(started: bool) -> None:
    """Say that this process has started or stops (A.5.3.1)."""
    kind = Code.APPLICATION_START if started else Code.APPLICATION_STOP
    _say(Code.APPLICATION_ACTIVITY, "E", [ourselves(Code.APPLICATION)], kind=kind)


def begin_transfer(source: Participant, destination: Participant, study: Study) -> None:
    """Say that instances are about to be sent (A.5.3.3)."""
    _say(Code.BEGIN_TRANSFERRING, "E", [source, destination], objects=_of_study(study))


def transferred(
    source: Participant, destination: Participant, study: Study, failure: str = "", *, created: bool = True
) -> None:
    """Say that a transfer has ended (A.5.3.7); `created`: by the receiver, which did not have them before."""
    _say(Code.TRANSFERRED, "C" if created else "R", [source, destination], failure, objects=_of_study(study))


def accessed(user: Participant, study: Study, *, action: str = "R") -> None:
    """Say that somebody looked at instances ("R"), or changed what is said of them ("U") (A.5.3.6)."""
    _say(Code.ACCESSED, action, [user], objects=_of_study(study))


def deleted(by: Participant, study: Study) -> None:
    """Say that what the node held of a study is gone (A.5.3.8)."""
    _say(Code.STUDY_DELETED, "D", [by], objects=_of_study(study))


def queried(
    source: Participant, destination: Participant, sop_class_uid: str, query: bytes, transfer_syntax_uid: str
) -> None:
    """Say what was asked (A.5.3.10): the identifier as it was encoded, or a query string."""
    asked = _object(sop_class_uid, "2", "3", Code.SOP_CLASS_UID)
    ET.SubElement(asked, "ParticipantObjectQuery").text = base64.b64encode(query).decode()
    detail = base64.b64encode(transfer_syntax_uid.encode()).decode()
    ET.SubElement(asked, "ParticipantObjectDetail", type="TransferSyntax", value=detail)
    _say(Code.QUERY, "E", [source, destination], objects=[asked])


def signed(user: Participant, *, into: bool, failure: str = "") -> None:
    """Say that a person signed in or out, or tried to (A.5.3.12)."""
    kind = Code.LOGIN if into else Code.LOGOUT
    _say(Code.USER_AUTHENTICATION, "E", [user, ourselves()], failure, kind=kind)


def alert(kind: Code, text: str, *others: Participant, failed: bool = True) -> None:
    """Say that something touches security (A.5.3.11); `text` names it, for the security officer.

    Strangers can provoke alerts, so there are only so many a minute; the next one says how many were left out.
    """
    if _sink is None:
        return
    left_out = _alerts.left_out(time.monotonic())
    if left_out is None:
        return
    if left_out:
        text = f"{text} ({left_out} more alerts before this one were not recorded)"
    subject = _object(_source.installation, "2", "13", Code.NODE_ID)
    _named(subject, _source.installation)
    ET.SubElement(
        subject, "ParticipantObjectDetail", type="Alert Description", value=base64.b64encode(text.encode()).decode(),
    )
    _say(Code.SECURITY_ALERT, "E", [ourselves(), *others], text if failed else "", kind=kind, objects=[subject])


def _say(
    event: Code, action: str, participants: Sequence[Participant], failure: str = "", *, kind: Code | None = None,
    objects: Sequence[ET.Element] = (),
) -> None:
    if _sink is None:
        return
    message = ET.Element("AuditMessage")
    identification = ET.SubElement(message, "EventIdentification", {
        "EventActionCode": action, "EventDateTime": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "EventOutcomeIndicator": _FAILURE if failure else _SUCCESS,
    })
    _coded(identification, "EventID", event)
    if kind is not None:
        _coded(identification, "EventTypeCode", kind)
    if failure:
        ET.SubElement(identification, "EventOutcomeDescription").text = _clean(failure)
    for participant in participants:
        _take_part(message, participant)
    site = {"AuditEnterpriseSiteID": _clean(_source.site)} if _source.site else {}
    reporter = ET.SubElement(message, "AuditSourceIdentification", {**site, "AuditSourceID": _clean(_source.installation)})
    ET.SubElement(reporter, "AuditSourceTypeCode", {"csd-code": "4"})
    message.extend(objects)
    _sink(_DECLARATION + ET.tostring(message, encoding="utf-8", xml_declaration=False))


def _take_part(message: ET.Element, participant: Participant) -> None:
    attributes = {"UserID": _clean(participant.user_id), "UserIsRequestor": str(participant.requestor).lower()}
    if participant.ae_title:
        attributes["AlternativeUserID"] = f"AETITLES={_clean(participant.ae_title)}"
    if participant.address:
        attributes |= {"NetworkAccessPointID": _clean(participant.address), "NetworkAccessPointTypeCode": "2"}
    element = ET.SubElement(message, "ActiveParticipant", attributes)
    if participant.role is not None:
        _coded(element, "RoleIDCode", participant.role)


def _of_study(study: Study) -> list[ET.Element]:
    told = _object(study.study_instance_uid, "2", "3", Code.STUDY_INSTANCE_UID)
    _named(told, study.study_instance_uid)
    description = ET.SubElement(told, "ParticipantObjectDescription")
    if study.accession_number:
        ET.SubElement(description, "Accession", Number=_clean(study.accession_number))
    for sop_class_uid, number in study.instances.items():
        ET.SubElement(description, "SOPClass", UID=_clean(sop_class_uid), NumberOfInstances=str(number))
    patient = _object(study.patient_id or "unknown", "1", "1", None)
    _named(patient, study.patient_name or "unknown")
    return [told, patient]


def _object(identifier: str, kind: str, role: str, code: Code | None) -> ET.Element:
    made = ET.Element("ParticipantObjectIdentification", {
        "ParticipantObjectID": _clean(identifier), "ParticipantObjectTypeCode": kind, "ParticipantObjectTypeCodeRole": role,
    })
    if code is None:  # a patient's number, of RFC 3881
        ET.SubElement(made, "ParticipantObjectIDTypeCode", {
            "csd-code": "2", "codeSystemName": "RFC-3881", "originalText": "Patient Number"})
    else:
        _coded(made, "ParticipantObjectIDTypeCode", code)
    return made


def _named(element: ET.Element, name: str) -> None:
    ET.SubElement(element, "ParticipantObjectName").text = _clean(name)


def _coded(parent: ET.Element, tag: str, code: Code) -> None:
    value, meaning = code.value
    ET.SubElement(parent, tag, {"csd-code": value, "codeSystemName": "DCM", "originalText": meaning})


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)


def _address() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"  # a host that does not know its own name
