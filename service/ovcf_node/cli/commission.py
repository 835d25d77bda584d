"""`ovcf-node commission`: try everything once, with a test study, and write the report of it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ovcf_node.cli.configuration import ConfigFile, opened_ledger, settings_or_exit
from ovcf_node.errors import OvcfError

_CONSOLE = Console(highlight=False, markup=False, soft_wrap=True)


def commission(
    out: Annotated[Path, typer.Option("--out", help="The report, one HTML file.")] = Path("commissioning.html"),
    wait_echo: Annotated[float, typer.Option(help="Wait this long for a C-ECHO from the PACS, seconds; 0 does not.")] = 0.0,
    calling: Annotated[str | None, typer.Option(help="Calling AE title for the test study; one of receive.sources.")] = None,
    address: Annotated[str | None, typer.Option(help="Address by which peers reach us; left out: found out.")] = None,
    own_name: Annotated[str | None, typer.Option(help="A name in our certificate; left out: this machine's.")] = None,
    limit: Annotated[float, typer.Option(help="Longest wait for the answer to the test study, seconds.")] = 900.0,
    config: ConfigFile = None,
) -> None:
    """Commission the running node: connections, TLS, a test study from C-STORE to what the PACS finds, and a report.

    Sends a synthetic study as patient OVCF^COMMISSIONING, a new one each time; ITS RESULTS GO TO THE REAL DESTINATIONS. The
    report says how to remove it. Run it on the machine of the node, as the user of the node. Exit code: 0 when nothing
    failed, 1 otherwise, 2 for an unusable configuration.
    """
    from ovcf_node import commission as commissioning
    from ovcf_node.commission import report

    settings = settings_or_exit(config)
    styles = {"pass": "blue", "fail": "bold red"}

    def tell(check: commissioning.Check) -> None:
        _CONSOLE.print(Text(f"{check.outcome.upper():15}", styles.get(check.outcome, "dim")), f"{check.name}: {check.found}")
        if check.outcome is commissioning.Outcome.FAIL and check.advice:
            _CONSOLE.print(f"{'':15} {check.advice}")

    options = commissioning.Options(address, calling, wait_echo, limit, own_name)
    with opened_ledger(settings) as ledger:
        try:
            run = commissioning.commission(settings, ledger, options, tell, lambda text: _CONSOLE.print(f"{'':15} {text}"))
            report.write(run, settings, out)
        except OvcfError as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(1) from error
    _CONSOLE.print(f"{'PASSED' if run.passed else 'FAILED'}: the report is {out}")
    if not run.passed:
        raise typer.Exit(1)
