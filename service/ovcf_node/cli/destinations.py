"""`ovcf-node destinations`: how each destination stands; hold one, release it, try it now."""

import time
from typing import Annotated

import typer

from ovcf_node.cli.configuration import ConfigFile, opened_ledger, settings_or_exit
from ovcf_node.cli.jobs import when, who
from ovcf_node.errors import Permanent
from ovcf_node.ledger import DestinationHealth, DestinationStanding
from ovcf_node.operate import decisions

destinations = typer.Typer(help="List, hold, release and retry destinations.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a destination, as `destinations list` prints it.")]


@destinations.command("list")
def list_(config: ConfigFile = None) -> None:
    """List every destination: whether it is served, away, refuses us or is held, and what waits for it."""
    settings = settings_or_exit(config)
    with opened_ledger(settings) as ledger:
        standings = ledger.destinations.all()
        for destination in settings.destinations:
            name = destination.name
            stands = standings.get(name, DestinationStanding(name))
            typer.echo(f"{name:16} {destination.type:7} {_stands(stands)}  {_counts(ledger.overview.destination(name))}")


@destinations.command()
def hold(name: Name, config: ConfigFile = None) -> None:
    """Send nothing there until it is released; results wait. For a PACS upgrade, or while something is looked into."""
    _decide(config, name, decisions.hold_destination, "held")


@destinations.command()
def release(name: Name, config: ConfigFile = None) -> None:
    """End a hold: what waited is sent at once."""
    _decide(config, name, decisions.release_destination, "released")


@destinations.command()
def retry(name: Name, config: ConfigFile = None) -> None:
    """Try a destination that is away now, instead of at its next probe; when it answers, everything that waits is sent."""
    _decide(config, name, decisions.probe_destination, "tried at once")


def _decide(config, name: str, decision, done: str) -> None:
    settings = settings_or_exit(config)
    if name not in {destination.name for destination in settings.destinations}:
        typer.echo("no such destination", err=True)
        raise typer.Exit(1)
    with opened_ledger(settings) as ledger:
        try:
            decision(ledger, name, time.time(), who())
        except Permanent as error:
            typer.echo(error.text, err=True)
            raise typer.Exit(1) from error
    typer.echo(done)


def _stands(stands: DestinationStanding) -> str:
    parts = []
    if stands.held_since is not None:
        parts.append(f"HELD by {stands.held_by} since {when(stands.held_since)}")
    if stands.away_since is not None:
        word = "REFUSES US" if stands.refuses else "AWAY"
        probe = f", next probe {when(stands.probe_at)}" if stands.held_since is None else ""  # a held one is not probed
        parts.append(f"{word} since {when(stands.away_since)}{probe}: {stands.text}")
    return ", ".join(parts) or "served"


def _counts(health: DestinationHealth) -> str:
    return f"{health.pending} waiting, {health.unconfirmed} not confirmed, {health.rejected} rejected"
