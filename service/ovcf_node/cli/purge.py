"""`ovcf-node purge`: remove everything of one study from this node."""

import time
from typing import Annotated

import typer

from ovcf_node.app.process import results_root, spool_root
from ovcf_node.cli.configuration import ConfigFile, opened_ledger, settings_or_exit
from ovcf_node.cli.jobs import who
from ovcf_node.errors import OvcfError
from ovcf_node.observe import audit
from ovcf_node.operate import decisions
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool
from ovcf_node.workflow.purging import remove_files


def purge(
    study: Annotated[str, typer.Option("--study", help="Study Instance UID, in full.")],
    force: Annotated[bool, typer.Option(
        "--force", help="Also a study that is held, being read, not finally delivered, or promised to its sender.",
    )] = False,
    config: ConfigFile = None,
) -> None:
    """Remove everything of one study from this node: images, results, history; what destinations have, they keep.

    A tombstone of each series remains, with who did it and when. The study sent again is read anew, under new UIDs.
    """
    settings = settings_or_exit(config)
    with opened_ledger(settings) as ledger:
        try:
            decisions.purge(ledger, study, time.time(), who(), force=force)
            audit.deleted(audit.Participant(who(), True), audit.Study(study))
            count = remove_files(ledger, Spool(spool_root(settings)), Results(results_root(settings)))
        except OvcfError as error:
            typer.echo(error.text, err=True)
            raise typer.Exit(1) from error
    typer.echo(f"purged; {count} files and folders removed")
