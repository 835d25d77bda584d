"""Run decoding and inference in a child process: a crash there ends neither the worker nor the queue.

The parent writes one JSON job to the child's standard input; the child answers with JSON lines on standard output:
progress lines `{"stage": ..., "fraction": ...}`, then one `{"done": ...}` or `{"error": {...}}`.
"""

import ctypes
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

from ovcf_node import assemble
from ovcf_node.config import Assemble, Infer, Settings
from ovcf_node.domain.reasons import Reason
from ovcf_node.errors import OvcfError, Permanent, Transient
from ovcf_node.storage.results import Results
from ovcf_node.workflow.reading import Progress, read_series

_STDERR_TAIL = 300  # characters of a crash report that are kept; native crashes print addresses, not identity


def read_in_child(
    paths: Sequence[Path], settings: Settings, results: Path, key: str, *, given_up: Reason | None = None,
    progress: Progress = lambda stage, fraction: None,
) -> None:
    """Read one series in a child process; its findings, masks and picture are stored under `key` afterwards.

    Raises Transient when the child crashed or ran out of time, and the child's own error otherwise.
    """
    job = {
        "kind": "read", "paths": [str(p) for p in paths], "bundle": str(settings.node.bundle),
        "results": str(results), "key": key,
        "assemble": settings.assemble.model_dump(mode="json"), "infer": settings.infer.model_dump(mode="json"),
        "given_up": asdict(given_up) if given_up else None,
    }
    _run(job, settings.infer.timeout_s, progress)


def compare_in_child(first: Path, second: Path, settings: Settings) -> str:
    """Compare two instances of one SOP Instance UID: "duplicate", "identity_conflict" or "content_conflict"."""
    job = {"kind": "compare", "first": str(first), "second": str(second)}
    return _run(job, settings.infer.timeout_s, lambda stage, fraction: None)


def _run(job: dict[str, Any], timeout_s: float, progress: Progress) -> Any:
    child = subprocess.Popen(
        [sys.executable, "-m", "ovcf_node.workflow.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    expired = threading.Event()
    tail: list[str] = []
    drain = threading.Thread(target=lambda: tail.append(child.stderr.read()), daemon=True)
    drain.start()

    def stop() -> None:
        expired.set()
        child.kill()

    timer = threading.Timer(timeout_s, stop)
    timer.start()
    answer: dict[str, Any] = {}
    try:
        try:
            child.stdin.write(json.dumps(job))
            child.stdin.close()
        except BrokenPipeError:
            pass  # it died before reading; its exit status tells below
        for line in child.stdout:
            if not line.startswith("{"):
                continue  # a native library printed something
            answer = json.loads(line)
            if "stage" in answer:
                progress(answer["stage"], answer["fraction"])
        child.wait()
        drain.join(5)
    finally:
        timer.cancel()
        if child.poll() is None:
            child.kill()
            child.wait()
    if expired.is_set():
        raise Transient("child_timeout", f"stopped after {timeout_s:.0f} s")
    if "error" in answer:
        kind = Transient if answer["error"]["transient"] else Permanent
        raise kind(answer["error"]["code"], answer["error"]["text"])
    if child.returncode != 0 or "done" not in answer:
        raise Transient("child_died", f"exit status {child.returncode}; {''.join(tail)[-_STDERR_TAIL:].strip()}")
    return answer["done"]


def _perform(job: dict[str, Any]) -> Any:
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


def _die_with_parent() -> None:
    """Ask Linux to end this process with its parent: a killed worker must not leave an inference behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> int:
    """Perform the job on standard input."""
    _die_with_parent()
    job = json.load(sys.stdin)
    try:
        result = _perform(job)
    except OvcfError as error:
        _say({"error": {"code": error.code, "text": error.text, "transient": isinstance(error, Transient)}})
        return 1
    except MemoryError:
        _say({"error": {"code": "out_of_memory", "text": "not enough memory to read the series", "transient": True}})
        return 1
    _say({"done": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
