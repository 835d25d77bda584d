"""The engine keeps what DBOS promises, and each cure for a trap of DBOS works."""

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import durable_program
import pytest
from durable_program import effects

from ovcf_node.engine import EXIT_STORAGE, STAT_HEAD_START_MIN, Engine, priority
from ovcf_node.errors import Permanent, Transient
from ovcf_node.storage.compaction import compact

PROGRAM = Path(durable_program.__file__)

Open = Callable[..., Engine]


@pytest.fixture(scope="module")
def known_queues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that knows the queues: DBOS begins to work a new one only after a second."""
    file = tmp_path_factory.mktemp("engine") / "engine.sqlite"
    engine = Engine(f"sqlite:///{file}", executor_id="worker-0", queues={"read": 1, "deliver-pacs": 1}, poll_s=0.1)
    engine.launch()
    engine.shutdown(0)
    return file


@pytest.fixture(autouse=True)
def database(known_queues: Path, tmp_path: Path) -> None:
    shutil.copy(known_queues, tmp_path)


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Open]:
    """A launched engine on one database; opening the next one shuts the last one down, as a restart does."""
    opened: list[Engine] = []

    def close() -> None:
        if opened:
            opened.pop().shutdown(0)

    def start(*functions: Callable, executor: str = "worker-0", **queues: int) -> Engine:
        close()
        engine = Engine(f"sqlite:///{tmp_path / 'engine.sqlite'}", executor_id=executor, queues=queues, poll_s=0.1)
        for function in functions:
            engine.workflow(function.__name__)(function)
        opened.append(engine)
        engine.launch()
        return engine

    yield start
    close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def wait_for(engine: Engine, workflow_id: str, state: str) -> None:
    wait_until(lambda: engine.state(workflow_id) == state)


def query(folder: Path, sql: str) -> list[tuple]:
    connection = sqlite3.connect(folder / "engine.sqlite")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def run_program(folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, PROGRAM, folder, *arguments])


def kill_inside_encode(folder: Path, executor: str) -> None:
    process = run_program(folder, executor)
    try:
        wait_until(lambda: "encode" in effects(folder))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def test_enqueue_is_idempotent_and_nothing_is_pickled(open_engine: Open, tmp_path: Path) -> None:
    def read(key: str, number: float) -> dict:
        return {"pair": engine.step("pair", lambda: (key, number, None))}

    engine = open_engine(read, read=1)
    assert engine.state("r") == "absent"
    assert engine.enqueue("read", "r", "read", ("a", 1.5), priority=1)
    assert not engine.enqueue("read", "r", "read", ("a", 1.5), priority=1)
    wait_for(engine, "r", "done")
    assert not engine.enqueue("read", "r", "read", ("a", 1.5), priority=1)
    assert engine.states(["r", "s"]) == {"r": "done", "s": "absent"}
    assert engine.states([]) == {}
    assert [(step.name, step.failed) for step in engine.history("r")] == [("pair", False)]
    assert query(tmp_path, "PRAGMA journal_mode") == [("wal",)]
    assert query(tmp_path, "SELECT inputs FROM workflow_input") == [('{"namedArgs":{},"positionalArgs":["a",1.5]}',)]
    assert query(tmp_path, "SELECT serialization FROM workflow_status UNION SELECT serialization "
                           "FROM operation_outputs") == [("portable_json",)]


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Callable[[str], Engine]]:
    """Start the program's engine in this process, as the given executor."""
    started: list[Engine] = []

    def start(executor: str) -> Engine:
        engine = durable_program.open_engine(tmp_path, executor, {"read": 1})
        started.append(engine)
        engine.launch()
        return engine

    yield start
    for engine in started:
        engine.shutdown(0)


def test_a_kill_inside_a_step_repeats_only_that_step(restarted: Callable[[str], Engine], tmp_path: Path) -> None:
    kill_inside_encode(tmp_path, "worker-0")
    wait_for(restarted("worker-0"), "one", "done")
    assert effects(tmp_path) == ["ask", "infer", "encode", "encode", "deliver"]
    # The replayed error has its class, code and text; the replayed tuple is what the first run saw.
    assert query(tmp_path, "SELECT output FROM workflow_output") == [('["peer_busy","try later","infer",1]',)]


