"""The main job, for real: scanner -> node -> stand-in PACS, then what was planted beside what was found."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from rich.console import Console
from rich.table import Table

from ovcf_node.app.checks import send_folder
from ovcf_node.config import load
from ovcf_node.demo import phantom
from ovcf_node.demo.pacs import AE_TITLE, StandIn, stand_in
from ovcf_node.domain.findings import Findings
from ovcf_node.domain.levels import GRADED
from ovcf_node.errors import OvcfError, Transient
from ovcf_node.ledger import Ledger, Revision
from ovcf_node.network.associate import Remote
from ovcf_node.storage.results import Results
from ovcf_node.supervisor import python_command

_NODE = "OVCF_NODE"
_SCANNER = "DEMO_CT"
_MARKER = ".ovcf-node-demo"
_LIMIT_S = 600.0
_START_S = 60.0
_WORDS = {
    "RECEIVING": "received; waiting until nothing more comes", "WAITING": "waiting for missing slices",
    "COMPLETE": "complete; being read", "INFERRED": "read; being encoded", "ENCODED": "encoded and linted",
    "NOT_ASSESSED": "not assessed", "EXCLUDED": "excluded", "FAILED": "failed", "SUPERSEDED": "superseded",
}
_EXPECTED = {"seg_vertebrae": "Vertebrae SEG", "seg_fractures": "Fracture SEG", "sr": "SR", "summary": "Summary picture"}

_CONFIGURATION = """\
[node]
installation = "demo"
data = "data"
bundle = "{bundle}"

[receive]
host = "127.0.0.1"
port = {port}
ae_titles = ["{node}"]
sources = [{{ ae_title = "{scanner}", address = "127.0.0.1" }}]
min_free_mb = 200

[assemble]
quiet_s = 3.0

