"""`ovcf-node config`: what the node would run with."""

from pathlib import Path
from typing import Annotated

import typer

from ovcf_node.config import load, shown
from ovcf_node.errors import OvcfError

config = typer.Typer(help="Show the settings in force.", no_args_is_help=True)


@config.callback()
def _group() -> None:
    """Keep `show` a command of its own."""


@config.command()
def show(
    file: Annotated[Path | None, typer.Option("--config", "-c", envvar="OVCF_NODE_CONFIG", help="TOML file.")] = None,
) -> None:
    """Print every setting in force (defaults, file, environment, secret files) as JSON, without secrets."""
    try:
        print(shown(load(file)))
    except OvcfError as error:
        typer.echo(error.text, err=True)
        raise typer.Exit(2) from error
