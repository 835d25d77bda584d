"""No patient can be named in the log, whatever a library or a careless line says."""

import io
import json
import logging
import stat
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import structlog

from ovcf_node.errors import Transient
from ovcf_node.observe.logging import WITHHELD, Pseudonyms, configure, keyed_hash

NAME, UID = "Doe^Jane", "1.2.826.0.1.3680043.8.498.45787841905188114249811811"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Lines:
    """Configure JSON at INFO; return what was logged since."""
    stream = io.StringIO()
    configure("INFO", "json", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def dataset() -> pydicom.Dataset:
    result = pydicom.Dataset()
    result.PatientName = NAME
    result.StudyInstanceUID = UID
    return result


def test_an_event_is_one_json_object(lines: Lines) -> None:
    structlog.contextvars.bind_contextvars(process="worker")
    structlog.get_logger("judge").info("judged", state="COMPLETE", seconds=1.5, counts=(1, 2), none=None)
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "judged", "level": "info", "logger": "judge", "process": "worker", "state": "COMPLETE",
        "seconds": 1.5, "counts": [1, 2], "none": None,
    }


@pytest.mark.parametrize("key", [
    "PatientName", "patient_id", "patient", "PatientBirthDate", "accession", "accession_number", "AccessionNumber",
    "referring_physician", "OperatorsName", "dataset", "StudyDescription", "(0010,0010)", "00100020", "0x00100030",
])
def test_keys_of_identity_are_withheld(lines: Lines, key: str) -> None:
    structlog.get_logger("x").info("e", **{key: NAME}, nested={"list": [{key: NAME}]})
    (line,) = lines()
    assert line[key] == line["nested"]["list"][0][key] == WITHHELD
    assert "Doe" not in json.dumps(line)


class Colour(Enum):
    RED = "red"


class State(StrEnum):
    DONE = "done"


@pytest.mark.parametrize("value, shown", [
    (dataset(), "<Dataset>"),
    (dataset()["PatientName"], "<DataElement>"),
    (dataset().PatientName, "<PersonName>"),
    ([dataset()], ["<Dataset>"]),
    (np.zeros(3), "<ndarray>"),
    (NAME.encode(), "<bytes>"),
    (ValueError(NAME), "ValueError"),
    (Transient("peer_busy", "later"), "Transient: peer_busy: later"),
    (Colour.RED, "red"),
    (State.DONE, "done"),
    (Path("/spool/x"), "/spool/x"),
    (f"read:{UID}:1", "read:<uid>:1"),
    (f"CT.{UID}.dcm", "CT.<uid>.dcm"),
    ("2.25.329800735698586629295641978511506172918", "<uid>"),
    ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2"),
    ("10.20.30.40:11112 version 3.0.4", "10.20.30.40:11112 version 3.0.4"),
])
def test_only_plain_values_pass_and_no_uid_of_a_patient(lines: Lines, value: object, shown: object) -> None:
    structlog.get_logger("x").info("e", value=value)
    assert lines()[0]["value"] == shown


def test_only_our_errors_keep_their_text(lines: Lines) -> None:
    try:
        try:
            raise ValueError(f"invalid value {NAME}")
        except ValueError as error:
            raise Transient("unreadable", "header") from error
    except Transient:
        structlog.get_logger("x").error("failed", exc_info=True)
        logging.getLogger("ovcf_node.x").exception("failed too")
    here = "test_logging:"
    for line in lines():
        described = line["exception"].splitlines()
        assert described[0] == "Transient: unreadable: header"
        assert here in described[1] and described[1].endswith("in test_only_our_errors_keep_their_text")
        assert described[2:4] == ["caused by", "ValueError"]
        assert NAME not in json.dumps(line)


def test_libraries_that_read_data_sets_only_say_where(lines: Lines) -> None:
    logging.getLogger("pydicom").info("not heard")
    for library in ("pydicom", "highdicom.seg", "unknown"):
        logging.getLogger(library).warning("Invalid value for VR PN: %r", NAME)
    logging.getLogger("dbos").warning("Workflow read:%s:1 is slow", UID)
    logging.getLogger("sqlalchemy.engine").info("not heard")
    pydicom_line, highdicom_line, unknown, dbos = lines()
    for line, name in ((pydicom_line, "pydicom"), (highdicom_line, "highdicom.seg"), (unknown, "unknown")):
        assert (line["logger"], line["event"]) == (name, "library_message")
        assert line["where"].startswith("test_logging.py:")
    assert dbos["event"] == "Workflow read:<uid>:1 is slow"
    assert "Doe" not in json.dumps(lines())


def test_warnings_and_crashes_do_not_quote(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"Invalid value for VR PN: {NAME}", UserWarning, stacklevel=1)

    def crash() -> None:
        raise RuntimeError(NAME)

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    warned, crashed = lines()
    assert (warned["event"], warned["category"], warned["level"]) == ("library_warning", "UserWarning", "warning")
    assert warned["where"].startswith("test_logging.py:")
    assert (crashed["event"], crashed["level"]) == ("crashed", "critical")
    assert crashed["exception"].startswith("RuntimeError\n")
    assert "Doe" not in json.dumps([warned, crashed])


def test_the_level_holds_and_a_quieter_library_stays_quiet() -> None:
    stream = io.StringIO()
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    configure("ERROR", "json", stream)
    structlog.get_logger("x").warning("not heard")
    logging.getLogger("pynetdicom").error("not heard")
    logging.getLogger("dbos").warning("not heard")
    structlog.get_logger("x").error("heard")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["heard"]


def test_console_is_for_people_and_configuring_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("INFO", "json", first)
    configure("INFO", "console", second)
    structlog.get_logger("x").info("judged", patient=NAME, state="COMPLETE")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
    assert "judged" in second.getvalue() and "state=COMPLETE" in second.getvalue()
    assert "Doe" not in second.getvalue()


def test_pseudonyms_are_stable_for_one_installation(tmp_path: Path) -> None:
    here, elsewhere = Pseudonyms(tmp_path / "a"), Pseudonyms(tmp_path / "b")
    assert here(UID) == Pseudonyms(tmp_path / "a")(UID) != elsewhere(UID)
    assert here(UID) != here(UID + "1")
    assert len(here(UID)) == 12 and UID not in here(UID)
    (key,) = (tmp_path / "a").iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32
    assert here(UID) == keyed_hash(UID, key.read_bytes())


def test_concurrent_first_uses_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = {p(UID) for p in pool.map(lambda _: Pseudonyms(tmp_path), range(16))}
    assert len(made) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["log-key.secret"]


def test_a_key_that_cannot_be_made_is_a_transient_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Transient, match="log_key"):
        Pseudonyms(tmp_path / "file")
