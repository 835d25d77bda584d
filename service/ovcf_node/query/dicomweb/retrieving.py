"""WADO-RS: instances as they are stored, their metadata, frames and bulk data (PS3.18 10.4)."""

import json
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ovcf_node.ledger.catalogue import Level, Query
from ovcf_node.query.dicomweb import multipart, pixels
from ovcf_node.query.dicomweb.answers import DICOM_JSON, PRIVATE, Problem, not_found
from ovcf_node.query.dicomweb.multipart import Part
from ovcf_node.query.dicomweb.negotiation import EXPLICIT_LITTLE_ENDIAN, Offer, choose
from ovcf_node.query.dicomweb.service import Service, named_in

_DICOM = "application/dicom"
_OCTETS = "application/octet-stream"
_RELATED = "multipart/related"
_SYNTAX = f"; transfer-syntax={EXPLICIT_LITTLE_ENDIAN}"
_PIXEL_DATA = "7FE00010"
_MOST_FRAMES = 10_000


def instances(service: Service, request: Request) -> Response:
    """Return the instances that the path names, bytes as they are stored; a single one also without multipart."""
    offers = [Offer(_RELATED, _DICOM, EXPLICIT_LITTLE_ENDIAN)]
    if "instance" in request.path_params:
        offers.append(Offer(_DICOM, transfer_syntax=EXPLICIT_LITTLE_ENDIAN))
    offer = choose(request, offers)
    parts = [Part(_DICOM + _SYNTAX, service.file(result)) for result in service.named(request)]
    return multipart.related(_DICOM, parts) if offer.of else multipart.single(parts[0])


def metadata(service: Service, request: Request) -> Response:
    """Return the headers of the instances that the path names as DICOM JSON; bulk data by their addresses."""
    choose(request, [Offer(DICOM_JSON)])
    named = service.named(request)  # the same instances in the same order as `instances` gives
    keys = dict(named_in(request))
    found = {m.sop_instance_uid: m.result_id for m in service.catalogue.find(Query(
        Level.INSTANCE, keys, service.dialect, computed=(),
    ))}
    headers = [
        _with_addresses(service, request, service.catalogue.header(found[result.sop_instance_uid]))
        for result in named if result.sop_instance_uid in found
    ]
    return Response(json.dumps(headers, separators=(",", ":")), headers=PRIVATE, media_type=DICOM_JSON)


def _with_addresses(service: Service, request: Request, header: dict[str, Any]) -> dict[str, Any]:
    if _PIXEL_DATA in header:
        study, series, instance = (header[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
        here = service.address(request, study=study, series=series, instance=instance)
        header[_PIXEL_DATA] = {"vr": header[_PIXEL_DATA]["vr"], "BulkDataURI": f"{here}/bulkdata/{_PIXEL_DATA}"}
    return header


def bulk_data(service: Service, request: Request) -> Response:
    """Return Pixel Data as it is stored: the only bulk data our results have."""
    offer = choose(request, _octet_offers(1))
    if request.path_params["tag"].upper() != _PIXEL_DATA:
        raise not_found()
    (result,) = service.named(request)
    return _octets(offer, [pixels.pixel_data(service.file(result))])


def frames(service: Service, request: Request) -> Response:
    """Return frames of one instance as they are stored, each beginning at a byte."""
    numbers = _frame_numbers(request)
    offer = choose(request, _octet_offers(len(numbers)))
    (result,) = service.named(request)
    return _octets(offer, pixels.frames(service.file(result), numbers))


def _frame_numbers(request: Request) -> list[int]:
    text = request.path_params["frames"]
    if not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6})*", text):
        raise Problem(400, "frames are numbers with commas between")
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 1 or len(numbers) > _MOST_FRAMES:
        raise Problem(400, f"frames are counted from 1; at most {_MOST_FRAMES} at a time")
    if len(set(numbers)) < len(numbers):  # PS3.18 8.2.2: a list of non-duplicate frame numbers
        raise Problem(400, "a frame is named twice")
    return numbers


def _octet_offers(count: int) -> list[Offer]:
    offers = [Offer(_RELATED, _OCTETS, EXPLICIT_LITTLE_ENDIAN)]
    return offers + [Offer(_OCTETS, transfer_syntax=EXPLICIT_LITTLE_ENDIAN)] if count == 1 else offers


def _octets(offer: Offer, contents: list[bytes]) -> Response:
    parts = [Part(_OCTETS + _SYNTAX, content) for content in contents]
    return multipart.related(_OCTETS, parts) if offer.of else multipart.single(parts[0])
