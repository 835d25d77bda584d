"""`ovcf-node shadow`: what the first weeks in shadow mode have shown."""

from pathlib import Path
from typing import Annotated

import typer

from ovcf_node.cli.configuration import ConfigFile, opened_ledger, settings_or_exit
from ovcf_node.errors import OvcfError

shadow = typer.Typer(help="Compare what was read in shadow mode with radiologists' findings.", no_args_is_help=True)


@shadow.callback()
def _group() -> None:
    """Keep `compare` a command of its own."""


@shadow.command()
def compare(
    truth: Annotated[Path, typer.Option("--truth", help="CSV with a header: accession_number, level, fracture, type.")],
    out: Annotated[Path | None, typer.Option("--out", help="Markdown file to write besides printing.")] = None,
    config: ConfigFile = None,
) -> None:
    """Print the study's tables for what the node said in shadow mode against a table of radiologists' findings.

    One row per vertebra (yes, no, unknown); levels T12 to L5 that a study does not list count as not fractured; a row with
    an empty level speaks of the whole study. Studies are named by line of the table, never by their numbers. Exit code: 1
    when the table cannot be read or nothing of it could be compared.
    """
    from ovcf_node.app import shadow as comparing

    settings = settings_or_exit(config)
    with opened_ledger(settings) as ledger:
        try:
            found = comparing.compare(settings, ledger, truth)
        except OvcfError as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(1) from error
    typer.echo(found.page)
    if out is not None:
        out.write_text(found.page, encoding="utf-8")
    if not found.compared:
        raise typer.Exit(1)
