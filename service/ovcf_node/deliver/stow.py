"""Destinations of type stow: STOW-RS to a DICOMweb server (PS3.18 10.5).

One request an instance, over one connection: whatever a proxy or the server answers is about that instance alone, a
large one does not take the others with it, and memory holds one piece of one file. Only a store response that names
the instance counts as a receipt: a sign-in page of some gateway is a 200 too.
"""

import json
import re
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx

from ovcf_node import __version__
from ovcf_node.config import Destination
from ovcf_node.deliver.outcome import File, GoOn, Outcome, judge
from ovcf_node.errors import OvcfError, Permanent, Transient

_PIECE = 2**18
_MAX_ANSWER = 2**20  # bytes; a store response about one instance has some hundred
_JSON = "application/dicom+json"
_STORE_RESPONSES = (200, 202, 400, 409)
_ABOUT_THE_INSTANCE = (400, 409, 413, 415, 422)
_SERVICE_AWAY = (429, 502, 503, 504)
_HAS_IT = (0x0111, 0xB00E)
_NO_SERVICE = ("no_connection", "no_answer", "http_status")
_LOST = "connection_lost"  # in the middle: perhaps over this instance
_NOT_OFFERED = (404, 405, 501)
_WANTS_CERTIFICATE = " (does it want a client certificate?)"

_REFERENCED, _FAILED, _OTHER_FAILURES = "00081199", "00081198", "0008119A"
_SOP_UID = "00080018"
_SOP_INSTANCE_UID, _FAILURE_REASON, _WARNING_REASON = "00081155", "00081197", "00081196"


def send(destination: Destination, files: Sequence[File], go_on: GoOn) -> list[Outcome]:
    """Store files one after the other; the first answer that is about the service and not the instance ends it."""
    outcomes: dict[str, Outcome] = {}
    try:
        with _client(destination) as client:
            for path, _, uid in files:
                go_on()
                outcomes[uid] = _store(client, destination, path, uid)
    except (Transient, Permanent) as error:
        # No connection, no permission, a wrong URL: nothing is known against the instances. It ends when the network or
        # an administrator mends it.
        silent = "unreachable" if error.code in _NO_SERVICE else "instance"
        cause = "refused" if isinstance(error, Permanent) else silent
        for _, _, uid in files:
            outcomes.setdefault(uid, Outcome(uid, "retry", None, str(error), cause))
    return [outcomes[uid] for _, _, uid in files]


def echo(destination: Destination) -> str:
    """Ask by QIDO-RS for at most one study, or for the capabilities where the server offers no search."""
    begin = time.monotonic()
    with _client(destination) as client:
        done, code = "QIDO-RS", _status(client, destination, "GET", "/studies?limit=1")
        if code in (403, *_NOT_OFFERED):  # a token may be good for storing alone
            done, code = "OPTIONS", _status(client, destination, "OPTIONS", "/studies")
    if code >= 300:
        raise _refusal(code, destination)
    return f"{done} at {destination.url} answered in {(time.monotonic() - begin) * 1000:.0f} ms"


def found(destination: Destination, study_instance_uid: str, instances: Mapping[str, str]) -> set[str]:
    """Ask by QIDO-RS for the instances of the study. Raises Permanent `not_searchable` where there is no search."""
    path = f"/studies/{study_instance_uid}/instances"
    with _client(destination) as client, _transport_errors(destination), client.stream("GET", destination.url + path) as got:
        if got.status_code == 204:
            return set()
        if got.status_code in _NOT_OFFERED:
            raise Permanent("not_searchable", _words(got.status_code))
        if got.status_code != 200:
            raise _refusal(got.status_code, destination)
        matches = _parsed(got, time.monotonic() + destination.timeout_s)
    if not isinstance(matches, list):
        raise Permanent("not_searchable", "the answer is no list of instances")
    return {str(_first(match, _SOP_UID)) for match in matches if isinstance(match, dict)} & set(instances)


def _status(client: httpx.Client, destination: Destination, method: str, path: str) -> int:
    with _transport_errors(destination), client.stream(method, destination.url + path) as response:
        return response.status_code  # the body may name a patient: it is not even read


@contextmanager
def _client(destination: Destination) -> Iterator[httpx.Client]:
    headers = {"Accept": _JSON, "User-Agent": f"ovcf-node/{__version__}"}
    if destination.token:
        headers["Authorization"] = f"Bearer {_token(destination.token)}"
    with httpx.Client(
        headers=headers, verify=_tls(destination), timeout=destination.timeout_s, follow_redirects=False,
        trust_env=False,  # a proxy or a .netrc that nobody entered here has no business with results
    ) as client:
        yield client


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise Permanent("token", f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Permanent("token", f"{path} holds no token") from error
    if not re.fullmatch(r"[!-~]+", token):
        raise Permanent("token", f"{path} holds no token")
    return token


def _tls(destination: Destination) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=destination.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if destination.certificate:
            context.load_cert_chain(destination.certificate, destination.key)
    except OSError as error:  # ssl.SSLError is one
        raise Permanent("certificate", f"ca, certificate or key: {error.strerror or type(error).__name__}") from error
    return context


def _store(client: httpx.Client, destination: Destination, path: Path, uid: str) -> Outcome:
    try:
        file = path.open("rb")
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)  # else a disk may answer again
        state, code = ("rejected", "file_missing") if gone else ("retry", "io_error")
        return Outcome(uid, state, None, f"{code}: {error.strerror}")
    with file:
        if file.read(132)[128:] != b"DICM":
            return Outcome(uid, "rejected", None, "file_unreadable: not a DICOM file")
        size = file.seek(0, 2)
        file.seek(0)
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(len(head) + size + len(tail)),  # many servers take no chunked body
        }
        content = _pieces(head, file, tail)
        with (
            _transport_errors(destination),
            client.stream("POST", f"{destination.url}/studies", content=content, headers=headers) as response,
        ):
            code = response.status_code
            answer = _answer(response, time.monotonic() + destination.timeout_s) if code in _STORE_RESPONSES else {}
    return _named(answer, uid) or _unnamed(code, uid, destination)


