"""Retention of rows and files, and database files that shrink behind it; done by the holder of the judge's lease."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from ovcf_node.config import Settings
from ovcf_node.engine import Engine
from ovcf_node.errors import Transient
from ovcf_node.storage.compaction import compact
from ovcf_node.workflow.purging import Purging

_LOG = structlog.get_logger("app")
_SQLITE = "sqlite:///"
_WHOLE_EVERY_S = 20 * 3600.0


class Retaining:
    """One a worker; only the one that holds the lease uses it."""

    def __init__(self, settings: Settings, engine: Engine, purging: Purging):
        self._settings = settings
        self._engine = engine
        self._purging = purging
        self._whole_at = 0.0

    def tick(self, now: float) -> None:
        """Do a bounded part of what is due. Raises Transient where a database or the disk cannot; the next tick goes on."""
        self._engine.forget(datetime.fromtimestamp(now, UTC) - timedelta(days=self._settings.retention.engine_days))
        self._purging.tick(now)
        self._compact(now)

    def _compact(self, now: float) -> None:
        """SQLite only: PostgreSQL's autovacuum makes room for new rows by itself."""
        quiet = time.localtime(now).tm_hour == self._settings.retention.vacuum_hour and now >= self._whole_at
        if quiet:
            self._whole_at = now + _WHOLE_EVERY_S
        for url in sorted({self._settings.ledger_url, self._settings.engine_url}):
            if not url.startswith(_SQLITE):
                continue
            try:
                freed = compact(Path(url.removeprefix(_SQLITE)), whole=quiet)
            except Transient as error:
                _LOG.warning("not_compacted", code=error.code, text=error.text)
                continue
            if freed:
                _LOG.info("compacted", freed_mb=round(freed / 2**20, 1))
