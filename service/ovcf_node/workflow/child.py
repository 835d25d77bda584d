"""Run decoding and inference in child processes: a crash there ends neither the worker nor the queue.

The parent writes one JSON job as a line to the child's standard input; the child answers with JSON lines on standard
output: progress lines `{"stage": ..., "fraction": ...}`, then one `{"done": ...}` or `{"error": {...}}`. A child
serves one job after the other; at the end of its input, which is also what it sees when its parent was killed, it
leaves at once. What a child prints
to standard error is dropped: libraries quote data sets there.
"""

import contextlib
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ovcf_node.config import Assemble, Infer, Settings
from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.withdrawal import SourceNote, Title
from ovcf_node.errors import OvcfError, Permanent, Transient

Progress = Callable[[str, float], None]

_JOBS_PER_CHILD = 50
_IDLE_AT_MOST = 2
_NOT_A_CRASH = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # somebody asked it to end
_LOOKS_AT_MOST = 2
_LOOK_S = 120.0  # a look at headers: the judge waits for it, and with it every other series
_OUT_OF_MEMORY = "out_of_memory"
TIMEOUT = "child_timeout"
"""Code of the error of a job that ran out of time."""


class Crashed(Transient):
    """The child died of what it was given, or ran out of memory with it: the input is suspect, not the machine."""



class Children:
    """Child processes, one job each at a time. An idle one is kept for the next job: its imports cost seconds."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._lock = threading.Lock()
        self._idle: list[_Child] = []

    def inspect(self, paths: Sequence[Path]) -> "Inspected":
        """Judge the headers of a series; raises as `read`."""
        job = {"kind": "inspect", "paths": [str(p) for p in paths], "assemble": self._dump("assemble")}
        return Inspected(**self._run(job, _silent))

    def read(
        self, paths: Sequence[Path], results: Path, attempt: str, *, given_up: Reason | None = None,
        progress: Progress = lambda stage, fraction: None,
    ) -> None:
        """Read one series; its findings, masks and picture are then the files of `attempt`, which is not published.

        Raises Crashed when the child died of it, Transient when it was ended or ran out of time, and the child's own
        error otherwise.
        """
        job = {
            "kind": "read", "paths": [str(p) for p in paths], "bundle": str(self._settings.node.bundle),
            "results": str(results), "attempt": attempt, "given_up": asdict(given_up) if given_up else None,
            "assemble": self._dump("assemble"), "infer": self._dump("infer"),
        }
        self._run(job, progress)

    def compare(self, first: Path, second: Path) -> str:
        """Compare two instances of one SOP Instance UID as `assemble.compare` does.

        Raises as `read`, but Permanent where it would crash or run out of time time after time: the judge waits for it.
        """
        return self._look({"kind": "compare", "first": str(first), "second": str(second)}, TIMEOUT)

    def source_note(self, path: Path) -> SourceNote | None:
        """Return what a received rejection note rejects, None when it is none; raises as `compare`, but Transient where it
        ran out of time: what a note rejects must not be read because a machine was slow.
        """
        said = self._look({"kind": "source_note", "path": str(path)})
        return SourceNote(Title(said["title"]), said["instances"]) if said["title"] else None

    def _look(self, job: dict[str, Any], *fatal: str) -> Any:
        """Perform a short job; Permanent where it crashes, or ends with a code of `fatal`, time after time."""
        for _ in range(_LOOKS_AT_MOST):
            try:
                return self._run(job, _silent)
            except Transient as error:
                if not isinstance(error, Crashed) and error.code not in fatal:
                    raise
                last = error
        raise Permanent(last.code, last.text)

    def start_idle(self) -> None:
        """Have a child ready for the next job."""
        with self._lock:
            if not self._idle:
                self._idle.append(_Child(_spawn(self._settings.infer.memory_mb)))

    def close(self) -> None:
        """End the idle children."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            _end(child.process)

    def _dump(self, section: str) -> dict[str, Any]:
        return getattr(self._settings, section).model_dump(mode="json")

    def _take(self) -> "_Child":
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.process.poll() is None:
                    return child
        return _Child(_spawn(self._settings.infer.memory_mb))

    def _give_back(self, child: "_Child") -> None:
        # A long life hides a slow leak; a child that failed is never trusted again.
        child.jobs += 1
        with self._lock:
            if child.jobs < _JOBS_PER_CHILD and len(self._idle) < _IDLE_AT_MOST:
                self._idle.append(child)
                return
        _end(child.process)

    def _run(self, job: dict[str, Any], progress: Progress) -> Any:
        timeout_s = self._settings.infer.timeout_s
        if job["kind"] != "read":
            timeout_s = min(timeout_s, _LOOK_S)
        child = self._take()
        expired = threading.Event()

        def stop() -> None:
            expired.set()
            child.process.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        answer: dict[str, Any] = {}
        try:
            answer = _converse(child.process, job, progress)
        finally:
            timer.cancel()
            if "done" in answer and not expired.is_set():
                self._give_back(child)
            else:
                _end(child.process)
        if expired.is_set():
            raise Transient(TIMEOUT, f"stopped after {timeout_s:.0f} s")
        if "error" in answer:
            raise _error_of(answer["error"])
        if "done" not in answer:
            raise _death(child.process.returncode)
        return answer["done"]


