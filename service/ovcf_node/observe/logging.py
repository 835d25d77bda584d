"""Structured logging to standard error in which no patient can be named.

What may be logged: an event (a constant name), a stage, states and stable codes, counts and durations, names of
destinations and processes, AE titles and addresses of peers, SOP Class and Transfer Syntax UIDs, and `Pseudonyms` of
study and series UIDs. Never: names, ids, dates of patients, accession numbers, physicians, descriptions, data sets,
UIDs of studies, series and instances, or text that a peer or a file supplied.

The processors below make a mistake harmless: they withhold values under keys that name identity, everything that is not
a plain JSON value (a pydicom data set, an element, an array), UIDs inside texts, the message of every exception that is
not ours, and the words of libraries that quote data sets. They cannot recognise a name inside a text: do not put it
there.
"""

import contextlib
import hashlib
import hmac
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict

from ovcf_node.errors import OvcfError, Transient

WITHHELD = "<withheld>"
_HANDLER = "ovcf-node"
_KEY_NAME = "log-key.secret"
_LIBRARIES = (
    "pynetdicom", "pydicom", "highdicom", "dbos", "sqlalchemy", "alembic", "PIL", "matplotlib", "httpx", "httpcore",
)
_TALKERS = ("ovcf_node", "dbos", "sqlalchemy", "alembic")  # these never see a data set, so their words are safe
_IDENTITY_WORDS = ("patient", "accession", "birth", "physician", "operator", "identity", "dataset", "description")
_IDENTITY_GROUP = re.compile(r"^0?x?0010[0-9a-f]{4}$")  # (0010,eeee): the patient group, PS3.6
_UID = re.compile(r"(?<!\d)(?:2\.25\.\d{6,}|[0-2](?:\.\d+){4,})")  # PS3.5 section 9
_STANDARD_ROOT = "1.2.840.10008."  # SOP classes, transfer syntaxes: not of one patient
_LOG = structlog.get_logger("ovcf_node.observe")


def keyed_hash(value: str, key: bytes) -> str:
    """Return 12 hexadecimal digits that stand for `value` and cannot be reversed by trying values without `key`."""
    return hmac.digest(key, value.encode(), hashlib.sha256).hex()[:12]


class Pseudonyms:
    """Names study and series UIDs in logs: one UID has one pseudonym in all processes of this installation."""

    def __init__(self, folder: Path):
        """Read the 32 random bytes of the key in `folder`, mode 0600, made at the first use; concurrent uses agree.

        Raises Transient (`log_key`) if it can be neither read nor made.
        """
        path = folder / _KEY_NAME
        try:
            if not path.exists():
                _make_key(path)
            self._key = path.read_bytes()
        except OSError as error:
            raise Transient("log_key", f"{path}: {error.strerror}") from error

    def __call__(self, uid: str) -> str:
        return keyed_hash(uid, self._key)


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(os.urandom(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename it never replaces: the first process wins
    finally:
        draft.unlink()


def configure(
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"], format: Literal["json", "console"],
    stream: TextIO | None = None,
) -> None:
    """Send structlog, the logging of all libraries, warnings and uncaught errors to `stream` (default: standard error).

    json: one object a line; console: for people. Libraries are heard from WARNING up. May be called again.
    """
    threshold = getattr(logging, level)
    stream = stream or sys.stderr
    renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    if format == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    prepare = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        describe_exception,
    ]
    structlog.configure(
        processors=[*prepare, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.name = _HANDLER
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*prepare, withhold_library_text],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, withhold_identity, renderer],
    ))
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.name == _HANDLER]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(threshold)
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.setLevel(max(library.level, threshold, logging.WARNING))
    warnings.showwarning = _warned
    sys.excepthook = _crashed
    threading.excepthook = lambda args: _crashed(args.exc_type, args.exc_value, args.exc_traceback)


def withhold_identity(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Processor: keep only plain values under keys that do not name identity, without UIDs of a patient's objects."""
    return _safe_mapping(event)


def withhold_library_text(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Processor for records of standard logging: a library that reads data sets may quote them, so only say where."""
    record: logging.LogRecord = event["_record"]
    if record.name.split(".")[0] not in _TALKERS:
        event["event"] = "library_message"
        event["where"] = f"{record.filename}:{record.lineno}"
    return event


def describe_exception(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Processor: replace `exc_info` by the chain of exception types and frames; only our own errors keep their text."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_lines(error))
    return event


def _lines(error: BaseException) -> list[str]:
    frames = [
        f"  {frame.f_globals.get('__name__', '?')}:{line} in {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return [_name(error), *frames, *(["caused by", *_lines(cause)] if cause else [])]


def _name(error: BaseException) -> str:
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, OvcfError) else kind


def _safe_mapping(values: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): WITHHELD if _names_identity(str(key)) else _safe(value) for key, value in values.items()}


def _names_identity(key: str) -> bool:
    plain = re.sub(r"[^0-9a-z]", "", key.lower())
    return _IDENTITY_GROUP.match(plain) is not None or any(word in plain for word in _IDENTITY_WORDS)


def _safe(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return _safe(value.value)
    if type(value) is str or isinstance(value, PurePath):
        return _UID.sub(lambda found: found[0] if found[0].startswith(_STANDARD_ROOT) else "<uid>", str(value))
    if isinstance(value, BaseException):
        return _safe(_name(value))
    if type(value) is dict:
        return _safe_mapping(value)
    if type(value) in (list, tuple, set, frozenset):
        return [_safe(item) for item in value]
    return f"<{type(value).__name__}>"


def _warned(
    _message: Warning | str, category: type[Warning], filename: str, lineno: int, *_rest: Any, **_more: Any
) -> None:
    # pydicom's warnings quote the value they complain about.
    _LOG.warning("library_warning", category=category.__name__, where=f"{Path(filename).name}:{lineno}")


def _crashed(kind: type[BaseException], error: BaseException | None, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    _LOG.critical("crashed", exc_info=(kind, error, trace))
