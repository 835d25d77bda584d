"""C-FIND on an open association with few and with many results in the ledger: flat, or not?"""

import random
import signal
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import insert

import postgresql
from catalogue_rows import ROLES, SC, SEG, SR, result_object
from dicom_peers import free_port, uid, wait_until
from ovcf_node.app.checks import alive
from ovcf_node.config import load
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.ledger.catalogue import entry_of
from ovcf_node.ledger.schema import catalogue, results, revisions
from ovcf_node.network import contexts
from query_peers import association, identifier

PER_STUDY = (SEG, SEG, SC, SR)
QUERIES = 200


def fill(ledger: Ledger, first: int, last: int) -> None:
    """Add studies `first` .. `last` - 1, four results each, as if long answered."""
    templates = [entry_of(result_object("template", sop_class)).values for sop_class in PER_STUDY]
    for begin in range(first, last, 2500):
        numbers = range(begin, min(begin + 2500, last))
        made = [(n, i) for n in numbers for i in range(len(PER_STUDY))]
        with ledger.catalogue._engine.begin() as connection:
            connection.execute(insert(revisions), [_revision(n) for n in numbers])
            connection.execute(insert(results), [_result(n, i) for n, i in made])
            connection.execute(insert(catalogue), [_entry(templates[i], n, i) for n, i in made])
    with ledger.catalogue._engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")  # what a database that grew over months has long done by itself


def _revision(n: int) -> dict:
    return {
        "id": n + 1, "series_instance_uid": uid(n, "ct"), "study_instance_uid": uid(n), "number": 1, "state": "ENCODED",
        "through_instance_id": n, "last_received_at": 0.0, "stat": False, "attempt": 0, "failures": 0, "not_before": 0.0,
        "created_at": 0.0, "updated_at": 0.0, "answered": True,
    }


def _result(n: int, i: int) -> dict:
    sop_class = PER_STUDY[i]
    return {
        "id": 4 * n + i + 1, "revision_id": n + 1, "role": ROLES[sop_class],
        "dialect": "88.34/air" if sop_class == SR else "",
        "sop_instance_uid": uid(n, i), "sop_class_uid": sop_class, "series_instance_uid": uid(n, i, "series"), "path": "x",
        "sha256": "h", "size": 1,
    }


def _entry(template: dict, n: int, i: int) -> dict:
    own = {
        "study_instance_uid": uid(n), "series_instance_uid": uid(n, i, "series"), "sop_instance_uid": uid(n, i),
        "patient_id": f"ID-{n}", "accession_number": f"A-{n}", "study_date": f"2024{n % 12 + 1:02}{n % 28 + 1:02}",
        "patient_name": f"name^{n}",
    }
    attributes = template["attributes"]
    for column, value in own.items():
        attributes = attributes.replace(f'"{template[column]}"', f'"{value}"')
    return template | own | {"result_id": 4 * n + i + 1, "attributes": attributes}


@contextmanager
def serving(folder: Path, url: str):
    """Run the query process on a ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "node.toml"
    path.write_text(
        f'[node]\ndata = "data"\n[engine]\nledger_url = "{url}"\n[query]\nenabled = true\nhost = "127.0.0.1"\n'
        f'port = {free_port()}\npeers = [{{ ae_title = "PACS" }}]\n[log]\nlevel = "WARNING"\n'
    )
    settings = load(path)
    process = subprocess.Popen([sys.executable, "-m", "ovcf_node", "run", "query", "--config", str(path)])
    try:
        wait_until(lambda: not any(p.startswith("query: ") for p in alive(settings)), 120)
        yield settings.query.port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def measure_query(folder: Path) -> None:
    """Print the time from request to final response, on SQLite and, where it is installed, PostgreSQL."""
    _measure(folder / "sqlite", f"sqlite:///{folder / 'ledger.sqlite'}", "SQLite")
    if postgresql.found("postgres") is None:
        print("query      PostgreSQL is not installed (Debian package postgresql): not measured")
        return
    with postgresql.cluster() as socket_folder, postgresql.database(socket_folder) as url:
        _measure(folder / "postgresql", url, "PostgreSQL")


def _measure(folder: Path, url: str, name: str) -> None:
    migrate(url)
    ledger, filled = Ledger(url), 0
    for studies in (250, 25_000):
        fill(ledger, filled, studies)
        filled = studies
        with serving(folder / str(studies), url) as port, association(port, contexts.STUDY_ROOT_FIND) as opened:
            for keyword, value in (("AccessionNumber", lambda n: f"A-{n}"), ("StudyInstanceUID", uid)):
                times = _times(opened, keyword, [value(n) for n in random.Random(1).choices(range(studies), k=QUERIES)])
                p50, p95 = statistics.median(times), sorted(times)[int(0.95 * len(times))]
                print(f"query      {name}, {4 * studies} results, C-FIND STUDY by {keyword}: p50 {p50 * 1e3:.1f} ms, "
                      f"p95 {p95 * 1e3:.1f} ms ({QUERIES} queries, one association)")
    ledger.close()


def _times(opened, keyword: str, values: list[str]) -> list[float]:
    keys = {"StudyInstanceUID": "", "AccessionNumber": "", "PatientID": "", "PatientName": "", "StudyDate": "",
            "ModalitiesInStudy": "", "NumberOfStudyRelatedInstances": ""}
    times = []
    for value in values:
        asked = identifier("STUDY", **(keys | {keyword: value}))
        begun = time.perf_counter()
        answers = list(opened.send_c_find(asked, contexts.STUDY_ROOT_FIND))
        times.append(time.perf_counter() - begun)
        assert len(answers) == 2, f"{len(answers) - 1} matches"
    return times
