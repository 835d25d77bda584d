"""What every command that reads the configuration shares: the option, its errors, the ledger behind it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ovcf_node.app import auditing
from ovcf_node.config import Settings, load
from ovcf_node.errors import OvcfError, Permanent
from ovcf_node.ledger import Ledger, is_there, migrate
from ovcf_node.network import tls

UNUSABLE = 2
"""Exit status of every command for a configuration it cannot use."""

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="OVCF_NODE_CONFIG", help="TOML file; deploy/ovcf-node.toml shows every key."),
]


def settings_or_exit(config: Path | None) -> Settings:
    """Read the settings, or print every problem and exit with 2; their certificates become those of this process."""
    try:
        settings = load(config)
    except OvcfError as error:
        typer.secho(error.text, fg="red", err=True)
        raise typer.Exit(UNUSABLE) from error
    tls.install(settings.tls)
    return settings


@contextmanager
def opened_ledger(settings: Settings) -> Iterator[Ledger]:
    """Open the ledger of a node, its schema up to date, or print why not and exit with 2.

    None is made here: an empty one, where the data folder is mistyped, would answer that nothing ever arrived.
    """
    try:
        if not is_there(settings.ledger_url):
            where = settings.node.data if settings.engine.ledger_url is None else "the database of engine.ledger_url"
            raise Permanent("no_ledger", f"no node has run on {where} yet: start it first, or correct the configuration")
        migrate(settings.ledger_url)
    except OvcfError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(UNUSABLE) from error
    auditing.install(settings, "cli")
    ledger = Ledger(settings.ledger_url)
    try:
        yield ledger
    finally:
        ledger.close()
