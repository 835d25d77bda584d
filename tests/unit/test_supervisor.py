"""The supervisor's promises, kept for small programs: restart, drain, and a reload that spares who can reread."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from ovcf_node.supervisor import supervise

PROGRAM = """
import os, pathlib, signal, sys, threading
log = pathlib.Path(sys.argv[1])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
signal.signal(signal.SIGHUP, lambda *_: log.open("a").write("reread\\n"))
log.open("a").write(f"start {os.getpid()}\\n")
stop.wait()
log.open("a").write("drained\\n")
"""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def until(condition, what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def node(tmp_path):
    """Run `act` in a thread beside a supervisor of "receiver" and "worker" (signals need the main thread)."""
    logs = {name: tmp_path / name for name in ("receiver", "worker")}
    commands = {name: [sys.executable, "-S", "-c", PROGRAM, str(log)] for name, log in logs.items()}
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}

    def run(act, usable=lambda: True) -> int:
        failure: list[BaseException] = []

        def steps() -> None:
            try:
                until(lambda: lines(logs["receiver"]) and lines(logs["worker"]), "both run")
                act(logs)
            except BaseException as error:  # noqa: BLE001 - carried over to the main thread, which raises it
                failure.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=steps)
        thread.start()
        status = supervise(commands, reread=("receiver",), usable=usable, drain_s=10)
        thread.join()
        if failure:
            raise failure[0]
        return status

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def test_reload_spares_who_can_reread_and_drains_the_others(node, tmp_path):
    def act(logs):
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: len(lines(logs["worker"])) == 3, "the worker runs again")
        until(lambda: len(lines(logs["receiver"])) == 2, "the receiver reread")

    assert node(act) == 0
    assert [line.split()[0] for line in lines(tmp_path / "receiver")] == ["start", "reread", "drained"]
    assert [line.split()[0] for line in lines(tmp_path / "worker")] == ["start", "drained", "start", "drained"]


def test_an_unusable_configuration_changes_nothing(node, tmp_path):
    asked = threading.Event()

    def usable() -> bool:
        asked.set()
        return False

    def act(_logs):
        os.kill(os.getpid(), signal.SIGHUP)
        assert asked.wait(10)

    assert node(act, usable) == 0
    assert [line.split()[0] for line in lines(tmp_path / "worker")] == ["start", "drained"]


def test_a_process_that_ends_is_started_again(node, tmp_path):
    def act(logs):
        os.kill(int(lines(logs["worker"])[0].split()[1]), signal.SIGKILL)
        until(lambda: len(lines(logs["worker"])) == 2, "the worker runs again")

    assert node(act) == 0
    assert [line.split()[0] for line in lines(tmp_path / "worker")] == ["start", "start", "drained"]
