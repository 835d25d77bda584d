"""`ovcf-node fetch`: bring a study that was never routed from an archive, and have it read."""

import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from ovcf_node.cli import reading
from ovcf_node.cli.configuration import ConfigFile, opened_ledger, settings_or_exit
from ovcf_node.config import Archive, Settings, ports_in_words
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Ledger

if TYPE_CHECKING:  # the receiver starts through this package and must not load what only `fetch` needs
    from ovcf_node.app.answers import SeriesAnswer
    from ovcf_node.app.fetch import Fetched
    from ovcf_node.network.find import SeriesMatch

_CONSOLE = Console(stderr=True, highlight=False, markup=False)
_UID = re.compile(r"[0-9.]{1,64}")
_ACCESSION = re.compile(r"[ -~]{1,16}")
_POLL_S = 1.0


class Exit(IntEnum):
    """Exit codes of `fetch`."""

    DONE = 0
    FAILED = 1
    UNUSABLE = 2
    NOTHING = 3
    SEVERAL = 4
    NO_ANSWER = 5
    INTERRUPTED = 130


def fetch(
    source: Annotated[str, typer.Option("--from", help="Name of one of the configured archives.")],
    study: Annotated[str | None, typer.Option(help="Study Instance UID.")] = None,
    accession: Annotated[str | None, typer.Option(help="Accession Number; - reads it from standard input.")] = None,
    series: Annotated[str | None, typer.Option(help="Series Instance UID: only this series of the study.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every series has its answer, and print it.")] = False,
    wait_limit: Annotated[float, typer.Option(help="Longest wait for answers, seconds.")] = 1800.0,
    config: ConfigFile = None,
) -> None:
    """Fetch a study from a configured archive (C-FIND, then C-MOVE or C-GET) and have the running node read it.

    Only CT series that may be readable are asked for; what is left out is printed with the reason. Ctrl-C asks the
    archive to stop (C-CANCEL) and keeps what has arrived; a second one ends at once.

    Exit code: 0 everything asked for is here (with --wait: and answered and delivered), 1 the archive failed or
    something is missing, 2 unusable configuration or arguments, 3 the archive has no such study or no CT series in it,
    4 several studies have this accession number, 5 not everything was answered and delivered, 130 interrupted.
    """
    settings = settings_or_exit(config)
    archive = _archive(settings, source)
    if (study is None) == (accession is None):
        _end(Exit.UNUSABLE, "give either --study or --accession")
    accession = sys.stdin.readline().strip() if accession == "-" else accession
    for uid in (study, series):
        if uid is not None and not _UID.fullmatch(uid):
            _end(Exit.UNUSABLE, "a UID is digits and dots, at most 64 characters")
    if accession is not None and (not _ACCESSION.fullmatch(accession) or set(accession) & set("*?\\")):
        _end(Exit.UNUSABLE, "an accession number is up to 16 characters without * ? \\")
    with opened_ledger(settings) as ledger, _interruptible() as stop:
        try:
            asked = _find(settings, archive, ledger, study, accession, series)
            fetched = _retrieve(settings, archive, ledger, asked, stop)
            answered = _answers(settings, ledger, fetched, stop, wait_limit) if wait and not stop.is_set() else True
        except OvcfError as error:
            _end(Exit.FAILED, str(error))
    if stop.is_set():
        _end(Exit.INTERRUPTED, "interrupted: what has arrived stays and will be read")
    if len(fetched) < len(asked) or not all(one.complete for one in fetched):
        raise typer.Exit(Exit.FAILED)
    if not answered:
        raise typer.Exit(Exit.NO_ANSWER)


def _end(code: Exit, text: str) -> NoReturn:
    _CONSOLE.print(text, style="red")
    raise typer.Exit(code)


def _archive(settings: Settings, name: str) -> Archive:
    archives = {archive.name: archive for archive in settings.archives}
    if name not in archives:
        _end(Exit.UNUSABLE, f"{name}: no such archive; configured: {', '.join(archives) or 'none (add [[archives]])'}")
    return archives[name]


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second one interrupts as usual."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def first(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # `before` may be to ignore it, in a shell's background

    signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _find(
    settings: Settings, archive: Archive, ledger: Ledger, study: str | None, accession: str | None, series: str | None
) -> "tuple[SeriesMatch, ...]":
    """Print what the archive has and return the series to ask for; ends the command where there is nothing to ask."""
    from ovcf_node.app import fetch as fetching

    studies = fetching.studies(archive, study=study or "", accession=accession or "")
    if not studies:
        _end(Exit.NOTHING, f"{archive.name} has no such study")
    if len(studies) > 1:
        for found in studies:
            print(f"study     {found.study_instance_uid}  {found.date}  {'/'.join(found.modalities)}  "
                  f"{_count(found.instances)} instances")
        _end(Exit.SEVERAL, f"{len(studies)} studies have this accession number: choose one with --study")
    choice = fetching.choose(archive, studies[0].study_instance_uid, series)
    print(f"found     study {studies[0].study_instance_uid}, {len(choice.asked) + len(choice.left_out)} series")
    for one, why in choice.left_out:
        print(f"left out  {_words(one)}: {why}")
    if not choice.asked:
        _end(Exit.NOTHING, "nothing to ask for" if series is None else "the study has no such CT series")
    for obstacle in fetching.obstacles(settings, archive):
        print(f"note      {obstacle}")
    if archive.retrieve == "move" and (why := fetching.receiver_silent(settings)):
        print(f"note      no receiver of this node answers on this machine ({why}): is it running?")
    if "judge" not in ledger.leases.living("", ledger.leases.now()):
        print("note      no worker is running: what arrives is read when `ovcf-node serve` runs")
    return choice.asked


