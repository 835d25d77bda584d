"""Which representation a client gets: Accept header or `accept` parameter against what there is (PS3.18 8.7)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import Request

from ovcf_node.query.dicomweb.answers import Problem

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
"""Transfer syntax of every stored result (`report.write`), and the default where a client names none (PS3.18 8.7.3)."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_RANGE = re.compile(rf'(?:{_QUOTED}|[^",])+')
_PARAMETER = re.compile(rf'(?:{_QUOTED}|[^";])+')
_MAX_RANGES = 64


@dataclass(frozen=True)
class Offer:
    """One representation; `of` is the media type of the parts of a multipart one."""

    media_type: str
    of: str | None = None
    transfer_syntax: str | None = None

    def __str__(self) -> str:
        return f'{self.media_type}; type="{self.of}"' if self.of else self.media_type


@dataclass(frozen=True)
class _Range:
    media_type: str
    parameters: dict[str, str] = field(default_factory=dict)
    quality: float = 1.0

    def takes(self, offer: Offer) -> bool:
        wanted_part = self.parameters.get("type")
        syntax = self.parameters.get("transfer-syntax", "*")
        return (
            _matches(self.media_type, offer.media_type)
            and (wanted_part is None or _matches(wanted_part, offer.of or ""))
            and (offer.transfer_syntax is None or syntax in ("*", offer.transfer_syntax))
        )


def choose(request: Request, offers: Sequence[Offer]) -> Offer:
    """Return the offer the client likes best; among equals the first. Raises Problem 406 naming what there is."""
    text = request.query_params.get("accept") or ", ".join(request.headers.getlist("accept")) or "*/*"
    for wanted in _parse(text):
        for offer in offers:
            if wanted.takes(offer):
                return offer
    raise Problem(406, "offered here: " + ", ".join(map(str, offers)))


def _parse(text: str) -> list[_Range]:
    ranges = [_one(part) for part in _RANGE.findall(text)[:_MAX_RANGES]]
    return sorted((r for r in ranges if r.quality > 0), key=lambda r: -r.quality)


def _one(text: str) -> _Range:
    media_type, *rest = [part.strip() for part in _PARAMETER.findall(text)] or [""]
    parameters = {}
    for part in rest:
        name, _, value = part.partition("=")
        parameters[name.strip().lower()] = re.sub(r"\\(.)", r"\1", value.strip().strip('"'))
    try:
        quality = float(parameters.pop("q", "1"))
    except ValueError:
        quality = 0.0
    return _Range(media_type.lower(), parameters, quality)


def _matches(wanted: str, offered: str) -> bool:
    wanted, (kind, _, _) = wanted.lower(), offered.partition("/")
    json = wanted == "application/json" and offered == "application/dicom+json"  # PS3.18 8.7.3: the same thing here
    return json or wanted in ("*/*", f"{kind}/*", offered)
