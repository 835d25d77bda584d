"""Serve OHIF's prebuilt pages and, under the same origin, a DICOMweb service: no CORS, nothing of OHIF changed."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

_ROOT = "/dicom-web"
_CONFIGURATION = {
    "routerBasename": None, "extensions": [], "modes": [], "showStudyList": True, "maxNumberOfWebWorkers": 2,
    "showWarningMessageForCrossOrigin": False, "showCPUFallbackMessage": False,
    "investigationalUseDialog": {"option": "never"}, "showErrorDetails": "always", "defaultDataSourceName": "node",
    "dataSources": [{
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb", "sourceName": "node",
        "configuration": {
            "friendlyName": "DICOMweb", "name": "node", "qidoRoot": _ROOT, "wadoRoot": _ROOT, "wadoUriRoot": _ROOT,
            "qidoSupportsIncludeField": False, "imageRendering": "wadors", "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True, "supportsFuzzyMatching": False, "supportsWildcard": True,
            "omitQuotationForMultipartRequest": True,
            "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
        },
    }],
}
_HOP_BY_HOP = {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}


@contextmanager
def serving(dist: Path, dicomweb: str, port: int) -> Iterator[str]:
    """Serve OHIF from `dist` on loopback with the service at the URL `dicomweb`; yields the pages' URL."""
    server = uvicorn.Server(uvicorn.Config(_pages(dist, dicomweb), "127.0.0.1", port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "OHIF's pages cannot be served"
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def _pages(dist: Path, dicomweb: str) -> Starlette:
    client = httpx.AsyncClient(timeout=60)

    async def service(request: Request) -> Response:
        wanted = {key: request.headers[key] for key in ("accept", "content-type") if key in request.headers}
        answer = await client.request(
            request.method, f"{dicomweb}/{request.path_params['path']}", params=request.query_params,
            headers=wanted, content=await request.body(),
        )
        kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
        return Response(answer.content, answer.status_code, kept)

    async def configuration(_: Request) -> Response:
        return Response(f"window.config = {json.dumps(_CONFIGURATION)};", media_type="text/javascript")

    async def index(_: Request) -> Response:
        return FileResponse(dist / "index.html")

    files = StaticFiles(directory=dist)

    async def page(request: Request) -> Response:
        path = request.path_params["path"]
        return await (files.get_response(path, request.scope) if (dist / path).is_file() else index(request))

    return Starlette(routes=[
        Route(f"{_ROOT}/{{path:path}}", service, methods=["GET", "POST"]), Route("/app-config.js", configuration),
        Route("/{path:path}", page),
    ])