@dataclass(frozen=True)
class Inspected:
    """What `assemble.inspect` says of a series, in plain values: the judge never decodes anything itself."""

    kind: str
    reason: dict[str, str] | None
    candidate: dict[str, Any] | None

    @property
    def why(self) -> Reason | None:
        return Reason(**self.reason) if self.reason else None


@dataclass
class _Child:
    process: subprocess.Popen
    jobs: int = 0


def _silent(stage: str, fraction: float) -> None:
    """Progress of a short job: nobody asks."""


def _spawn(memory_mb: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "ovcf_node.workflow.child", str(memory_mb)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C and a supervisor's group signal are for the parent, which drains
    )


def _converse(child: subprocess.Popen, job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Give the job and return the child's answer, empty if it died without one."""
    with contextlib.suppress(BrokenPipeError):  # it died before reading
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
    for line in child.stdout:
        if not line.startswith("{"):
            continue  # a native library printed something
        answer = json.loads(line)
        if "stage" not in answer:
            return answer
        progress(answer["stage"], answer["fraction"])
    return {}


def _end(child: subprocess.Popen) -> None:
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()  # an idle or finished child leaves at the end of its input
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


def _death(status: int) -> Transient:
    if status >= 0:
        return Transient("child_died", f"exit status {status}")
    text = f"ended by {signal.Signals(-status).name}"
    return Transient("child_died", text) if -status in _NOT_A_CRASH else Crashed("child_crashed", text)


def _error_of(error: dict[str, Any]) -> OvcfError:
    if error["code"] == _OUT_OF_MEMORY:
        return Crashed(error["code"], error["text"])
    return (Transient if error["transient"] else Permanent)(error["code"], error["text"])


def _perform(job: dict[str, Any]) -> Any:
    from ovcf_node import assemble
    from ovcf_node.storage.results import Results
    from ovcf_node.workflow.reading import read_series

    if job["kind"] == "compare":
        return assemble.compare(Path(job["first"]), Path(job["second"]))
    if job["kind"] == "source_note":
        note = assemble.read_source_note(Path(job["path"]))
        return {"title": note.title if note else None, "instances": note.instances if note else {}}
    if job["kind"] == "inspect":
        seen = assemble.inspect([Path(p) for p in job["paths"]], Assemble(**job["assemble"]))
        verdict, candidate = seen.verdict, seen.candidate
        return asdict(Inspected(
            verdict.kind, verdict.reason.to_json() if verdict.reason else None, asdict(candidate) if candidate else None
        ))
    read = read_series(
        [Path(p) for p in job["paths"]], Path(job["bundle"]), Assemble(**job["assemble"]), Infer(**job["infer"]),
        progress=lambda stage, fraction: _say({"stage": stage, "fraction": fraction}),
        given_up=Reason(**job["given_up"]) if job["given_up"] else None,
    )
    Results(Path(job["results"])).prepare(job["attempt"], read.files())
    return True


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, OvcfError):
        return {"code": error.code, "text": error.text, "transient": isinstance(error, Transient)}
    if isinstance(error, MemoryError):
        return {"code": _OUT_OF_MEMORY, "text": "not enough memory to read the series", "transient": True}
    # The message of a foreign error may quote the data set; its kind and place may not.
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
    return {"code": "defect", "text": f"{type(error).__name__} in {place}", "transient": False}


def _receive(jobs: queue.SimpleQueue) -> None:
    for line in sys.stdin:
        jobs.put(json.loads(line))
    os._exit(0)  # the parent closed the pipe, or is dead


def _limit_memory(megabytes: int) -> None:
    # Of what it fills, not of what it maps: inference on a GPU maps many times the memory of the machine.
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = megabytes * 2**20
    limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main() -> None:
    """Perform the jobs that come on standard input, one after the other, until it ends; argument: its memory, megabytes."""
    _limit_memory(int(sys.argv[1]))
    # When memory is short the kernel shall take the child, which can be started again, and not the worker.
    with contextlib.suppress(OSError):  # a hardened container may not let it
        Path("/proc/self/oom_score_adj").write_text("1000")
    jobs: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(jobs,), daemon=True).start()
    import ovcf_node.workflow.reading  # noqa: F401 - the costly imports happen while nobody waits

    while True:
        job = jobs.get()
        try:
            answer = {"done": _perform(job)}
        # The boundary of the process. Let through, a defect would end the child: its parent would count a crash where it can
        # be told kind and place (`_failure`), and the traceback on standard error may quote the data set.
        except Exception as error:  # noqa: BLE001
            answer = {"error": _failure(error)}
        _say(answer)


if __name__ == "__main__":
    main()
