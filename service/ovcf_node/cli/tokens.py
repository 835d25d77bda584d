"""`ovcf-node tokens`: who may ask over DICOMweb."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ovcf_node.cli.configuration import UNUSABLE, ConfigFile, settings_or_exit
from ovcf_node.errors import OvcfError

tokens = typer.Typer(help="Add, list and remove bearer tokens of DICOMweb.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Which program or person holds it; appears in the log.")]


class PermissionName(StrEnum):
    """query: QIDO-RS; retrieve: WADO-RS."""

    QUERY = "query"
    RETRIEVE = "retrieve"


@contextmanager
def _file(config: Path | None) -> Iterator[Path]:
    """Yield the token file; errors become words and an exit status."""
    path = settings_or_exit(config).web.tokens
    if path is None:
        typer.echo("web.tokens is not set: enter in the configuration where the file is to be", err=True)
        raise typer.Exit(UNUSABLE)
    try:
        yield path
    except OvcfError as error:
        typer.echo(error.text or str(error), err=True)
        raise typer.Exit(1) from error


@tokens.command()
def add(
    name: Name,
    permission: Annotated[list[PermissionName] | None, typer.Option(help="May be given twice; both by default.")] = None,
    days: Annotated[int, typer.Option(min=0, help="Days until it ends; 0: never.")] = 365,
    config: ConfigFile = None,
) -> None:
    """Make a token and print it, this once: only its hash is kept. A running node accepts it at once."""
    from ovcf_node.query import tokens as file

    expires = (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0) if days else None
    with _file(config) as path:
        token = file.add(path, name, [p.value for p in permission or PermissionName], expires)
    typer.echo(f"token of {name}, {_until(expires)}; it is shown only now:", err=True)
    typer.echo(token)


@tokens.command("list")
def list_(config: ConfigFile = None) -> None:
    """List names, permissions and ends; tokens themselves are not kept."""
    from ovcf_node.query import tokens as file

    with _file(config) as path:
        for token in file.read(path):
            typer.echo(f"{token.name:32}  {', '.join(token.permissions):16}  {_until(token.expires)}")


@tokens.command()
def remove(name: Name, config: ConfigFile = None) -> None:
    """Forget a token: a running node refuses it at once."""
    from ovcf_node.query import tokens as file

    with _file(config) as path:
        file.remove(path, name)
    typer.echo("removed")


def _until(expires: datetime | None) -> str:
    if expires is None:
        return "never ends"
    ended = " (has ended)" if expires <= datetime.now(UTC) else ""
    return f"until {expires.astimezone(UTC):%Y-%m-%d %H:%MZ}{ended}"
