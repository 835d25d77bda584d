"""The bearer tokens of DICOMweb: a TOML file of hashes, read again whenever it changes.

A token is 256 random bits that this program made, never a word that a person chose: one SHA-256 of it can neither be
reversed nor guessed, and costs a request nothing (RFC 6750; argon2 is for passwords).
"""

import hashlib
import hmac
import os
import secrets
import threading
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import AwareDatetime, StringConstraints, ValidationError

from ovcf_node.config.base import Name, Section
from ovcf_node.errors import Permanent, Transient

Permission = Literal["query", "retrieve"]
PERMISSIONS: tuple[Permission, ...] = ("query", "retrieve")

_LOG = structlog.get_logger("query")
_PREFIX = "ovcf_"  # lets scanners of published secrets recognise it


class Token(Section):
    """One entry: never the token itself."""

    name: Name
    """Name in logs and commands: which program or person holds it."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Hash of the token."""
    permissions: tuple[Permission, ...] = PERMISSIONS
    """query: QIDO-RS; retrieve: WADO-RS."""
    expires: AwareDatetime | None = None
    """When it ends; unset: never."""


class _File(Section):
    tokens: tuple[Token, ...] = ()


def read(path: Path) -> tuple[Token, ...]:
    """Return the entries of a file; a missing one has none. Raises Permanent (`tokens`) naming every problem."""
    try:
        return _File(**tomllib.loads(path.read_text(encoding="utf-8"))).tokens
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise Permanent("tokens", f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Permanent("tokens", f"{path} is not TOML") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise Permanent("tokens", f"{path}: " + "; ".join(lines)) from error


def add(path: Path, name: str, permissions: Sequence[Permission], expires: datetime | None) -> str:
    """Make a token, write its hash, and return it: nobody can read it again. Raises Permanent, Transient."""
    tokens = read(path)
    if any(t.name == name for t in tokens):
        raise Permanent("tokens", f"a token named {name} is there already; remove it first")
    token = _PREFIX + secrets.token_urlsafe(32)
    try:
        made = Token(name=name, sha256=_hash(token), permissions=tuple(permissions), expires=expires)
    except ValidationError as error:
        raise Permanent("tokens", "; ".join(e["msg"] for e in error.errors(include_input=False))) from error
    _write(path, (*tokens, made))
    return token


def remove(path: Path, name: str) -> None:
    """Forget a token; it is refused from now on. Raises Permanent where there is none of this name."""
    tokens = read(path)
    if not any(t.name == name for t in tokens):
        raise Permanent("tokens", f"no token named {name}")
    _write(path, tuple(t for t in tokens if t.name != name))


def _write(path: Path, tokens: Sequence[Token]) -> None:
    lines = ["# Bearer tokens of DICOMweb as SHA-256; written by `ovcf-node tokens`."]
    for token in tokens:
        names = ", ".join(f'"{p}"' for p in token.permissions)
        lines += ["", "[[tokens]]", f'name = "{token.name}"', f'sha256 = "{token.sha256}"', f"permissions = [{names}]"]
        if token.expires:
            lines.append(f"expires = {token.expires.astimezone(UTC).isoformat(timespec='seconds')}")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise Transient("tokens", f"cannot write {path}: {error.strerror}") from error


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class TokenFile:
    """The entries of a file as they are now: `tokens add` and `tokens remove` need no restart."""

    def __init__(self, path: Path):
        """Read the file. Raises Permanent (`tokens`): a node does not start with entries it cannot read."""
        self._path = path
        self._lock = threading.Lock()
        self._seen = self._state()
        self._tokens = read(path)

    def holder(self, presented: str, now: datetime) -> Token | None:
        """Return the entry of a token that is good now."""
        self._refresh()
        digest = _hash(presented)
        found = None
        for token in self._tokens:  # all of them, each in constant time: time tells nothing
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found if found and (found.expires is None or now < found.expires) else None

    def _refresh(self) -> None:
        with self._lock:
            state = self._state()
            if state == self._seen:
                return
            try:
                self._tokens = read(self._path)
            except Permanent:
                self._tokens = ()  # what cannot be read lets nobody in
                _LOG.error("tokens_unreadable")
            self._seen = state

    def _state(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
