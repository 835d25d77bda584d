"""The HTTP routes for machines: `/health`, `/ready`, `/metrics`. They need no sign-in and name no patient.

`/health` answers while the process lives: an orchestrator restarts it otherwise. `/ready` says whether the node can accept a
series and will answer it; restarting the web process would help with none of its problems.
"""

import shutil
import time
from collections.abc import Callable

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ovcf_node.config import Settings
from ovcf_node.domain.findings import BundleIdentity
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Ledger
from ovcf_node.operate.metrics import JUDGE_LEASE, NodeCollector, registry


def routes(
    settings: Settings, ledger: Ledger, bundle: Callable[[], BundleIdentity], clock: Callable[[], float] = time.time
) -> list[Route]:
    """Return the routes, to be mounted outside every sign-in; `bundle` reads the identity of the configured bundle."""
    metrics = registry(NodeCollector(settings, ledger, bundle, clock))

    def alive(_request: Request) -> Response:
        return PlainTextResponse("alive\n", headers=_FRESH)

    # Plain functions: Starlette runs them in threads, so a slow database never stops the event loop.
    def ready(_request: Request) -> Response:
        problems = unready(settings, ledger, bundle, clock())
        content = {"ready": not problems, "problems": problems}
        return JSONResponse(content, status_code=503 if problems else 200, headers=_FRESH)

    def scrape(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept"))
        return Response(encode(metrics), headers=_FRESH | {"Content-Type": content_type})

    return [Route("/health", alive), Route("/ready", ready), Route("/metrics", scrape)]


_FRESH = {"Cache-Control": "no-store"}


def unready(settings: Settings, ledger: Ledger, bundle: Callable[[], BundleIdentity], now: float) -> list[str]:
    """Return why the node cannot accept a series and answer it now; empty when it can."""
    problems = []
    try:
        bundle()
    except OvcfError as error:
        problems.append(f"model bundle: {error.code}")
    try:
        free = shutil.disk_usage(settings.node.data).free // 2**20
    except OSError as error:
        problems.append(f"data volume: {error.strerror}")
    else:
        if free < settings.receive.min_free_mb:
            problems.append(f"data volume: {free} MB free, C-STORE is refused below {settings.receive.min_free_mb} MB")
    try:
        if "receiver" not in ledger.leases.roles_alive(now):
            problems.append("receiver: none is alive")
        if JUDGE_LEASE not in ledger.leases.living("", now):
            problems.append("judge: no worker has held the lease lately")
    except OvcfError as error:
        problems.append(f"ledger: {error.code}")
    return problems
