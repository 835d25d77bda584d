"""`ovcf-node config`: what the node would run with."""

import typer

from ovcf_node.cli.configuration import ConfigFile, settings_or_exit
from ovcf_node.config import shown

commands = typer.Typer(help="Show the settings in force.", no_args_is_help=True)


@commands.callback()
def _group() -> None:
    """Keep `show` a command of its own."""


@commands.command()
def show(config: ConfigFile = None) -> None:
    """Print every setting in force (defaults, file, environment, secret files) as JSON, without secrets."""
    print(shown(settings_or_exit(config)))