def test_work_of_a_dead_executor_goes_back_on_its_own_queue(
    restarted: Callable[[str], Engine], tmp_path: Path
) -> None:
    kill_inside_encode(tmp_path, "worker-9")
    engine = restarted("worker-0")
    assert engine.take_over({"worker-0", "worker-9"}) == []
    assert engine.state("one") == "running"
    assert engine.take_over({"worker-0"}) == ["one"]
    assert engine.take_over({"worker-0"}) == []
    wait_for(engine, "one", "done")
    assert effects(tmp_path) == ["ask", "infer", "encode", "encode", "deliver"]
    assert query(tmp_path, "SELECT queue_name, executor_id FROM workflow_status") == [("read", "worker-0")]


def test_a_full_disk_ends_the_process_and_a_restart_goes_on(
    restarted: Callable[[str], Engine], tmp_path: Path
) -> None:
    assert run_program(tmp_path, "worker-0", "full").wait(60) == EXIT_STORAGE
    assert query(tmp_path, "SELECT status FROM workflow_status") == [("PENDING",)]
    wait_for(restarted("worker-0"), "one", "done")
    assert effects(tmp_path) == ["ask", "infer", "encode", "encode", "deliver"]


def test_repair_goes_on_behind_the_last_recorded_step(open_engine: Open) -> None:
    ran: list[str] = []

    def read() -> None:
        engine.step("infer", ran.append, "infer")
        if len(ran) == 1:
            ran.append("full")
            raise sqlite3.OperationalError("database or disk is full")
        engine.step("encode", ran.append, "encode")

    def defect() -> None:
        raise ValueError("a defect")

    engine = open_engine(read, defect, read=2)
    engine.enqueue("read", "r", "read", (), priority=1)
    engine.enqueue("defect", "d", "read", (), priority=1)
    wait_until(lambda: engine.states(["r", "d"]) == {"r": "failed", "d": "failed"})
    assert engine.repair() == ["r"]
    wait_for(engine, "r", "done")
    assert ran == ["infer", "full", "encode"]
    assert engine.repair() == []


def test_enqueue_only_takes_no_work_and_the_queue_runs_by_priority(open_engine: Open) -> None:
    order: list[str] = []

    def read(name: str) -> None:
        order.append(name)

    engine = open_engine(read, executor="judge")
    for name, urgency in (("late", 3), ("stat", 1), ("early", 2)):
        engine.enqueue("read", name, "read", (name,), priority=urgency)
    engine.enqueue("read", "delayed", "read", ("delayed",), priority=1, delay_s=3600)
    time.sleep(0.6)  # several polls
    assert engine.states(["late", "stat", "early"]) == dict.fromkeys(["late", "stat", "early"], "enqueued")

    engine = open_engine(read, executor="worker-0", read=1)
    wait_for(engine, "late", "done")
    assert order == ["stat", "early", "late"]
    assert engine.state("delayed") == "enqueued"
    engine.run_now("delayed")
    wait_for(engine, "delayed", "done")


def test_a_process_works_its_own_queues_only(open_engine: Open) -> None:
    def work() -> None:
        pass

    engine = open_engine(work, executor="sender-0", **{"deliver-pacs": 1})
    engine.enqueue("work", "r", "read", (), priority=1)
    engine.enqueue("work", "d", "deliver-pacs", (), priority=2)
    wait_for(engine, "d", "done")
    assert engine.state("r") == "enqueued"


def test_two_workflows_of_one_mark_never_wait_or_run_together(open_engine: Open) -> None:
    go_on = threading.Event()

    def send() -> None:
        go_on.wait(60)

    engine = open_engine(send, **{"deliver-pacs": 2})
    assert engine.enqueue("send", "first", "deliver-pacs", (), priority=1, alone="revision 1")
    wait_for(engine, "first", "running")
    assert not engine.enqueue("send", "second", "deliver-pacs", (), priority=1, alone="revision 1")
    assert engine.enqueue("send", "other", "deliver-pacs", (), priority=1, alone="revision 2")
    go_on.set()
    wait_for(engine, "first", "done")
    assert engine.state("second") == "absent"
    assert engine.enqueue("send", "second", "deliver-pacs", (), priority=1, alone="revision 1")


