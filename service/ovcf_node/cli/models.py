"""`ovcf-node models`: what can be done with a model bundle besides running it."""

from pathlib import Path
from typing import Annotated

import typer

from ovcf_node.errors import OvcfError

models = typer.Typer(help="Score a model bundle.", no_args_is_help=True)


@models.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of the model bundle.", exists=True)],
    cohort: Annotated[Path, typer.Argument(help="Folder of cases: ct/, truth.json, labels.npz each (models/README.md).")],
    out: Annotated[Path, typer.Option(help="Folder for the report; a stopped run goes on.")] = Path("evaluation"),
    threads: Annotated[int, typer.Option(help="Threads of one reading.", min=1)] = 2,
) -> None:
    """Read every case of a cohort as the node would, and write EVALUATION.md and evaluation.json.

    Cohorts of phantoms are labelled as such and say nothing certain about patients. Exit 1 when a case or the bundle cannot
    be used; a series that the node refuses is no such problem, but counted.
    """
    from ovcf_node import evaluate as scoring

    try:
        scoring.evaluate(bundle, cohort, out, threads=threads, progress=lambda text: typer.echo(text, err=True))
    except OvcfError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo((out / "EVALUATION.md").read_text())
