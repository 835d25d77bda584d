"""`ovcf-node jobs`: look at what the node is doing and decide what only a person may decide."""

import getpass
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ovcf_node.cli.configuration import ConfigFile, opened_ledger, settings_or_exit
from ovcf_node.domain.states import DeliveryState
from ovcf_node.errors import Permanent
from ovcf_node.ledger import Delivery, Ledger, Revision
from ovcf_node.observe import audit
from ovcf_node.operate import decisions

jobs = typer.Typer(help="List, show, retry, release and discard series.", no_args_is_help=True)

Series = Annotated[str, typer.Argument(help="Series Instance UID, or the end of one as `jobs list` prints it.")]
Study = Annotated[str, typer.Argument(help="Study Instance UID, or the end of one as `jobs list` prints it.")]


def _ledger(config: Path | None) -> AbstractContextManager[Ledger]:
    return opened_ledger(settings_or_exit(config))


def when(at: float) -> str:
    """Return a time as every command prints it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@contextmanager
def _refused_in_words() -> Iterator[None]:
    """Print why a decision makes no sense now, and exit with 1."""
    try:
        yield
    except Permanent as error:
        typer.echo(error.text, err=True)
        raise typer.Exit(1) from error


def _find(ledger: Ledger, ending: str) -> Revision:
    found = ledger.revisions.ending(ending)
    if len(found) != 1:
        typer.echo("no such series" if not found else f"{len(found)} series end like this; give more of the UID", err=True)
        raise typer.Exit(1)
    return found[0]


@jobs.command("list")
def list_(
    config: ConfigFile = None, limit: Annotated[int, typer.Option(help="How many, newest first.")] = 50,
) -> None:
    """List the newest revision of every series, every held study, and every destination that gets nothing now."""
    with _ledger(config) as ledger:
        for hold in ledger.holds.all():
            typer.echo(f"HELD study ...{hold.study_instance_uid[-12:]}  {hold.reason_code}: {hold.reason_text}")
        for stands in ledger.destinations.all().values():
            if stands.stopped:
                typer.echo(f"destination {stands.name} {stands.word}: see `destinations list`")
        for revision in ledger.revisions.newest(limit):
            arrived = _arrived(ledger.deliveries.of_revision(revision.id))
            why = f"  {revision.reason_code}" if revision.reason_code else ""
            marks = "  STAT" * revision.stat + "  SHADOW" * revision.shadow
            typer.echo(
                f"{when(revision.updated_at)}  ...{revision.series_instance_uid[-12:]}  study "
                f"...{revision.study_instance_uid[-12:]}  rev {revision.number}  {revision.state}{why}{marks}{arrived}"
            )


def _arrived(deliveries: list[Delivery]) -> str:
    """Return what became of a revision's objects: rejected ones wait for a person and must not look delivered.

    Nor may those that were taken back: after a recall the result is no longer in force at its destinations.
    """
    states = [delivery.state for delivery in deliveries]
    rejected, pending = states.count(DeliveryState.REJECTED), states.count(DeliveryState.PENDING)
    if not rejected and not pending:
        if any(delivery.withdrawn_as for delivery in deliveries):
            return "  WITHDRAWN"
        return "  delivered" if any(state is not DeliveryState.CANCELLED for state in states) else ""
    counted = ((rejected, "REJECTED"), (pending, "pending"))
    return "".join(f"  {n} {'delivery' if n == 1 else 'deliveries'} {word}" for n, word in counted if n)


@jobs.command()
def show(series: Series, config: ConfigFile = None) -> None:
    """Show one series: revisions, objects, deliveries with the destinations' own words, and its history."""
    with _ledger(config) as ledger:
        newest = _find(ledger, series)
        standings = ledger.destinations.all()
        typer.echo(f"series {newest.series_instance_uid}\nstudy  {newest.study_instance_uid}")
        for revision in ledger.revisions.of_series(newest.series_instance_uid):
            why = f"  {revision.reason_code}: {revision.reason_text}" if revision.reason_code else ""
            typer.echo(f"revision {revision.number}  {revision.state}{why}")
            for delivery in ledger.deliveries.of_revision(revision.id):
                stopped = delivery.state == "PENDING" and standings.get(delivery.destination)
                held = f"  (destination {stopped.word})" if stopped and stopped.stopped else ""
                status = f"  0x{delivery.status:04X}" if delivery.status is not None else ""
                typer.echo(
                    f"  {delivery.role:14} -> {delivery.destination:12} {delivery.state}{held}  attempts {delivery.attempts}"
                    f"{status}  {delivery.text or ''}{_taken_back(delivery)}"
                )
        for event in ledger.events.of_series(newest.series_instance_uid):
            typer.echo(f"  {when(event.at)}  {event.kind:16} {event.text}")


def _taken_back(delivery: Delivery) -> str:
    return f"  withdrawn as {delivery.withdrawn_as}" if delivery.withdrawn_as else ""


@jobs.command()
def retry(series: Series, config: ConfigFile = None) -> None:
    """Try again now: pending or rejected deliveries are sent at once; a failed or 'not assessed' reading starts anew."""
    with _ledger(config) as ledger, _refused_in_words():
        revision = _find(ledger, series)
        typer.echo(decisions.retry(ledger, revision, time.time(), who()))
        tell(revision.study_instance_uid)


@jobs.command()
def release(
    study: Study, config: ConfigFile = None,
    newest: Annotated[bool, typer.Option("--newest", help="What came last stands, as after a correction.")] = False,
) -> None:
    """Release a held study: what was received first stands (or, with --newest, what came last), and work goes on."""
    with _ledger(config) as ledger, _refused_in_words():
        held = _held(ledger, study)
        decisions.release(ledger, held, time.time(), who(), newest=newest)
        tell(held)
        typer.echo("released")


@jobs.command()
def discard(study: Study, config: ConfigFile = None) -> None:
    """Discard a held study: nothing of it is read or delivered any more, and what was sent already is withdrawn."""
    with _ledger(config) as ledger, _refused_in_words():
        held = _held(ledger, study)
        decisions.discard(ledger, held, time.time(), who())
        tell(held)
        typer.echo("discarded")


def who() -> str:
    """Name the account that decided, for the history; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def tell(study_instance_uid: str) -> None:
    """Enter in the audit trail that this account decided about a study, as the pages do."""
    audit.accessed(audit.Participant(who(), True), audit.Study(study_instance_uid), action="U")


def _held(ledger: Ledger, ending: str) -> str:
    found = [h.study_instance_uid for h in ledger.holds.all() if h.study_instance_uid.endswith(ending)]
    if len(found) != 1:
        typer.echo("no such held study" if not found else "several held studies end like this", err=True)
        raise typer.Exit(1)
    return found[0]
