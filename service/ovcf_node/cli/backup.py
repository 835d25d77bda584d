"""`ovcf-node backup` and `ovcf-node restore`: a copy of a running node, and a node from a copy."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ovcf_node.cli.configuration import UNUSABLE, ConfigFile, settings_or_exit
from ovcf_node.errors import OvcfError, Permanent

_CONSOLE = Console(stderr=True, highlight=False, markup=False)


def backup(
    out: Annotated[Path, typer.Option("--out", help="New folder for the backup; not on the data volume.")],
    config: ConfigFile = None,
) -> None:
    """Copy ledger and data folder while the node runs; the folder appears when the copy is whole. It holds patient data.

    With a ledger on PostgreSQL dump the database first (pg_dump), then run this for the files. Exit code: 1 when the copy
    could not be made.
    """
    from ovcf_node.app import backup as backing

    settings = settings_or_exit(config)
    try:
        with _CONSOLE.status("copying the ledger") as status:
            made = backing.back_up(settings, out, lambda files: status.update(f"{files} files copied"))
    except OvcfError as error:
        _end(error)
    where = "with its ledger" if made.ledger else "without the database: is your pg_dump older than this copy? It must be"
    print(f"{made.files} files, {made.bytes / 1e6:.0f} MB in {out}, {where}")
    if made.vanished:
        print(f"{made.vanished} files were purged while it was made")


def restore(
    source: Annotated[Path, typer.Option("--from", help="Folder that `backup` made.")], config: ConfigFile = None,
) -> None:
    """Make the configured data folder, which must be absent or empty, from a backup; the node must not run.

    Nothing that was sent before the backup is sent again. Where a destination answers queries and has results that this
    copy does not know, the study is held for a person. Exit code: 1 on an unfinished copy, 2 when it was refused.
    """
    from ovcf_node.app import backup as backing

    settings = settings_or_exit(config)
    try:
        made = backing.restore(settings, source)
    except OvcfError as error:
        _end(error)
    print(f"{made.files} files of {made.installation} as of {made.made_at} are in {settings.node.data}")
    if not made.ledger:
        print("restore the database too, from the dump that is older than this backup (pg_restore), before the node starts")


def _end(error: OvcfError) -> None:
    _CONSOLE.print(str(error), style="red")
    raise typer.Exit(UNUSABLE if isinstance(error, Permanent) else 1) from error
