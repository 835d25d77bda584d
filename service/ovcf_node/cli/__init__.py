"""The commands. `ovcf-node COMMAND --help` teaches; exit codes are part of the interface."""

import sys
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from ovcf_node import __version__
from ovcf_node.cli import reading
from ovcf_node.cli import settings as configuration
from ovcf_node.cli.backup import backup, restore
from ovcf_node.cli.commission import commission
from ovcf_node.cli.configuration import ConfigFile, settings_or_exit
from ovcf_node.cli.destinations import destinations
from ovcf_node.cli.fetch import fetch
from ovcf_node.cli.jobs import jobs
from ovcf_node.cli.models import models
from ovcf_node.cli.purge import purge
from ovcf_node.cli.recall import recall
from ovcf_node.cli.shadow import shadow
from ovcf_node.cli.tokens import tokens
from ovcf_node.cli.users import users
from ovcf_node.config import ROLES, Query, Receive, Settings, ports_in_words
from ovcf_node.errors import OvcfError
from ovcf_node.observe import logging

app = typer.Typer(
    help="Reads thoracolumbar CT for osteoporotic vertebral compression fractures and answers with SEG, SR and a "
    "summary picture. Research use, not for diagnosis.\n\n"
    "Start with `ovcf-node check --config FILE`, then `ovcf-node serve --config FILE`. "
    "`ovcf-node analyze FOLDER --out FOLDER` reads one series without any network.",
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
)
app.add_typer(jobs, name="jobs")
app.add_typer(destinations, name="destinations")
app.add_typer(shadow, name="shadow")
app.add_typer(tokens, name="tokens")
app.add_typer(users, name="users")
app.add_typer(models, name="models")
app.add_typer(configuration.commands, name="config")
app.command()(fetch)
app.command()(purge)
app.command()(recall)
app.command()(commission)
app.command()(backup)
app.command()(restore)

_LOG = structlog.get_logger("supervisor")
_CONSOLE = Console(stderr=True, highlight=False, markup=False)


class Exit(IntEnum):
    """Exit codes of `analyze`; `fetch` has its own, every other command uses 0, 1, and 2 for an unusable configuration."""

    ASSESSED = 0
    UNUSABLE = 2
    NOT_ASSESSED = 3
    EXCLUDED = 4


class StandInKind(StrEnum):
    """Orthanc where it is installed, or one of the two by name."""

    AUTO = "auto"
    ORTHANC = "orthanc"
    FOLDER = "folder"


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    logging.configure("WARNING", "console")  # libraries warn with the values they complain about; ours withholds them


@app.command()
def serve(config: ConfigFile = None) -> None:
    """Run the whole node on this machine: every enabled process, restarted when it ends.

    SIGTERM drains: running associations and steps end, everything else goes on after the next start. SIGHUP takes over a
    changed configuration: who may send at once, the rest after a drain of the other processes. What the receiver is built
    from, and which processes run, need a restart: the log says so.
    """
    from ovcf_node.app.process import confine, prepare
    from ovcf_node.supervisor import python_command, supervise

    settings = settings_or_exit(config)
    logging.configure(settings.log.level, settings.log.format)
    confine()
    try:
        prepare(settings)
    except OvcfError as error:
        _CONSOLE.print(str(error), style="red")
        raise typer.Exit(1) from error
    extra = ["--config", str(config)] if config else []
    commands = {role: python_command("run", role, *extra) for role in settings.roles}
    raise typer.Exit(supervise(commands, reread=("receiver",), usable=lambda: _usable(settings)))


def _usable(settings: Settings) -> bool:
    try:
        wanted, running = set(settings.reread().roles), set(settings.roles)
    except OvcfError as error:
        _CONSOLE.print(error.text, style="red")
        return False
    if wanted != running:
        # A port that was switched off is open until then: nobody shall believe otherwise.
        _LOG.warning("processes_changed", restart_needed=True, to_start=sorted(wanted - running),
                     still_running=sorted(running - wanted))
    return True


@app.command()
def run(
    role: Annotated[str, typer.Argument(help="receiver | worker | sender | query | web")], config: ConfigFile = None,
) -> None:
    """Run one process of the node; for several machines that share a database and the data folder."""
    from ovcf_node import app as node

    if role not in ROLES:
        raise typer.BadParameter(f"one of {', '.join(ROLES)}")
    try:
        node.role(role)(settings_or_exit(config))
    except OvcfError as error:
        _CONSOLE.print(str(error), style="red")
        raise typer.Exit(1) from error


