"""WADO-RS rendered resources and thumbnails: the summary picture for programs that know no DICOM (PS3.18 10.4.1.1.3)."""

import re

from starlette.requests import Request
from starlette.responses import Response

from ovcf_node.ledger import Result
from ovcf_node.query.dicomweb import pixels
from ovcf_node.query.dicomweb.answers import PRIVATE, Problem, not_found
from ovcf_node.query.dicomweb.negotiation import Offer, choose
from ovcf_node.query.dicomweb.pixels import Look
from ovcf_node.query.dicomweb.service import Service

_OFFERS = (Offer("image/jpeg"), Offer("image/png"))  # Table 8.7.3-2: JPEG is what a client gets that does not care
_SIDES = (1, 8192)


def rendered(service: Service, request: Request) -> Response:
    """Return the picture of a study, series or instance; `viewport=columns,rows` and `quality` are understood."""
    return _picture(service, request, _size(request, None))


def thumbnail(service: Service, request: Request) -> Response:
    """Return the picture, small."""
    return _picture(service, request, _size(request, pixels.THUMBNAIL))


def _picture(service: Service, request: Request, size: tuple[int, int] | None) -> Response:
    kind = choose(request, _OFFERS).media_type
    if request.path_params.get("frames", "1") != "1":
        raise Problem(404, "pictures have one frame")
    found = service.named(request)
    content = pixels.picture(service.file(_shown(request, found)), kind, Look(size, _quality(request)))
    return Response(content, headers=PRIVATE, media_type=kind)


def _shown(request: Request, found: list[Result]) -> Result:
    """Return the instance itself, or the newest summary picture of a study or series."""
    if "instance" in request.path_params:
        return found[0]
    pictures = [result for result in found if result.role == "summary"]
    if not pictures:
        raise not_found()
    return pictures[-1]


def _size(request: Request, default: tuple[int, int] | None) -> tuple[int, int] | None:
    text = request.query_params.get("viewport")
    if text is None:
        return default
    found = re.fullmatch(r"([0-9]{1,5}),([0-9]{1,5})", text)
    if not found or not all(_SIDES[0] <= int(side) <= _SIDES[1] for side in found.groups()):
        raise Problem(400, f"viewport is columns,rows, each {_SIDES[0]} to {_SIDES[1]}; parts of a picture are not served")
    return int(found[1]), int(found[2])


def _quality(request: Request) -> int:
    text = request.query_params.get("quality", "95")
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 100:
        raise Problem(400, "quality is 1 to 100")
    return int(text)
