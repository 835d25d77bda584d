"""What an honest peer sends, PDU by PDU: where the changes begin."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context

from dicom_peers import CT_IMAGE, encoded, instance, receiving
from ovcf_node.network import contexts

OTHERS = (
    b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00",  # A-RELEASE-RQ
    b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00",  # A-RELEASE-RP
    b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00",  # A-ABORT
    b"\x03\x00\x00\x00\x00\x04\x00\x01\x01\x03",  # A-ASSOCIATE-RJ
)


@cache
def pdus() -> tuple[bytes, ...]:
    """Return association requests, data PDUs of several services and all other kinds of PDU."""
    sent: list[bytes] = []
    with TemporaryDirectory() as folder, receiving(Path(folder)) as (receiver, _):
        for negotiation in ([], _negotiation()):
            ae = AE("SCANNER")
            requested = [build_context(uid) for uid in (contexts.VERIFICATION, CT_IMAGE, contexts.STORAGE_COMMITMENT)]
            opened = ae.associate(
                "127.0.0.1", receiver.port, contexts=requested, ae_title="OVCF_NODE", ext_neg=negotiation,
                evt_handlers=[(evt.EVT_DATA_SENT, lambda event: sent.append(bytes(event.data))),
                              (evt.EVT_DATA_RECV, lambda event: sent.append(bytes(event.data)))],
            )
            opened.send_c_echo()
            opened.send_c_store(instance(1, size=4))
            opened.release()
    return tuple(dict.fromkeys([*sent, *_messages(), *OTHERS]))


def _negotiation() -> list:
    window, extended = AsynchronousOperationsWindowNegotiation(), SOPClassExtendedNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    extended.sop_class_uid, extended.service_class_application_information = CT_IMAGE, b"\x02\x00\x03\x00\x01\x00"
    common = SOPClassCommonExtendedNegotiation()
    common.sop_class_uid, common.service_class_uid = CT_IMAGE, "1.2.840.10008.4.2"
    user = UserIdentityNegotiation()
    user.user_identity_type, user.primary_field, user.secondary_field = 2, b"user", b"word"
    user.positive_response_requested = True
    return [window, extended, common, user, build_role(CT_IMAGE, scu_role=True, scp_role=True)]


def _messages() -> list[bytes]:
    """Return messages of the services that queries, commitment and cancelling use, each as one P-DATA-TF PDU."""
    said = []
    for field, elements in (
        (0x0020, {"AffectedSOPClassUID": contexts.STUDY_ROOT_FIND, "Priority": 0}),
        (0x0021, {"AffectedSOPClassUID": contexts.STUDY_ROOT_MOVE, "Priority": 0, "MoveDestination": "PACS"}),
        (0x0010, {"AffectedSOPClassUID": contexts.STUDY_ROOT_GET, "Priority": 2}),
        (0x0FFF, {"MessageIDBeingRespondedTo": 1}),
        (0x0130, {"RequestedSOPClassUID": contexts.STORAGE_COMMITMENT, "RequestedSOPInstanceUID": "1.2.840.10008.1.20.1.1",
                  "ActionTypeID": 1}),
        (0x0100, {"AffectedSOPClassUID": contexts.STORAGE_COMMITMENT, "AffectedSOPInstanceUID": "1.2.840.10008.1.20.1.1",
                  "EventTypeID": 1}),
        (0x8001, {"AffectedSOPClassUID": CT_IMAGE, "MessageIDBeingRespondedTo": 1, "Status": 0}),
    ):
        command = Dataset()
        command.CommandField, command.MessageID, command.CommandDataSetType = field, 7, 0x0001
        for keyword, value in elements.items():
            setattr(command, keyword, value)
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", "1.2.3"
        said.append(data_pdu([(1, 3, _encoded(command)), (1, 2, _encoded(identifier))]))
    return said


def _encoded(dataset: Dataset) -> bytes:
    return encoded(dataset, implicit=True)


def data_pdu(values: list[tuple[int, int, bytes]]) -> bytes:
    """Return a P-DATA-TF PDU of (context ID, control header, fragment)."""
    body = b"".join(
        (len(fragment) + 2).to_bytes(4, "big") + bytes([context, control]) + fragment
        for context, control, fragment in values
    )
    return b"\x04\x00" + len(body).to_bytes(4, "big") + body
