"""The sending process: one queue a destination."""

from ovcf_node.app.executor import engine_running, slot
from ovcf_node.app.heartbeat import Pulse
from ovcf_node.app.process import process, results_root
from ovcf_node.config import Settings
from ovcf_node.engine import Engine
from ovcf_node.observe import logging
from ovcf_node.storage.results import Results
from ovcf_node.workflow.delivering import Sender


def run(settings: Settings) -> None:
    """Deliver until SIGTERM, one queue a destination."""
    with process(settings, "sender") as (ledger, stop), slot(settings, "sender") as held:
        queues = {f"deliver-{d.name}": 1 for d in settings.destinations}
        engine = Engine(settings.engine_url, executor_id=held.name, queues=queues, poll_s=settings.engine.poll_s)
        pulse = Pulse()
        sender = Sender(
            settings, ledger, Results(results_root(settings)), logging.Pseudonyms(settings.node.data), go_on=pulse.check,
        )
        sender.register(engine)
        with engine_running(engine, ledger, held.name, stop, pulse):
            stop.wait()
