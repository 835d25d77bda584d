"""Run decoding and inference in child processes: a crash there ends neither the worker nor the queue.

The parent writes one JSON job as a line to the child's standard input; the child answers with JSON lines on standard
output: progress lines `{"stage": ..., "fraction": ...}`, then one `{"done": ...}` or `{"error": {...}}`. The parent keeps
that standard input open while it lives, so a child whose parent was killed sees its end and leaves. What a child prints
to standard error is dropped: libraries quote data sets there.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ovcf_node.config import Assemble, Infer, Settings
from ovcf_node.domain.reasons import Reason
from ovcf_node.errors import OvcfError, Permanent, Transient

_Progress = Any  # Callable[[str, float], None]; spelled out in `reading`, which a parent need not import


class Children:
    """Child processes, one a job. The next one is started ahead: importing the libraries costs seconds."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._lock = threading.Lock()
        self._spare: subprocess.Popen | None = None

    def read(
        self, paths: Sequence[Path], results: Path, key: str, *, given_up: Reason | None = None,
        progress: _Progress = lambda stage, fraction: None,
    ) -> None:
        """Read one series; its findings, masks and picture are stored under `key` afterwards.

        Raises Transient when the child crashed or ran out of time, and the child's own error otherwise.
        """
        job = {
            "kind": "read", "paths": [str(p) for p in paths], "bundle": str(self._settings.node.bundle),
            "results": str(results), "key": key, "given_up": asdict(given_up) if given_up else None,
            "assemble": self._settings.assemble.model_dump(mode="json"),
            "infer": self._settings.infer.model_dump(mode="json"),
        }
        self._run(job, progress)

    def compare(self, first: Path, second: Path) -> str:
        """Compare two instances of one SOP Instance UID as `assemble.compare` does; raises as `read`."""
        job = {"kind": "compare", "first": str(first), "second": str(second)}
        return self._run(job, lambda stage, fraction: None)

    def start_spare(self) -> None:
        """Have a child ready for the next job."""
        with self._lock:
            if self._spare is None or self._spare.poll() is not None:
                self._spare = _spawn()

    def close(self) -> None:
        """End the spare child."""
        with self._lock:
            if self._spare is not None:
                _end(self._spare)
                self._spare = None

    def _take(self) -> subprocess.Popen:
        with self._lock:
            spare, self._spare = self._spare, None
        return spare if spare is not None and spare.poll() is None else _spawn()

    def _run(self, job: dict[str, Any], progress: _Progress) -> Any:
        timeout_s = self._settings.infer.timeout_s
        child = self._take()
        expired = threading.Event()

        def stop() -> None:
            expired.set()
            child.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        try:
            answer = _converse(child, job, progress)
        finally:
            timer.cancel()
            _end(child)
        if expired.is_set():
            raise Transient("child_timeout", f"stopped after {timeout_s:.0f} s")
        if "error" in answer:
            kind = Transient if answer["error"]["transient"] else Permanent
            raise kind(answer["error"]["code"], answer["error"]["text"])
        if "done" not in answer:
            raise Transient("child_died", _obituary(child.returncode))
        return answer["done"]


def _spawn() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "ovcf_node.workflow.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def _converse(child: subprocess.Popen, job: dict[str, Any], progress: _Progress) -> dict[str, Any]:
    """Give the job and return the child's last line, empty if it died without one."""
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


def _obituary(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _perform(job: dict[str, Any]) -> Any:
    from ovcf_node import assemble
    from ovcf_node.storage.results import Results
    from ovcf_node.workflow.reading import read_series

    if job["kind"] == "compare":
        return assemble.compare(Path(job["first"]), Path(job["second"]))
    read = read_series(
        [Path(p) for p in job["paths"]], Path(job["bundle"]), Assemble(**job["assemble"]), Infer(**job["infer"]),
        progress=lambda stage, fraction: _say({"stage": stage, "fraction": fraction}),
        given_up=Reason(**job["given_up"]) if job["given_up"] else None,
    )
    results = Results(Path(job["results"]))
    for name, data in read.files().items():
        results.put(job["key"], name, data)
    return True


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, OvcfError):
        return {"code": error.code, "text": error.text, "transient": isinstance(error, Transient)}
    if isinstance(error, MemoryError):
        return {"code": "out_of_memory", "text": "not enough memory to read the series", "transient": True}
    # The message of a foreign error may quote the data set; its kind and place may not.
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
    return {"code": "defect", "text": f"{type(error).__name__} in {place}", "transient": False}


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> int:
    """Perform the one job that comes on standard input; without one, leave."""
    import ovcf_node.workflow.reading  # noqa: F401 - the costly imports happen while nobody waits

    line = sys.stdin.readline()
    if not line:
        return 0
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        answer = {"done": _perform(json.loads(line))}
    except Exception as error:  # noqa: BLE001 - the child's boundary: whatever happened becomes one coded line
        answer = {"error": _failure(error)}
    _say(answer)
    os._exit(0)  # the thread above still waits for the parent


if __name__ == "__main__":
    sys.exit(main())
