"""The web process: the pages for people, DICOMweb and monitoring for programs, on one HTTP(S) port."""

import threading

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from ovcf_node import infer
from ovcf_node.app.cataloguing import catch_up_beside
from ovcf_node.app.connections import server_options
from ovcf_node.app.process import DRAIN_S, process, results_root, spool_root
from ovcf_node.config import Settings
from ovcf_node.domain.findings import BundleIdentity
from ovcf_node.errors import OvcfError, Transient
from ovcf_node.ledger import Ledger
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.operate import health
from ovcf_node.operate.pages import Surroundings, pages
from ovcf_node.query.dicomweb import dicomweb
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool

_LOG = structlog.get_logger("app")
_LAST_ANSWERS_S = 8  # for what is being answered at SIGTERM; idle browsers would be waited for as long


def run(settings: Settings) -> None:
    """Serve until SIGTERM. Raises Transient `web_port` when the port cannot be had, Permanent `tls` for bad certificates."""
    with process(settings, "web") as (ledger, stop):
        catch_up_beside(ledger, Results(results_root(settings)), stop)
        server = uvicorn.Server(_configuration(settings, application(settings, ledger)))

        def serve() -> None:
            try:
                server.run()  # outside the main thread it leaves the signals to us
            finally:
                stop.set()

        thread = threading.Thread(target=serve, name="web", daemon=True)
        thread.start()
        stop.wait()
        if not server.started and not thread.is_alive():
            raise Transient("web_port", f"cannot serve on {settings.web.host}:{settings.web.port}")
        server.should_exit = True
        thread.join(DRAIN_S)


def application(settings: Settings, ledger: Ledger) -> Starlette:
    """Return everything that is served."""
    around = Surroundings(
        settings=settings, ledger=ledger, results=Results(results_root(settings)), spool=Spool(spool_root(settings)),
        pseudonyms=Pseudonyms(settings.node.data), bundle=_bundle(settings),
    )
    machines = health.routes(settings, ledger, lambda: infer.load_identity(settings.node.bundle))
    return Starlette(routes=[*machines, dicomweb(settings, ledger, around.results.root), Mount("/", pages(around))])


def _configuration(settings: Settings, app: Starlette) -> uvicorn.Config:
    web = settings.web
    return uvicorn.Config(
        app, host=web.host, port=web.port, lifespan="off", server_header=False, **server_options(web),
        log_config=None, access_log=False,  # URLs of DICOMweb hold identity
        limit_concurrency=100, timeout_keep_alive=15, timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )


def _bundle(settings: Settings) -> BundleIdentity | None:
    try:
        return infer.load_identity(settings.node.bundle)
    except OvcfError as error:
        _LOG.error("bundle_unreadable", code=error.code)  # the page says so; it must be there to say it
        return None