def _retrieve(
    settings: Settings, archive: Archive, ledger: Ledger, asked: "tuple[SeriesMatch, ...]", stop: threading.Event
) -> "list[Fetched]":
    """Ask for one series after the other and print what came; a series that fails does not stop the next."""
    from ovcf_node.app import fetch as fetching

    fetched = []
    how = f"C-MOVE to {archive.calling_ae_title}" if archive.retrieve == "move" else "C-GET"
    for series in asked:
        if stop.is_set():
            break
        print(f"asked     {_words(series)} by {how}", flush=True)
        with _CONSOLE.status("waiting for the archive") as status:
            def tell(here: int, status=status, series=series) -> None:
                status.update(f"{here} of {_count(series.instances)} instances are here")

            try:
                one = fetching.fetch(settings, archive, ledger, series, stop, tell)
            except OvcfError as error:
                print(f"failed    {_words(series)}: {error}")
                continue
        fetched.append(one)
        print(f"arrived   {_words(series)}: {one.here} of {_count(series.instances)} instances are here, {one.new} new")
        if not one.complete:
            for line in _why(one, archive, settings):
                print(f"          {line}")
    return fetched


def _why(one: "Fetched", archive: Archive, settings: Settings) -> list[str]:
    outcome = one.outcome
    counts = [f"{count} {what}" for count, what in (
        (outcome.completed, "completed"), (outcome.failed, "failed"), (outcome.warning, "with warning")) if count]
    lines = [f"{outcome.words}" + (f" ({', '.join(counts)})" if counts else "")]
    if outcome.status == 0xA801:
        lines.append(f"enter {archive.calling_ae_title} with the address and an open port of this node "
                     f"({ports_in_words(settings.receive)}) in the archive")
    elif archive.retrieve == "move" and one.new == 0 and outcome.status != 0xFE00:
        lines.append("nothing came in: if the receiver logged association_rejected, the archive sends under another "
                     "calling AE title than its own, or to another port; the title must be in receive.sources")
    return lines


def _answers(
    settings: Settings, ledger: Ledger, fetched: "list[Fetched]", stop: threading.Event, limit_s: float
) -> bool:
    """Wait for and print the answer to every series of which something is here; False if one is missing or stuck."""
    from ovcf_node.app.answers import answer

    arrived = [one.series for one in fetched if one.here]
    studies = {series.study_instance_uid for series in arrived}
    deadline = time.monotonic() + limit_s
    with _CONSOLE.status("waiting for the answers"):
        while True:
            held = [hold for hold in ledger.holds.all() if hold.study_instance_uid in studies]
            answers = [answer(settings, ledger, series.series_instance_uid) for series in arrived]
            if held or all(answers) or time.monotonic() > deadline or stop.wait(_POLL_S):
                break
    for hold in held:
        print(f"held      {hold.reason_code}: {hold.reason_text}; a person decides: `ovcf-node jobs release | discard`")
    for series, found in zip(arrived, answers, strict=True):
        print(f"answer    {_words(series)}: {_state(found)}")
        for line in _details(found) if found else ():
            print(f"          {line}")
    return not held and all(found is not None and found.well for found in answers)


def _state(found: "SeriesAnswer | None") -> str:
    if found is None:
        return "none yet; `ovcf-node jobs show` tells what it waits for"
    why = found.revision.reason
    return f"{found.revision.state}" + (f" ({why.text})" if why else "")


def _details(found: "SeriesAnswer") -> list[str]:
    lines = reading.lines(found.findings) if found.findings else []
    for destination in dict.fromkeys(delivery.destination for delivery in found.deliveries):
        mine = [delivery for delivery in found.deliveries if delivery.destination == destination]
        lines.append(f"{destination}: " + ", ".join(f"{delivery.role} {delivery.state.lower()}" for delivery in mine))
    return lines


def _words(series: "SeriesMatch") -> str:
    number = "" if series.number is None else f" {series.number}"
    description = f" {series.description!r}" if series.description else ""
    return f"{series.modality or 'series'}{number}{description} ...{series.series_instance_uid[-12:]}"


def _count(number: int | None) -> str:
    return "an unknown number of" if number is None else str(number)
