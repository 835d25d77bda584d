"""The resources of DICOMweb, and what surrounds each: access, errors as answers, one log line.

The log has the route's template and never its URL: QIDO query strings name patients, paths name their studies.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from ovcf_node.config import Settings
from ovcf_node.errors import OvcfError, Transient
from ovcf_node.ledger import Ledger
from ovcf_node.ledger.catalogue import Level, dialect_for
from ovcf_node.observe import audit
from ovcf_node.observe.audit import Code, Participant
from ovcf_node.query.dicomweb import rendering, retrieving, searching
from ovcf_node.query.dicomweb.access import Access
from ovcf_node.query.dicomweb.answers import DICOM_JSON, Problem
from ovcf_node.query.dicomweb.service import Service
from ovcf_node.query.tokens import Permission
from ovcf_node.storage import identities

PATH = "/dicom-web"
_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"  # the service that QIDO-RS is the web's form of

_LOG = structlog.get_logger("query")
_STUDY, _SERIES = "/studies/{study}", "/studies/{study}/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"

Handler = Callable[[Service, Request], Response]

SEARCHES: dict[str, Level] = {
    "/studies": Level.STUDY,
    "/series": Level.SERIES,
    "/instances": Level.INSTANCE,
    _STUDY + "/series": Level.SERIES,
    _STUDY + "/instances": Level.INSTANCE,
    _SERIES + "/instances": Level.INSTANCE,
}
RETRIEVALS: dict[str, Handler] = {
    **{path: retrieving.instances for path in (_STUDY, _SERIES, _INSTANCE)},
    **{path + "/metadata": retrieving.metadata for path in (_STUDY, _SERIES, _INSTANCE)},
    **{path + "/rendered": rendering.rendered for path in (_STUDY, _SERIES, _INSTANCE, _INSTANCE + "/frames/{frames}")},
    **{path + "/thumbnail": rendering.thumbnail for path in (_STUDY, _SERIES, _INSTANCE, _INSTANCE + "/frames/{frames}")},
    _INSTANCE + "/frames/{frames}": retrieving.frames,
    _INSTANCE + "/bulkdata/{tag}": retrieving.bulk_data,
}


def dicomweb(settings: Settings, ledger: Ledger, results: Path) -> Mount:
    """Return QIDO-RS and WADO-RS over the results below the folder `results`, to be mounted by the web process.

    Raises Permanent (`tokens`) where the token file cannot be read.
    """
    chosen = [d for d in settings.destinations if d.name == settings.web.dialect_of] or settings.destinations
    service = Service(ledger.catalogue, results, dialect_for(chosen), settings.web.public_url)
    access = Access(settings.web)
    routes = [_route(path, "query", partial(searching.search, level=level), service, access)
              for path, level in SEARCHES.items()]
    routes += [_route(path, "retrieve", handler, service, access) for path, handler in RETRIEVALS.items()]
    cross_origin = Middleware(
        CORSMiddleware, allow_origins=settings.web.origins, allow_headers=["Authorization", "Accept"],
        expose_headers=["Warning"],
    )
    application = Starlette(routes=routes, middleware=[cross_origin] if settings.web.origins else [])
    application.router.redirect_slashes = False  # a redirect would repeat the query string and ask nobody for a token
    return Mount(PATH, application)


def _route(path: str, permission: Permission, handler: Handler, service: Service, access: Access) -> Route:
    async def endpoint(request: Request) -> Response:
        begin = time.monotonic()
        caller = None
        try:
            caller = access.caller(request, permission)
            response = await run_in_threadpool(handler, service, request)
            if response.status_code < 400:
                await run_in_threadpool(_tell, service, request, caller, permission)
        except Problem as problem:
            response = problem.response()
            if problem.status in (401, 403, 429):
                audit.alert(Code.RESTRICTED_FUNCTION, f"DICOMweb answered {problem.status}", _client(request, caller))
        except OvcfError as error:
            _LOG.error("dicomweb_failed", route=path, code=error.code)
            later = isinstance(error, Transient)
            response = Problem(503, "not now", {"Retry-After": "10"}) if later else Problem(500, "failed")
            response = response.response()
        # The boundary of a request. Let through, uvicorn would log a defect with a traceback whose message may quote
        # identifiers; here its place is logged without foreign messages, and the caller gets 500.
        except Exception as error:  # noqa: BLE001
            _LOG.error("dicomweb_failed", route=path, exc_info=error)
            response = Problem(500, "failed").response()
        _LOG.info("dicomweb", method=request.method, route=path, status=response.status_code, caller=caller,
                  address=request.client.host if request.client else "", ms=round((time.monotonic() - begin) * 1000))
        return response

    return Route(path, endpoint, methods=["GET"])


def _client(request: Request, caller: str | None) -> Participant:
    address = request.client.host if request.client else ""
    return Participant(caller or address or "unknown", True, Code.SOURCE, address=address)


def _tell(service: Service, request: Request, caller: str, permission: Permission) -> None:
    """Enter what was asked, or whose images were given, in the audit trail."""
    if not audit.wanted():
        return
    client = _client(request, caller)
    if permission == "query":
        us = audit.ourselves(Code.DESTINATION)
        asked = f"{request.url.path}?{request.url.query}".encode()
        audit.queried(client, us, _STUDY_ROOT_FIND, asked, DICOM_JSON)
    else:
        for study in identities.studies(service.results / result.path for result in service.named(request)):
            audit.accessed(client, study)
