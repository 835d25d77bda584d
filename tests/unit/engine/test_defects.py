"""What a defect leaves behind: kind and place in the log, its kind in the engine's database, its message nowhere."""

import logging
import time
from pathlib import Path

from ovcf_node.engine import Engine
from ovcf_node.observe.logging import configure


def _quotes() -> None:
    raise ValueError("could not convert string to float: 'Planted^Name'")  # as pydicom does


def test_what_a_defect_says_is_not_kept(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'engine.sqlite'}"
    engine = Engine(database, executor_id="worker-0", queues={"read": 1}, poll_s=0.1)

    @engine.workflow("read")
    def read() -> None:
        engine.step("infer", _quotes)

    with (tmp_path / "log").open("w+") as log:
        configure("DEBUG", "json", log)
        engine.launch()
        try:
            engine.enqueue("read", "r", "read", (), priority=1)
            limit = time.monotonic() + 60
            while engine.state("r") != "failed":
                assert time.monotonic() < limit
                time.sleep(0.05)
            assert [step.failed for step in engine.history("r")] == [True]
        finally:
            engine.shutdown(0)
            logging.getLogger().handlers.clear()
        log.seek(0)
        said = log.read()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("engine.sqlite*"))
    assert b"a defect: ValueError" in kept and b"Planted" not in kept
    assert "ValueError" in said and "in _quotes" in said and "Planted" not in said
