"""Who may sign in: a TOML file with one table a person, passwords as Argon2id hashes.

The file is read again when it changes, so that a removed person or a changed password counts at once.
"""

import json
import os
import re
import tempfile
import threading
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ovcf_node.errors import Permanent

MIN_PASSWORD = 12
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_NAME = re.compile(r"[^\x00-\x1f\x7f\\=]{1,60}")
_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash("an unknown account costs as much time as a wrong password")
_AT_ONCE = threading.Semaphore(2)  # each check takes 64 MiB for a moment


class Role(StrEnum):
    """What a person may do. Everybody who signed in sees states and findings without identity."""

    VIEWER = "viewer"
    """Nothing more."""
    OPERATOR = "operator"
    """Sees identity and configuration; retries, holds, releases, discards."""
    READER = "reader"
    """Sees identity; judges findings (radiologist)."""


@dataclass(frozen=True)
class User:
    """One person. `name` is a person name as DICOM writes it (family^given): it goes into the reports they sign."""

    account: str
    name: str
    roles: frozenset[Role]
    password: str

    def may(self, *roles: Role) -> bool:
        return not self.roles.isdisjoint(roles)

    @property
    def sees_identity(self) -> bool:
        return self.may(Role.OPERATOR, Role.READER)


def make(account: str, name: str, roles: frozenset[Role], password: str) -> User:
    """Return a new user with the hash of a password. Raises Permanent `user` naming what is wrong."""
    if not _ACCOUNT.fullmatch(account):
        raise Permanent("user", "an account is 1 to 32 of a-z, 0-9, '.', '_', '-' and starts with a letter or digit")
    if not _NAME.fullmatch(name) or not name.strip("^ "):
        raise Permanent("user", "a name is 1 to 60 characters, family^given, without backslash or equals sign")
    if not roles:
        raise Permanent("user", "a user needs a role")
    if len(password) < MIN_PASSWORD:
        raise Permanent("user", f"a password has at least {MIN_PASSWORD} characters")
    if password.lower() in (account * 4, name.lower()) or len(set(password)) < 5:
        raise Permanent("user", "this password is too easy to guess")
    return User(account, name if "^" in name else f"{name}^", roles, _HASHER.hash(password))


def password_is(user: User | None, password: str) -> bool:
    """Say whether it is this user's password; as slow for nobody as for somebody."""
    with _AT_ONCE:
        try:
            _HASHER.verify(user.password if user else _NOBODY, password)
        except (VerificationError, InvalidHashError):
            return False
    return user is not None


def load(path: Path) -> dict[str, User]:
    """Read the file; empty where there is none. Raises Permanent `users` for one that cannot be used."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Permanent("users", f"cannot read the users file: {type(error).__name__}") from error
    try:
        return {
            account: User(account, str(row["name"]), frozenset(Role(r) for r in row["roles"]), str(row["password"]))
            for account, row in document.get("users", {}).items()
        }
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Permanent("users", "every user needs name, roles and password") from error


def save(path: Path, users: Mapping[str, User]) -> None:
    """Write the file whole or not at all; a new one is readable by its owner only. Raises Permanent `users`."""
    lines = ["# People who may sign in to the pages; made by `ovcf-node users`."]
    for account, user in sorted(users.items()):
        roles = ", ".join(f'"{role}"' for role in sorted(user.roles))
        name = json.dumps(user.name, ensure_ascii=False)
        lines += ["", f'[users."{account}"]', f"name = {name}", f"roles = [{roles}]", f'password = "{user.password}"']
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".users-")  # mode 0600
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            with suppress(PermissionError):  # only root can give a file away
                os.chown(draft, path.stat().st_uid, path.stat().st_gid)
            os.chmod(draft, path.stat().st_mode & 0o777)
        os.replace(draft, path)
    except OSError as error:
        raise Permanent("users", f"cannot write {path}: {error.strerror}") from error


class Directory:
    """The users file as the running pages see it."""

    def __init__(self, path: Path | None):
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._users: dict[str, User] = {}

    def get(self, account: str) -> User | None:
        """Return a user as the file says now."""
        return self._current().get(account)

    def _current(self) -> dict[str, User]:
        if self._path is None:
            return {}
        try:
            status = self._path.stat()
        except OSError:
            return {}
        if self._seen != (status.st_mtime_ns, status.st_ino):
            self._users, self._seen = load(self._path), (status.st_mtime_ns, status.st_ino)
        return self._users
