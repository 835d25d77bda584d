"""The receiving process: writes instances to the spool and the ledger; no engine, no codec, no model."""

from ovcf_node.app.process import DRAIN_S, process, spool_root
from ovcf_node.config import Settings
from ovcf_node.ledger import Ledger
from ovcf_node.receive.server import Receiver
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.secret import installation_secret
from ovcf_node.storage.spool import Spool


def storing(settings: Settings, ledger: Ledger, spool: Spool) -> Storing:
    """Return what stores instances durably, however they come."""
    return Storing(
        spool, ledger.instances, min_free_bytes=settings.receive.min_free_mb * 2**20,
        patient_secret=installation_secret(settings.node.data),
    )


def run(settings: Settings) -> None:
    """Receive until SIGTERM."""
    with process(settings, "receiver") as (ledger, stop):
        spool = Spool(spool_root(settings))
        spool.clean_temporary()
        receiver = Receiver(settings.receive, storing(settings, ledger, spool))
        receiver.start()
        stop.wait()
        receiver.stop(DRAIN_S)