def _pieces(head: bytes, file: BinaryIO, tail: bytes) -> Iterator[bytes]:
    yield head
    while piece := file.read(_PIECE):
        yield piece
    yield tail


def _answer(response: httpx.Response, deadline: float) -> dict[str, Any]:
    """Return the store response (PS3.18 10.5.3) as DICOM JSON, {} for anything else."""
    parsed = _parsed(response, deadline)
    if isinstance(parsed, list) and len(parsed) == 1:  # some servers wrap it, as PS3.18 F.2 has it for results
        parsed = parsed[0]
    return parsed if isinstance(parsed, dict) else {}


def _parsed(response: httpx.Response, deadline: float) -> Any:
    """Return the JSON of a body, None for anything else or more than a megabyte."""
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > _MAX_ANSWER:
            return None
        if time.monotonic() > deadline:
            raise Transient("no_answer", "the answer does not end")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _named(answer: dict[str, Any], uid: str) -> Outcome | None:
    """Return what the store response says of the instance, None when it does not name it."""
    for item in _items(answer, _REFERENCED):
        if _first(item, _SOP_INSTANCE_UID) == uid:
            warning = _first(item, _WARNING_REASON)
            return judge(uid, warning) if _is_warning(warning) else Outcome(uid, "accepted", None, "")
    for item in _items(answer, _FAILED) + _items(answer, _OTHER_FAILURES):
        if _first(item, _SOP_INSTANCE_UID) in (uid, None):
            reason = _first(item, _FAILURE_REASON)
            known = isinstance(reason, int) and 0 < reason <= 0xFFFF
            return _not_stored(uid, reason) if known else Outcome(uid, "rejected", None, "refused without a failure reason")
    return None


def _not_stored(uid: str, reason: int) -> Outcome:
    """Judge a Failure Reason. What stands among the failures is not stored, even under a code that is a warning elsewhere.

    The codes of the DICOM server of Azure: 0xB00E it has the instance, 0xB007 the data set does not match its SOP class,
    0xB00F it is being stored, or an earlier attempt broke off.
    """
    outcome = judge(uid, reason)
    if outcome.state != "accepted" or reason in _HAS_IT:
        return outcome
    text = f"0x{reason:04X} among the failures: not stored"
    if reason == 0xB007:
        return Outcome(uid, "rejected", reason, text, "form")
    return Outcome(uid, "retry" if _is_warning(reason) else "rejected", reason, text)


def _is_warning(value: object) -> bool:
    return isinstance(value, int) and value >> 12 == 0xB


def _items(dataset: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    element = dataset.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _first(item: dict[str, Any], tag: str) -> Any:
    element = item.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    return value[0] if isinstance(value, list) and value else None


def _unnamed(code: int, uid: str, destination: Destination) -> Outcome:
    """Return the outcome of a status alone; raise where it is about the service."""
    words = _words(code)
    if code < 300:
        return Outcome(uid, "retry", None, f"{words}, but no store response that names the instance")
    if code in _ABOUT_THE_INSTANCE:
        return Outcome(uid, "rejected", None, words)
    if code in (408, 425, 429) or code >= 500:
        return Outcome(uid, "retry", None, words, "unreachable" if code in _SERVICE_AWAY else "instance")
    raise _refusal(code, destination)


def _refusal(code: int, destination: Destination) -> OvcfError:
    if code >= 500 or code == 429:
        return Transient("http_status", _words(code))
    if code < 400:
        return Permanent("http_status", f"{_words(code)}: redirects are not followed; correct the url {destination.url}")
    hint = ": is the url right?" if code in _NOT_OFFERED else ""
    return Permanent("http_status", _words(code) + hint)


def _words(code: int) -> str:
    try:
        return f"HTTP {code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"HTTP {code}"


@contextmanager
def _transport_errors(destination: Destination) -> Iterator[None]:
    where = urlsplit(destination.url).netloc
    try:
        yield
    except httpx.TimeoutException as error:
        raise Transient("no_answer", f"{where}: nothing within {destination.timeout_s:g} s") from error
    except httpx.NetworkError as error:
        code = "no_connection" if isinstance(error, httpx.ConnectError) else _LOST
        raise Transient(code, f"{where}: {re.sub(r'[^ -~]', '?', str(error))[:160]}") from error
    except httpx.RemoteProtocolError as error:
        hint = "" if destination.certificate or urlsplit(destination.url).scheme == "http" else _WANTS_CERTIFICATE
        raise Transient(_LOST, f"{where}: it ended the connection without a valid answer{hint}") from error
    except httpx.RequestError as error:  # a body that cannot be decoded is one too; its words may quote a header of ours
        raise Transient(_LOST, f"{where}: {type(error).__name__}") from error
