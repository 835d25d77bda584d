"""`ovcf-node recall`: every result of one model bundle, where it went, and on demand taken back."""

import time
from collections import Counter
from typing import Annotated

import typer

from ovcf_node.app.process import results_root
from ovcf_node.cli.configuration import ConfigFile, opened_ledger, settings_or_exit
from ovcf_node.cli.jobs import tell, who
from ovcf_node.config import Settings
from ovcf_node.storage.results import Results
from ovcf_node.workflow import recalling


def recall(
    bundle: Annotated[str, typer.Option("--bundle", help="NAME or NAME@VERSION, as the reports name it.")],
    confirm: Annotated[bool, typer.Option("--confirm", help="Take them back; without it they are only listed.")] = False,
    all_versions: Annotated[bool, typer.Option(
        "--all-versions", help="With --confirm and a NAME alone: results of several versions too.",
    )] = False,
    why: Annotated[str, typer.Option("--why", help="The reason, for the history; no patient identity.")] = "bundle recalled",
    config: ConfigFile = None,
) -> None:
    """List every result of one bundle and where it went; with --confirm take all of them back.

    Taken back: what is not sent yet is cancelled, queries and pages of other systems no longer find the results, and the
    worker sends every destination that took some a rejection note (113037, Rejected for Patient Safety Reasons). Change
    `node.bundle` and restart first, or new results of it follow. Exit status 1 when there is no such result, or when a NAME
    alone stands for several versions and --all-versions does not say that all are meant.
    """
    settings = settings_or_exit(config)
    with opened_ledger(settings) as ledger:
        found = list(recalling.made_by(ledger, Results(results_root(settings)), bundle))
        if not found:
            typer.echo(f"no result of {bundle} is known", err=True)
            raise typer.Exit(1)
        for one in found:
            typer.echo(_line(one))
        taken = sum((Counter(one.taken) for one in found), Counter())
        typer.echo(f"{len(found)} answers; objects at destinations: " + (_counts(taken) or "none"))
        versions = Counter(one.bundle for one in found)
        typer.echo("answers by version: " + _counts(versions))
        if not confirm:
            typer.echo("nothing was changed; --confirm takes them back")
            return
        if len(versions) > 1 and not all_versions:
            typer.echo(f"nothing was changed: {bundle} stands for {len(versions)} versions; name one as NAME@VERSION, or "
                       "add --all-versions", err=True)
            raise typer.Exit(1)
        recalling.recall(ledger, found, time.time(), who(), why)
        for study in sorted({one.revision.study_instance_uid for one in found}):
            tell(study)
    for destination, count in taken.items():
        typer.echo(f"{destination}: {_what_follows(settings, destination, count)}")


def _line(one: recalling.Recallable) -> str:
    revision = one.revision
    parts = [
        f"...{revision.series_instance_uid[-12:]}  study ...{revision.study_instance_uid[-12:]}  rev {revision.number}",
        str(revision.state), f"taken by {_counts(one.taken)}" if one.taken else "taken by nobody",
    ]
    parts += [f"unsent {_counts(one.unsent)}"] if one.unsent else []
    parts += [f"withdrawn before: {one.withdrawn}"] if one.withdrawn else []
    return "  ".join(parts)


def _counts(by_name: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(by_name.items()))


def _what_follows(settings: Settings, name: str, count: int) -> str:
    destination = next((d for d in settings.destinations if d.name == name), None)
    if destination is None:
        return f"no longer configured: {count} objects must be removed there by hand"
    if not destination.rejection_notes:
        return f"wants no rejection notes: {count} objects must be removed there by hand"
    return f"rejection notes for {count} objects follow; `jobs show` says when they arrived"
