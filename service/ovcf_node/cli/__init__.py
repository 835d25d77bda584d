"""The commands. `ovcf-node COMMAND --help` teaches; exit codes are part of the interface."""

import sys
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ovcf_node import __version__
from ovcf_node.cli.jobs import jobs
from ovcf_node.config import Settings, load
from ovcf_node.domain.levels import GRADED
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

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="OVCF_NODE_CONFIG", help="TOML file; deploy/ovcf-node.toml shows every key."),
]

_CONSOLE = Console(stderr=True, highlight=False, markup=False)


class Exit(IntEnum):
    """Exit codes of `analyze`; every other command uses 0, 1, and 2 for a configuration it cannot use."""

    ASSESSED = 0
    UNUSABLE = 2
    NOT_ASSESSED = 3
    EXCLUDED = 4


class StandInKind(StrEnum):
    """Orthanc where it is installed, or one of the two by name."""

    AUTO = "auto"
    ORTHANC = "orthanc"
    FOLDER = "folder"


def settings_or_exit(config: Path | None) -> Settings:
    """Read the settings, or print every problem and exit with 2."""
    try:
        return load(config)
    except OvcfError as error:
        _CONSOLE.print(error.text, style="red")
        raise typer.Exit(2) from error


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    logging.configure("WARNING", "console")  # libraries warn with the values they complain about; ours withholds them


@app.command()
def serve(config: ConfigFile = None) -> None:
    """Run the whole node on this machine: every enabled process, restarted when it ends.

    SIGTERM drains: running associations and steps end, everything else goes on after the next start.
    """
    from ovcf_node.app import enabled
    from ovcf_node.app.process import prepare
    from ovcf_node.supervisor import python_command, supervise

    settings = settings_or_exit(config)
    logging.configure(settings.log.level, settings.log.format)
    prepare(settings)
    extra = ["--config", str(config)] if config else []
    raise typer.Exit(supervise({role: python_command("run", role, *extra) for role in enabled(settings)}))


@app.command()
def run(
    role: Annotated[str, typer.Argument(help="receiver | worker | sender | query | web")], config: ConfigFile = None,
) -> None:
    """Run one process of the node; for several machines that share a database and the data folder."""
    from ovcf_node import app as node

    if role not in node.ROLES:
        raise typer.BadParameter(f"one of {', '.join(node.ROLES)}")
    try:
        node.role(role)(settings_or_exit(config))
    except OvcfError as error:
        _CONSOLE.print(str(error), style="red")
        raise typer.Exit(1) from error


@app.command()
def check(config: ConfigFile = None) -> None:
    """Check configuration, model bundle, data folder, port and destinations; print every problem at once."""
    from ovcf_node import infer
    from ovcf_node.app import checks

    settings = settings_or_exit(config)
    problems = checks.check(settings)
    for problem in problems:
        print(f"PROBLEM  {problem}")
    if problems:
        raise typer.Exit(1)
    bundle = infer.load_identity(settings.node.bundle)
    print(f"OK  bundle {bundle.name} {bundle.version} ({bundle.status}), digest {bundle.digest[:12]}")
    print(f"OK  receives on {settings.receive.host}:{settings.receive.port} as {', '.join(settings.receive.ae_titles)}"
          f" from {', '.join(s.ae_title for s in settings.receive.sources)}")
    for destination in settings.destinations:
        print(f"OK  destination {destination.name} ({destination.type}) answers")


@app.command()
def alive(config: ConfigFile = None) -> None:
    """Exit 0 while this machine's receiver answers and a judge is at work; for container health checks."""
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
    """Send a C-ECHO to destinations (or try the folder)."""
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
    print(f"{findings.status}: " + ("; ".join(f"{r.code}: {r.text}" for r in findings.reasons) or "no limitations"))
    for vertebra in findings.vertebrae:
        undetermined = "undetermined" if vertebra.level in GRADED else "labelled"
        fracture = {True: "fracture", False: "no fracture", None: undetermined}[vertebra.fracture]
        denis = f", Denis compression type {vertebra.denis}" if vertebra.denis else ""
        loss = f", height loss {vertebra.height_loss:.0%}" if vertebra.height_loss is not None else ""
        print(f"  {vertebra.level:4} {fracture}{denis}{loss}")
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
