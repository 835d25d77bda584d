"""Keep the audit trail on disk while the process works, and bring it to the collector: one process of the node at a time."""

import threading

import structlog

from ovcf_node.config import Settings
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Ledger
from ovcf_node.network.syslog import Collector
from ovcf_node.observe import audit
from ovcf_node.storage.atomic import storage_errors
from ovcf_node.storage.outbox import Outbox

_LOG = structlog.get_logger("app")
_LEASE, _LEASE_S = "audit", 30.0
_LOOK_S = 1.0
_BATCH = 100


def outbox(settings: Settings) -> Outbox:
    """Return the messages that wait for the collector."""
    return Outbox(settings.node.data / "audit")


def install(settings: Settings, process: str) -> None:
    """Keep what this process has to say; without `audit.host` nothing is."""
    if settings.audit.host is None:
        audit.install(audit.Source(settings.node.installation, settings.node.institution, process), None)
        return
    kept = outbox(settings)

    def keep(message: bytes) -> None:
        try:
            kept.put(message)
        except OvcfError as error:
            _LOG.error("audit_not_kept", code=error.code)  # the work goes on: a full disk must not stop the readings

    audit.install(audit.Source(settings.node.installation, settings.node.institution, process), keep)


def bring(settings: Settings, ledger: Ledger, owner: str, stop: threading.Event) -> None:
    """Send what waits, in order, until `stop`; of several processes the one with the lease does."""
    where, kept = settings.audit, outbox(settings)
    if where.host is None:
        return
    collector = Collector(where.host, where.port, encrypted=where.tls, expected_name=where.tls_name)
    away = False
    while not stop.wait(where.retry_s if away else _LOOK_S):
        try:
            if not ledger.leases.take(_LEASE, owner, ledger.leases.now(), _LEASE_S + where.retry_s):
                continue
            while (waiting := kept.waiting(_BATCH)) and not stop.is_set():
                with storage_errors():
                    messages = [path.read_bytes() for path in waiting]
                collector.send(messages)
                kept.done(waiting)
            if away:
                _LOG.info("audit_collector_returned")
            away = False
        except OvcfError as error:
            if not away:
                _LOG.warning("audit_waits", code=error.code, text=error.text, waiting=len(kept))
            away = True
    collector.close()
    ledger.leases.give_back(_LEASE, owner)
