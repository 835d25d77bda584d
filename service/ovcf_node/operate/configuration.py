"""The configuration as the node understands it, for people: every key with its value and what it is for, no secrets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, SecretStr

from ovcf_node.config import Settings
from ovcf_node.config.shown import without_credentials

_SECRET = re.compile(r"password|secret", re.IGNORECASE)


@dataclass(frozen=True)
class Key:
    """One key; `changed` says that it is not the default."""

    name: str
    value: str
    changed: bool
    meaning: str


@dataclass(frozen=True)
class Section:
    title: str
    keys: tuple[Key, ...]


def sections(settings: Settings) -> list[Section]:
    """Return every table of the configuration in the order of the reference file."""
    found = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            found.append(Section(name, tuple(_keys(value))))
        else:
            found += [Section(f"{name}: {item.name}", tuple(_keys(item))) for item in value]
            if not value:
                found.append(Section(name, ()))
    return found


def _keys(section: BaseModel) -> Iterator[Key]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        default = field.get_default(call_default_factory=True) if not field.is_required() else None
        yield Key(name, _shown(name, value), value != default, field.description or "")


def _shown(name: str, value: object) -> str:
    if _SECRET.search(name) and value:
        return "(set, not shown)"
    if value is None:
        return "not set"
    if isinstance(value, tuple):
        return ", ".join(_shown(name, item) for item in value) or "none"
    if isinstance(value, BaseModel):
        pairs = ((key, getattr(value, key)) for key in type(value).model_fields)
        return " ".join(f"{key}={_shown(key, item)}" for key, item in pairs if item is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, SecretStr):
        return without_credentials(value.get_secret_value())
    return without_credentials(value) if isinstance(value, str) and "://" in value else str(value)
