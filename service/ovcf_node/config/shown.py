"""The settings in force, for people and for support: complete, and without secrets."""

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from ovcf_node.config import Settings


def shown(settings: "Settings") -> str:
    """Return the whole tree as JSON; of a database URL only kind, server and database are left."""
    return json.dumps(_plain(settings), indent=2, ensure_ascii=False, default=str)


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return without_credentials(secret) if "://" in secret else "***"
    return value


def without_credentials(url: str) -> str:
    """Return a URL with scheme, server and path; "***" stands for what may be secret."""
    # User, password and the query, which may hold either, are withheld. A password with an unquoted "@" or "/" would be
    # cut in the wrong place: then nothing is shown.
    parts = urlsplit(url)
    user, at, server = parts.netloc.rpartition("@")
    if "@" in user or "@" in parts.path or "@" in parts.query + parts.fragment:
        return "***"
    query = "?***" if parts.query else ""
    return f"{parts.scheme}://{'***@' if at else ''}{server}{parts.path}{query}"
