"""Fixtures that every test may use."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import postgresql
from absent import absent
from ovcf_node.ledger import migrate

_REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def process_wide_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore what `logging.configure`, which every command calls, changes for the whole process."""
    for owner, name in ((warnings, "showwarning"), (sys, "excepthook"), (threading, "excepthook")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    loggers = [logging.getLogger(name) for name in ("", "pydicom", "pynetdicom", "dbos", "sqlalchemy", "alembic")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers = handlers


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real CT data; it lies beside the repository and is never part of it."""
    folder = Path(os.environ.get("OVCF_TEST_DATA", _REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        absent(f"no real data at {folder} (set OVCF_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def postgresql_cluster():
    """Socket folder of a private PostgreSQL server."""
    with postgresql.cluster() as folder:
        yield folder


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def ledger_url(request, tmp_path_factory):
    """URL of a database with the ledger's schema, once of each kind that it runs on."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.sqlite'}"
        migrate(url)
        yield url
        return
    with postgresql.database(request.getfixturevalue("postgresql_cluster")) as url:
        migrate(url)
        yield url
