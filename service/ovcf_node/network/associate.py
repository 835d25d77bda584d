"""Open associations as a requestor; C-ECHO and C-STORE over them (PS3.4 A, B)."""

import hashlib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, Association, evt
from pynetdicom.presentation import PresentationContext, build_context, build_role

from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import contexts, stack, tls
from ovcf_node.network.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ovcf_node.network.pausing import one_message_at_a_time, pause_for_certain

_MAX_PDU = 131072
_MAX_CONTEXTS = 128  # PS3.8 9.3.2.2: odd ids 1..255
_CONVERTIBLE = (contexts.EXPLICIT_LITTLE_ENDIAN, contexts.DEFLATED_LITTLE_ENDIAN)

NO_ASSOCIATION = ("association_failed", "association_rejected", "unknown_host", "tls")
"""Codes of errors that say that there was no association at all: about the acceptor, not about what was to be sent."""

REJECTED = {  # PS3.8 table 9-21: (source, diagnostic)
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


@dataclass(frozen=True)
class Remote:
    """An acceptor: where it listens, what it is called, what we call ourselves. `timeout_s` holds for every step.

    encrypted      over TLS, with the certificates of this process
    expected_name  the name that its certificate must hold; None: `host`
    """

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    timeout_s: float = 30.0
    encrypted: bool = False
    expected_name: str | None = None


@dataclass(frozen=True)
class StoreFile:
    """A DICOM file to send; its transfer syntax is read from its File Meta Information.

    sha256  of the whole file: one that is not the same any more is not sent; None: nobody knows
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    sha256: str | None = None


@dataclass(frozen=True)
class Originator:
    """Who asked by C-MOVE for what is sent, and the Message ID of the request (PS3.7 9.1.1.1)."""

    ae_title: str
    message_id: int


@dataclass(frozen=True)
class StoreReply:
    """What became of one file; `status` is None when it was not sent: unreadable, or no presentation context for it."""

    sop_instance_uid: str
    status: int | None
    text: str
    no_context: bool = False


def echo(remote: Remote) -> float:
    """Verify that the acceptor answers a C-ECHO and return the time it took with its association, seconds.

    Raises Transient (no connection, no answer, congestion) or Permanent (rejected, Verification refused).
    """
    begin = time.monotonic()
    with association(remote, [build_context(contexts.VERIFICATION)]) as opened:
        if not opened.accepted_contexts:
            raise Permanent("context_refused", "Verification is not accepted")
        status = status_of(opened.send_c_echo())
    if status != 0x0000:
        raise Permanent("echo_failed", f"status 0x{status:04X}")
    return time.monotonic() - begin


def store(
    remote: Remote, files: Sequence[StoreFile], on_reply: Callable[[StoreReply], None],
    originator: Originator | None = None,
) -> None:
    """Send files over one association and report the reply to each as it comes.

    The bytes of a file are sent as they are wherever its transfer syntax is accepted. An acceptor that takes only
    Implicit VR Little Endian, the one syntax everybody must accept (PS3.5 10.1), gets it converted. Raises Transient
    when the association cannot be opened or is lost, Permanent when it is rejected; replies reported before that stand.
    What `on_reply` raises ends the association in order.
    """
    readable: list[tuple[StoreFile, str]] = []
    for file in files:
        try:
            readable.append((file, _transfer_syntax(file.path)))
        except Permanent as error:
            on_reply(StoreReply(file.sop_instance_uid, None, str(error)))
    if not readable:
        return
    with association(remote, _storage_contexts(readable)) as opened:
        for number, (file, syntax) in enumerate(readable, start=1):
            on_reply(_store_one(opened, file, syntax, number, originator))


def store_over(opened: Association, file: StoreFile, message_id: int) -> StoreReply:
    """Send a file over an association that the peer opened to fetch it (C-GET). Raises Transient if it is lost."""
    try:
        return _store_one(opened, file, _transfer_syntax(file.path), message_id)
    except Permanent as error:
        return StoreReply(file.sop_instance_uid, None, str(error))


def _never_wait_for_ever(event: evt.Event, timeout_s: float) -> None:
    """Bound every read and write of a connection that we opened.

    pynetdicom clears the socket's time-out once connected. A peer that stops within a PDU, or whose TLS sends tickets and
    then nothing, would hold the thread that also has to end the association: no time-out of DICOM could end it then.
    """
    event.assoc.dul.socket.socket.settimeout(timeout_s)


@contextmanager
def association(
    remote: Remote, requested: list[PresentationContext], *, scp_roles: Sequence[str] = (), handlers: Sequence[tuple] = ()
) -> Iterator[Association]:
    """Open an association and release it with the block; it may be established without any accepted context.

    scp_roles  SOP classes of `requested` for which we are the SCP (SCP/SCU Role Selection, PS3.7 D.3.3.4).
    handlers   pynetdicom's (event, handler) or (event, handler, arguments).

    Raises Transient (no connection, no answer, congestion) or Permanent (rejected; `tls`: no certificates of our own).
    """
    ae = AE(ae_title=remote.calling_ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = remote.timeout_s
    try:
        opened = ae.associate(
            remote.host,
            remote.port,
            contexts=requested,
            ae_title=remote.called_ae_title,
            max_pdu=_MAX_PDU,
            ext_neg=[build_role(sop_class_uid, scp_role=True) for sop_class_uid in scp_roles],
            evt_handlers=[
                (evt.EVT_CONN_OPEN, stack.send_without_delay),
                (evt.EVT_CONN_OPEN, _never_wait_for_ever, [remote.timeout_s]), *handlers,
            ],
            tls_args=(tls.certificates().client(), remote.expected_name or remote.host) if remote.encrypted else None,
        )
    except socket.gaierror as error:
        raise Transient("unknown_host", f"{remote.host}: {error.strerror}") from error
    if opened.is_rejected:
        raise _rejection(opened)
    try:
        # An acceptor that accepts no context aborts or keeps the association; both arrive here without one.
        if not opened.is_established and not opened.rejected_contexts:
            raise Transient("association_failed", _why_not(remote))
        if opened.is_established:
            pause_for_certain(opened)
            one_message_at_a_time(opened)
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def _rejection(opened: Association) -> Permanent | Transient:
    answer = opened.acceptor.primitive
    reason = REJECTED.get((answer.result_source, answer.diagnostic), "unknown reason")
    # Presentation-related reasons (source 3) are congestion and limits: they pass, whatever the result field says.
    kind = Transient if answer.result == 0x02 or answer.result_source == 0x03 else Permanent
    return kind("association_rejected", reason)


def _why_not(remote: Remote) -> str:
    # pynetdicom does not say why a connection failed, and the people who must repair it need to know.
    where = f"{remote.host}:{remote.port}"
    try:
        with socket.create_connection((remote.host, remote.port), timeout=remote.timeout_s) as connection:
            if remote.encrypted:
                tls.certificates().client().wrap_socket(
                    connection, server_hostname=remote.expected_name or remote.host).close()
    except ssl.SSLCertVerificationError as error:
        return f"{where}: its certificate is refused: {error.verify_message}"
    except ssl.SSLError as error:
        return f"{where}: TLS: {error.reason or 'handshake failed'}"
    except TimeoutError:
        return f"{where}: no connection within {remote.timeout_s:g} s"
    except OSError as error:
        return f"{where}: {error.strerror or error}"
    return f"{where}: connected, but the association request was aborted or not answered"


def _storage_contexts(files: list[tuple[StoreFile, str]]) -> list[PresentationContext]:
    # One context a transfer syntax: the acceptor answers each, and our bytes go out unchanged where it can take them.
    pairs = dict.fromkeys((file.sop_class_uid, syntax) for file, syntax in files)
    implicit = [(f.sop_class_uid, contexts.IMPLICIT_LITTLE_ENDIAN) for f, syntax in files if syntax in _CONVERTIBLE]
    pairs |= dict.fromkeys(implicit)
    if len(pairs) > _MAX_CONTEXTS:
        raise Permanent("too_many_contexts", f"{len(pairs)} presentation contexts in one association")
    return [build_context(sop_class_uid, syntax) for sop_class_uid, syntax in pairs]


def _transfer_syntax(path: Path) -> str:
    try:
        return str(read_file_meta_info(path).TransferSyntaxUID)
    except OSError as error:
        raise Permanent("file_missing", error.strerror or "cannot be read") from error
    except (InvalidDicomError, AttributeError) as error:
        raise Permanent("file_unreadable", "not a DICOM file") from error


def _store_one(
    opened: Association, file: StoreFile, syntax: str, message_id: int, originator: Originator | None = None
) -> StoreReply:
    dataset: Path | Dataset = file.path
    accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in opened.accepted_contexts if c.as_scu}
    if (file.sop_class_uid, syntax) not in accepted:
        if syntax not in _CONVERTIBLE or (file.sop_class_uid, contexts.IMPLICIT_LITTLE_ENDIAN) not in accepted:
            text = f"no presentation context accepted for {contexts.name(file.sop_class_uid)}"
            return StoreReply(file.sop_instance_uid, None, text, no_context=True)
        dataset = dcmread(file.path)
    if file.sha256 is not None and not _unchanged(file):
        return StoreReply(file.sop_instance_uid, None, "the stored object is missing or changed: not sent")
    if not opened.is_established:
        raise Transient("association_lost", "aborted by the peer or the network")
    answer = opened.send_c_store(
        dataset, msg_id=message_id % 65535 + 1, originator_aet=originator.ae_title if originator else None,
        originator_id=originator.message_id if originator else None,
    )
    return StoreReply(file.sop_instance_uid, status_of(answer), comment_of(answer))


def _unchanged(file: StoreFile) -> bool:
    try:
        return hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
    except OSError:
        return False


def status_of(answer: Dataset) -> int:
    """Return the status of a DIMSE response. Raises Transient (`association_lost`) when there was no valid one."""
    if "Status" not in answer:  # connection lost, aborted, timed out, or an invalid response
        raise Transient("association_lost", "no valid response: aborted, lost, or timed out")
    return int(answer.Status)


def comment_of(answer: Dataset) -> str:
    """Return the Error Comment (0000,0902) of a DIMSE response, fit for one line."""
    return re.sub(r"[^ -~]", "?", str(answer.get("ErrorComment", "")))[:64]
