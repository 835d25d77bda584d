"""Lives of the node's processes that end by their own SIGKILL at a given point: forked from a server that imported all once.

Each life writes a journal, one line a point: its number, the name of the point, and the workflow around steps. The line is
there before the kill.
"""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from ovcf_node.app.executor import EXIT_GIVEN_UP

PRELOADED = ["pytest", "kill_points", "ovcf_node.app.worker", "ovcf_node.app.sender", "ovcf_node.app.receiver"]


@dataclass(frozen=True)
class Point:
    """The `number`th time (from 1) within one run of its step that a point is passed."""

    name: str
    number: int

    @property
    def place(self) -> str:
        return self.name.split(":")[0]


@dataclass(frozen=True)
class Entry:
    """A line of the journal: in which life which point was passed."""

    life: int
    point: Point
    workflow: str


class Lives:
    """Starts processes of one node; `environment` as they need it."""

    def __init__(self, configuration: Path, environment: dict[str, str]):
        self._configuration = configuration
        self._environment = environment
        self._folder = configuration.parent
        self._count = 0
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)

    def start(self, role: str, until: Point | None = None, later: Collection[str] = ()) -> BaseProcess:
        """Start a process that kills itself at `until`; a thread of it that comes to a point of `later` waits for that."""
        self._count += 1
        armed = (until.name, until.number) if until else None
        process = self._context.Process(
            target=_live, args=(role, self._configuration, self._environment, self._folder, self._count, armed, later)
        )
        process.start()
        return process

    def killed(self, role: str, until: Point, later: Collection[str] = (), limit_s: float = 300) -> None:
        """Start a process and wait until it has killed itself; one that was given up meanwhile is started again."""
        while True:
            process = self.start(role, until, later)
            try:
                process.join(limit_s)
                if process.exitcode != EXIT_GIVEN_UP:
                    return self.died(process, until)
            finally:
                self.end(process)

    def died(self, process: BaseProcess, until: Point, limit_s: float = 300) -> None:
        """Wait until a process has killed itself."""
        process.join(limit_s)
        assert process.exitcode == -signal.SIGKILL, f"{until}: {process.exitcode}; see {self._folder}"

    def end(self, process: BaseProcess) -> None:
        """Drain a process as `serve` would."""
        if process.is_alive():
            process.terminate()
            process.join(60)
        if process.is_alive():
            process.kill()
            process.join()

    def journal(self) -> list[Entry]:
        lines = (self._folder / "journal").read_text().splitlines()
        return [Entry(int(life), Point(name, int(number)), workflow)
                for life, name, number, workflow in (line.split("\t") for line in lines)]


def _live(
    role: str, configuration: Path, environment: dict[str, str], folder: Path, life: int, armed: tuple[str, int] | None,
    later: Collection[str],
) -> None:
    import kill_points
    from ovcf_node import app, config, infer
    from ovcf_node.workflow.child import Children

    os.environ |= environment
    with (folder / "lives.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    passed: Counter[str] = Counter()

    def hit(name: str, workflow: str | None) -> None:
        if name.endswith(":begin"):  # a step is counted from its own beginning
            place = name.removesuffix("begin")
            for other in [other for other in passed if other.startswith(place)]:
                del passed[other]
        if name in later:
            time.sleep(600)
        passed[name] += 1
        os.write(journal, f"{life}\t{name}\t{passed[name]}\t{workflow or ''}\n".encode())
        if armed == (name, passed[name]):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    # Fifty lives need no fifty self-tests of the bundle, nor a child that waits for work that does not come.
    infer.load = lambda *args, **options: None
    Children.start_idle = lambda self: None
    with kill_points.installed(hit):
        app.role(role)(config.load(configuration))
