"""The query process: Query/Retrieve SCP over the results; no engine, no codec, no model."""

from ovcf_node.app.cataloguing import catch_up
from ovcf_node.app.process import DRAIN_S, process, results_root
from ovcf_node.config import Settings
from ovcf_node.query.scp import QueryScp
from ovcf_node.storage.results import Results


def run(settings: Settings) -> None:
    """Answer queries until SIGTERM."""
    with process(settings, "query") as (ledger, stop):
        results = Results(results_root(settings))
        catch_up(ledger, results, stop)
        scp = QueryScp(settings.query, settings.destinations, ledger, results.root)
        if not stop.is_set():
            scp.start()
        stop.wait()
        scp.stop(DRAIN_S)
