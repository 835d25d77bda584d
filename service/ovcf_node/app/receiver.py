"""The receiving process: writes instances to the spool and the ledger; no engine, no codec, no model."""

import signal
import threading

import structlog

from ovcf_node.app.process import DRAIN_S, process, rights_problem, spool_root
from ovcf_node.config import Settings
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Ledger
from ovcf_node.receive.committing import Committing
from ovcf_node.receive.listening import Listening
from ovcf_node.receive.server import Receiver
from ovcf_node.receive.storing import Storing
from ovcf_node.receive.urgency import Urgency
from ovcf_node.storage.secret import installation_secret
from ovcf_node.storage.spool import Spool

_LOG = structlog.get_logger("app")
_LOOK_S = 0.5


def storing(settings: Settings, ledger: Ledger, spool: Spool) -> Storing:
    """Return what stores instances durably, however they come."""
    return Storing(
        spool, ledger.instances, min_free_bytes=settings.receive.min_free_mb * 2**20,
        patient_secret=installation_secret(settings.node.data), urgency=Urgency(settings.priority),
    )


def run(settings: Settings) -> None:
    """Receive until SIGTERM; SIGHUP takes over who may send, and no association notices."""
    with process(settings, "receiver") as (ledger, stop):
        if words := rights_problem(settings.node.data):
            _LOG.warning("data_folder_open", text=words)
        spool = Spool(spool_root(settings))
        committing = Committing(settings.receive, ledger, spool)
        receiver = Receiver(
            settings.receive, storing(settings, ledger, spool), committing, settings.destinations,
            listening=Listening(settings.node.data),
        )
        threading.Thread(target=committing.keep_reporting, args=(stop,), name="reports", daemon=True).start()
        hangup = threading.Event()
        signal.signal(signal.SIGHUP, lambda *_: hangup.set())
        receiver.start()
        while not stop.wait(_LOOK_S):
            if hangup.is_set():
                hangup.clear()
                _admit(receiver, settings)
        receiver.stop(DRAIN_S)


def _admit(receiver: Receiver, settings: Settings) -> None:
    try:
        reread = settings.reread()
    except OvcfError as error:
        _LOG.error("reload_refused", code=error.code)  # `check` says what is wrong; who might send still may
        return
    receiver.admit(reread.receive, reread.destinations)
    _LOG.info("reloaded", sources=[source.ae_title for source in reread.receive.sources],
              restart_needed=_built_from(reread) != _built_from(settings))


def _built_from(settings: Settings) -> tuple[object, ...]:
    """What this process was built from and does not take over while it runs."""
    fixed = settings.receive.model_dump(exclude={"sources", "ae_titles", "commit_days"})
    return (fixed, settings.priority, settings.audit, settings.tls, settings.log, settings.ledger_url, settings.node.data)