@app.command()
def check(config: ConfigFile = None) -> None:
    """Check configuration, model bundle, data folder, ports and destinations; print every problem at once.

    A WARNING does not keep the node from serving. Exit code: 1 when there is a PROBLEM.
    """
    from ovcf_node import infer
    from ovcf_node.app import checks

    settings = settings_or_exit(config)
    problems = checks.check(settings)
    for problem in problems:
        print(f"PROBLEM  {problem}")
    for warning in checks.warnings(settings):
        print(f"WARNING  {warning}")
    if problems:
        raise typer.Exit(1)
    bundle = infer.load_identity(settings.node.bundle)
    print(f"OK  bundle {bundle.name} {bundle.version} ({bundle.status}), digest {bundle.digest[:12]}")
    print(f"OK  receives on {_listening(settings.receive)} as {', '.join(settings.receive.ae_titles)}"
          f" from {', '.join(s.ae_title for s in settings.receive.sources)}")
    if settings.query.enabled:
        print(f"OK  answers queries on {_listening(settings.query)} as {', '.join(settings.query.ae_titles)}"
              f" from {', '.join(p.ae_title for p in settings.query.peers)}")
    if settings.web.enabled:
        print(f"OK  serves pages and DICOMweb on {settings.web.host}:{settings.web.port}")
    for destination in settings.destinations:
        print(f"OK  destination {destination.name} ({destination.type}) answers")
    if settings.node.mode == "shadow":
        print(f"OK  SHADOW mode: results go to {', '.join(d.name for d in settings.delivering) or 'nobody'}")
    for archive in settings.archives:
        print(f"OK  archive {archive.name} answers")


def _listening(section: Receive | Query) -> str:
    return f"{section.host}, port {ports_in_words(section)},"


@app.command()
def alive(config: ConfigFile = None) -> None:
    """Exit 0 while this machine's ports (DICOM, pages) answer and a judge is at work; for container health checks."""
    from ovcf_node.app import checks

    problems = checks.alive(settings_or_exit(config))
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)


@app.command()
def echo(
    destination: Annotated[str | None, typer.Argument(help="Name of one destination; all when left out.")] = None,
    config: ConfigFile = None,
) -> None:
    """Try destinations: a C-ECHO, a QIDO-RS query, or a write into the folder."""
    from ovcf_node.app import checks

    settings = settings_or_exit(config)
    names = [destination] if destination else [d.name for d in settings.destinations]
    failed = False
    for name in names:
        try:
            print(f"{name}: {checks.echo(settings, name)}")
        except KeyError:
            print(f"{name}: no such destination; configured: {', '.join(d.name for d in settings.destinations) or 'none'}")
            failed = True
        except OvcfError as error:
            print(f"{name}: {error}")
            failed = True
    if failed:
        raise typer.Exit(1)


@app.command()
def send(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM instances; read recursively.", exists=True)],
    host: Annotated[str, typer.Option(help="Address of the receiver.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the receiver.")] = 11112,
    called: Annotated[str, typer.Option(help="Called AE title.")] = "OVCF_NODE",
    calling: Annotated[str, typer.Option(help="Calling AE title.")] = "OVCF_SEND",
) -> None:
    """Send a folder to a Storage SCP by C-STORE, as a scanner would; exit 1 if any instance was refused."""
    from ovcf_node.app import checks
    from ovcf_node.network.associate import Remote

    try:
        outcomes = checks.send_folder(folder, Remote(host, port, called, calling))
    except OvcfError as error:
        _CONSOLE.print(str(error), style="red")
        raise typer.Exit(1) from error
    refused = [o for o in outcomes if o.status != 0]
    for outcome in refused[:20]:
        print("not sent" if outcome.status is None else f"refused with 0x{outcome.status:04X}", outcome.text)
    print(f"{len(outcomes) - len(refused)} of {len(outcomes)} instances accepted")
    if refused or not outcomes:
        raise typer.Exit(1)


@app.command()
def analyze(
    folder: Annotated[Path, typer.Argument(help="Folder with a CT series (or a study: the best series is read).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for findings.json, sr.dcm, seg_*.dcm and summary.png.")],
    config: ConfigFile = None,
) -> None:
    """Read one series without network: the same stages, files instead of a PACS.

    Exit code: 0 assessed or limited, 3 not assessed (the reason is printed and in findings.json), 4 excluded,
    2 unusable input or configuration.
    """
    from ovcf_node.workflow.offline import analyze as run_offline

    settings = settings_or_exit(config)
    try:
        findings = run_offline(folder, out, settings, progress=lambda stage, _: _CONSOLE.print(f"{stage} ...", style="dim"))
    except OvcfError as error:
        _CONSOLE.print(str(error), style="red")
        raise typer.Exit(Exit.UNUSABLE) from error
    for line in reading.lines(findings):
        print(line)
    codes = {"not_assessed": Exit.NOT_ASSESSED, "excluded": Exit.EXCLUDED}
    sys.exit(codes.get(findings.status, Exit.ASSESSED))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything it makes; an earlier demo's is emptied.")] = Path(
        "demo-output"
    ),
    pacs: Annotated[StandInKind, typer.Option(help="The stand-in PACS.")] = StandInKind.AUTO,
) -> None:
    """Show the main job for real: node, stand-in PACS, a phantom study over an association, results beside the truth."""
    from ovcf_node.demo import run_demo

    raise typer.Exit(run_demo(out, pacs.value))