[[destinations]]
name = "pacs"
type = "dicom"
ae_title = "{pacs}"
host = "127.0.0.1"
port = {pacs_port}
retry_first_s = 2.0
"""


@dataclass(frozen=True)
class _Outcome:
    findings: Findings
    arrived: dict[str, Path]


def run_demo(out: Path, kind: str) -> int:
    """Run the demonstration in `out`; 0 when everything arrived and the planted fracture was found, 1 otherwise."""
    console = Console(highlight=False)
    if not _emptied(out):
        console.print(f"[red]{out} is not an earlier demo's folder: choose another[/red]")
        return 1
    out = out.resolve()
    ports = _free_ports(3)
    console.print("[bold]ovcf-node demo[/bold]  (research use, not for diagnosis; synthetic phantom, no patient)")
    built_in = phantom.load()
    files = phantom.write_series(built_in, out / "scanner")
    console.print(f"scanner   {len(files)} CT instances in {out / 'scanner'}")
    try:
        with stand_in(kind, out / "pacs", _NODE, ports[1:]) as pacs:
            console.print(f"PACS      {pacs.name} on port {pacs.port}")
            return _with_node(console, out, pacs, ports[0], files, built_in)
    except OvcfError as error:
        console.print(f"[red]{error}[/red]")
        return 1


def _emptied(out: Path) -> bool:
    """Make `out` an empty folder; False, and nothing is touched, when it holds anything but an earlier demo."""
    marker = out / _MARKER
    if out.exists() and any(out.iterdir()) and not marker.exists():
        return False
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()
    return True


def _with_node(
    console: Console, out: Path, pacs: StandIn, port: int, files: list[Path], built_in: phantom.Phantom
) -> int:
    configuration = out / "node" / "ovcf-node.toml"
    configuration.parent.mkdir()
    configuration.write_text(_CONFIGURATION.format(
        bundle=load(None).node.bundle.resolve(), port=port, node=_NODE, scanner=_SCANNER, pacs=AE_TITLE,
        pacs_port=pacs.port,
    ))
    log = out / "node" / "node.log"
    with log.open("wb") as stream:
        node = subprocess.Popen(python_command("serve", "--config", str(configuration)), stdout=stream, stderr=stream)
    try:
        _wait_for_port(port, node)
        console.print(f"node      receives on port {port}; log {log}")
        begun = time.monotonic()
        results = send_folder(out / "scanner", Remote("127.0.0.1", port, _NODE, _SCANNER))
        refused = [r for r in results if r.status != 0]
        seconds = time.monotonic() - begun
        console.print(f"sent      {len(results) - len(refused)} instances in {seconds:.1f} s over one association")
        if refused:
            console.print(f"[red]{len(refused)} instances refused: {refused[0].text}[/red]")
            return 1
        outcome = _wait_for_results(console, configuration, pacs, out / "pacs" / "instances")
    finally:
        node.send_signal(signal.SIGTERM)
        try:
            node.wait(40)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()
    return _report(console, outcome, built_in)


def _wait_for_results(console: Console, configuration: Path, pacs: StandIn, folder: Path) -> _Outcome:
    settings = load(configuration)
    ledger = Ledger(settings.ledger_url)
    try:
        revision = _final_revision(ledger, lambda text: console.print(f"progress  {text}"))
        files = {path: pydicom.dcmread(path, stop_before_pixels=True) for path in pacs.fetch(folder)}
        by_uid = {str(ds.SOPInstanceUID): path for path, ds in files.items()}
        arrived = {
            r.role: by_uid[r.sop_instance_uid]
            for r in ledger.deliveries.results_of(revision.id) if r.sop_instance_uid in by_uid
        }
        stored = Results(settings.node.data / "results").get(revision.reading_key, "findings.json")
        return _Outcome(Findings.from_json(json.loads(stored)), arrived)
    finally:
        ledger.close()


def _final_revision(ledger: Ledger, say: Callable[[str], None]) -> Revision:
    """Wait until every delivery of the one series has its final state."""
    begun, told = time.monotonic(), ""
    while time.monotonic() < begun + _LIMIT_S:
        for revision in ledger.revisions.newest(1):
            deliveries = ledger.deliveries.of_revision(revision.id)
            done = sum(d.state != "PENDING" for d in deliveries)
            text = _WORDS[revision.state] + (f", {done} of {len(deliveries)} objects delivered" if deliveries else "")
            if text != told:
                say(f"{time.monotonic() - begun:5.1f} s  {text}")
                told = text
            if revision.state in ("EXCLUDED", "FAILED"):
                raise Transient("demo", f"the series ended as {revision.state}: {revision.reason_text}")
            if revision.answered and deliveries and done == len(deliveries):
                return revision
        time.sleep(0.3)
    raise Transient("demo", f"no result within {_LIMIT_S:.0f} s; see node.log")


def _report(console: Console, outcome: _Outcome, built_in: phantom.Phantom) -> int:
    findings = outcome.findings
    found = {v.level: v for v in findings.vertebrae}
    table = Table(title=f"{findings.status}: planted beside found (synthetic phantom)")
    for column in ("level", "planted", "found", "probability", "Denis", "height loss", "mean HU"):
        table.add_column(column)
    missed = []
    for planted in built_in.planted:
        vertebra = found.get(planted.level)
        undetermined = "undetermined" if planted.level in GRADED else "labelled"
        says = {True: "fracture", False: "-", None: undetermined}[vertebra.fracture] if vertebra else "not found"
        if planted.fracture and not (vertebra and vertebra.fracture):
            missed.append(planted.level)
        table.add_row(
            planted.level,
            f"fracture {planted.denis}, loss {planted.height_loss:.0%}" if planted.fracture else "-",
            says,
            _number(vertebra and vertebra.probability, ".2f"),
            (vertebra and (vertebra.denis or (vertebra.abstain and f"abstains: {vertebra.abstain.code}"))) or "-",
            _number(vertebra and vertebra.height_loss, ".0%"),
            _number(vertebra and vertebra.mean_hu, ".0f"),
        )
    console.print(table)
    for reason in findings.reasons:
        console.print(f"limitation: {reason.text}")
    if findings.numbering_uncertain:
        console.print(f"numbering uncertain: {findings.numbering_basis}")
    for role, title in _EXPECTED.items():
        console.print(f"{title:16} {outcome.arrived.get(role, '[red]did not arrive[/red]')}", soft_wrap=True)
    console.print("stages    " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in findings.timings_s.items()))
    absent = [title for role, title in _EXPECTED.items() if role not in outcome.arrived]
    if missed:
        console.print(f"[red]planted fracture not found: {', '.join(missed)}[/red]")
    if absent:
        console.print(f"[red]did not arrive at the PACS: {', '.join(absent)}[/red]")
    if not missed and not absent:
        console.print("[green]everything arrived and every planted fracture was found[/green]")
    return 1 if missed or absent else 0


def _number(value: float | None, style: str) -> str:
    return format(value, style) if value is not None else "-"


def _free_ports(count: int) -> tuple[int, ...]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = tuple(s.getsockname()[1] for s in sockets)
    for s in sockets:
        s.close()
    return ports


def _wait_for_port(port: int, node: subprocess.Popen) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and node.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise Transient("demo", "the node did not start; see node.log")