def test_drain_stops_between_steps_and_a_changed_workflow_goes_on(open_engine: Open) -> None:
    inside, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def infer() -> None:
        ran.append("infer")
        inside.set()
        go_on.wait(60)

    def read() -> None:
        engine.step("infer", infer)
        engine.step("encode", ran.append, "encode")

    engine = open_engine(read, read=1)
    engine.enqueue("read", "old", "read", (), priority=1)
    assert inside.wait(60)
    threading.Timer(0.5, go_on.set).start()
    assert engine.shutdown(5)
    assert ran == ["infer"]

    def changed() -> None:
        if engine.patched("check"):
            engine.step("check", ran.append, "check")
        engine.step("infer", infer)
        engine.step("encode", ran.append, "encode")

    changed.__name__ = "read"
    engine = open_engine(changed, read=1)
    wait_for(engine, "old", "done")
    assert ran == ["infer", "encode"]
    engine.enqueue("read", "new", "read", (), priority=1)
    wait_for(engine, "new", "done")
    assert ran == ["infer", "encode", "check", "infer", "encode"]


def test_shutdown_says_that_a_step_did_not_end(open_engine: Open) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        go_on.wait(60)

    def read() -> None:
        engine.step("hang", hang)

    engine = open_engine(read, read=1)
    engine.enqueue("read", "r", "read", (), priority=1)
    assert inside.wait(60)
    assert not engine.shutdown(0)
    go_on.set()


def test_cancel_forget_and_compact(open_engine: Open, tmp_path: Path) -> None:
    def read(text: str) -> str:
        return text

    engine = open_engine(read, read=4)
    for name in "abcd":
        engine.enqueue("read", name, "read", ("x" * 200_000,), priority=1)
    engine.enqueue("read", "waiting", "read", ("",), priority=1, delay_s=3600)
    engine.enqueue("read", "cancelled", "read", ("",), priority=1, delay_s=3600)
    engine.cancel("cancelled")
    assert engine.state("cancelled") == "failed"
    wait_until(lambda: set(engine.states("abcd").values()) == {"done"})
    assert engine.forget(datetime.now(UTC) - timedelta(hours=1)) == 0
    size = (tmp_path / "engine.sqlite").stat().st_size
    assert engine.forget(datetime.now(UTC) + timedelta(seconds=1)) == 5
    while compact(tmp_path / "engine.sqlite"):
        pass
    assert engine.states(["a", "waiting", "cancelled"]) == {"a": "absent", "waiting": "enqueued", "cancelled": "absent"}
    assert (tmp_path / "engine.sqlite").stat().st_size < max(size, 1_600_000) / 2


def test_an_error_of_ours_is_one_log_line_without_traceback(
    open_engine: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise Permanent("refused", "told so")

    def read() -> None:
        engine.step("fail", fail)

    engine = open_engine(read, read=1)
    with caplog.at_level(logging.WARNING):
        engine.enqueue("read", "r", "read", (), priority=1)
        wait_for(engine, "r", "failed")
        wait_until(lambda: "refused" in caplog.text)
    assert "Traceback" not in caplog.text
    assert [step.failed for step in engine.history("r")] == [True]


def test_a_step_outside_a_workflow_is_a_plain_call(open_engine: Open) -> None:
    def fail() -> None:
        raise Transient("peer_busy")

    engine = open_engine()
    assert engine.step("pair", lambda: (1, 2)) == [1, 2]
    with pytest.raises(Transient, match="peer_busy"):
        engine.step("fail", fail)


def test_priority_is_arrival_with_a_head_start_for_stat() -> None:
    noon = datetime(2026, 8, 1, 12, tzinfo=UTC)
    head_start = timedelta(minutes=STAT_HEAD_START_MIN)
    assert priority(noon, stat=False) < priority(noon + timedelta(minutes=1), stat=False)
    assert priority(noon, stat=True) < priority(noon - head_start + timedelta(minutes=1), stat=False)
    assert priority(noon, stat=True) > priority(noon - head_start - timedelta(minutes=1), stat=False)
    assert priority(datetime(1990, 1, 1, tzinfo=UTC), stat=True) == 1
    assert priority(datetime(9000, 1, 1, tzinfo=UTC), stat=False) == 2**31 - 1
