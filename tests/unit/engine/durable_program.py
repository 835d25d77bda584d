"""A worker process for the tests of the engine: python durable_program.py FOLDER EXECUTOR [full].

Enqueues one reading of four steps and ends with 0 when it is done. Each step notes its name in FOLDER/effects.
In its first run step `encode` never ends, so that the test can kill it, or (full) lets the disk fill up.
"""

import resource
import sys
import time
from pathlib import Path

from ovcf_node.engine import Engine, Slot
from ovcf_node.errors import Transient


def effects(folder: Path) -> list[str]:
    path = folder / "effects"
    return path.read_text().split() if path.exists() else []


def note(folder: str, name: str) -> tuple[str, int]:
    with open(Path(folder) / "effects", "a") as file:
        file.write(f"{name}\n")
    return name, 1


def ask(folder: str) -> None:
    note(folder, "ask")
    raise Transient("peer_busy", "try later")


def encode(folder: str, full: bool) -> str:
    first = "encode" not in effects(Path(folder))
    note(folder, "encode")
    if first and full:
        written = (Path(folder) / "engine.sqlite-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (written + 8192, resource.RLIM_INFINITY))
    elif first:
        time.sleep(60)
    return "x" * 1_000_000


def register(engine: Engine) -> None:
    @engine.workflow("read")
    def read(folder: str, full: bool) -> list:
        try:
            engine.step("ask", ask, folder)
        except Transient as error:
            answer = [error.code, error.text]
        answer += engine.step("infer", note, folder, "infer")
        engine.step("encode", encode, folder, full)
        engine.step("deliver", note, folder, "deliver")
        return answer


def open_engine(folder: Path, executor: str, queues: dict[str, int]) -> Engine:
    engine = Engine(f"sqlite:///{folder / 'engine.sqlite'}", executor_id=executor, queues=queues, poll_s=0.1)
    register(engine)
    return engine


def main(folder: Path, executor: str, full: bool) -> None:
    with Slot(folder / "slots", executor) as slot:
        engine = open_engine(folder, slot.name, {"read": 1})
        engine.launch()
        engine.enqueue("read", "one", "read", (str(folder), full), priority=1)
        while engine.state("one") != "done":
            time.sleep(0.05)
        engine.shutdown(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], "full" in sys.argv[3:])
