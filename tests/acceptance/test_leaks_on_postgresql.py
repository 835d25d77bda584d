"""No identity leaves by the errors of PostgreSQL: they quote the row that failed, and a result's row names the patient.

A real node on a real server. Rows are refused where instances are recorded and where results are entered in the catalogue,
and a query meets a table that is gone; then everything goes on.
"""

import os
import subprocess

import psycopg
import pydicom
import pytest
from sqlalchemy import make_url

from dicom_peers import CT_IMAGE, program
from node_harness import Node, free_port, wait_for
from ovcf_node.network import associate
from planted_identity import leaks, mark, plant
from postgresql import cluster, database
from quick_study import label_bundle, series_uid, write_study

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(600)]

_REFUSED = "ALTER TABLE {table} ADD CONSTRAINT planted CHECK (false) NOT VALID"
_TAKEN = "ALTER TABLE {table} DROP CONSTRAINT planted"


class Site:
    """The node, its database, and the study of a patient whose every word is marked."""

    def __init__(self, folder, url: str):
        self.query = free_port()
        self.node = Node(
            folder / "node", f'[[destinations]]\nname = "archive"\ntype = "folder"\npath = "{folder / "archive"}"\n',
            extra=f'[log]\nlevel = "DEBUG"\n[query]\nenabled = true\nport = {self.query}\n'
                  'peers = [{ ae_title = "FINDSCU" }]\n',
        )
        self.study = write_study(folder / mark("file name"), "read")
        plant(self.study)
        address = make_url(url)
        self.database = psycopg.connect(host=address.query["host"], user="ovcf", dbname=address.database, autocommit=True)

    def send(self, count: int | None = None) -> set[int | None]:
        files = [associate.StoreFile(p, CT_IMAGE, pydicom.dcmread(p, specific_tags=[]).file_meta.MediaStorageSOPInstanceUID)
                 for p in self.study[:count]]
        replies: list[associate.StoreReply] = []
        associate.store(associate.Remote("127.0.0.1", self.node.port, "OVCF_NODE", "SCANNER", timeout_s=60), files,
                        replies.append)
        return {reply.status for reply in replies}

    def find(self) -> bytes:
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientName={mark('PatientName')}*", "-k", "PatientID"]
        done = subprocess.run([program("findscu"), "-S", "-aet", "FINDSCU", "-aec", "OVCF_NODE", *keys, "127.0.0.1",
                               str(self.query)], capture_output=True, timeout=60)
        return done.stdout + done.stderr

    def says(self, what: str) -> bool:
        return what in self.node.log.read_text()

    def scheduler(self) -> bytes:
        """Return every row of every table that is not the ledger's, as text."""
        tables = self.database.execute(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables "
            "WHERE table_type = 'BASE TABLE' "
            "AND table_schema NOT IN ('pg_catalog', 'information_schema', 'public')").fetchall()
        assert tables
        return "\n".join(row[0] for table, in tables for row in self.database.execute(
            f"SELECT t::text FROM {table} t").fetchall()).encode()


def test_rows_that_are_refused_are_quoted_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("OVCF_NODE__NODE__BUNDLE", str(label_bundle(tmp_path / "bundle")))
    with cluster() as socket_folder, database(socket_folder) as url:
        (tmp_path / "url").write_text(url)
        for name in ("LEDGER", "ENGINE"):
            monkeypatch.setenv(f"OVCF_NODE__ENGINE__{name}_URL_FILE", str(tmp_path / "url"))
        site = Site(tmp_path, url)
        with site.node.running(), site.database:
            site.database.execute(_REFUSED.format(table="instances"))
            assert site.send(1).isdisjoint({0x0000, None})
            site.database.execute(_TAKEN.format(table="instances"))
            site.database.execute(_REFUSED.format(table="catalogue"))
            assert site.send() == {0x0000}
            wait_for(lambda: site.says("CheckViolation") or site.says("IntegrityError"), 240, "a result's row is refused")
            site.database.execute(_TAKEN.format(table="catalogue"))
            revision = site.node.settled(series_uid("read"))
            assert revision.answered
            assert mark("PatientID").encode() in site.find()  # who may ask does see it
            site.database.execute("ALTER TABLE catalogue RENAME TO gone")
            assert mark("PatientID").encode() not in site.find()
            site.database.execute("ALTER TABLE gone RENAME TO catalogue")
            listed = site.node.command("jobs", "list")
            scheduled = site.scheduler()
        uids = {str(getattr(pydicom.dcmread(site.study[0], stop_before_pixels=True), keyword))
                for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    told = {"log": site.node.log.read_bytes(), "jobs list": (listed.stdout + listed.stderr).encode()}
    assert {place: found for place, said in told.items() if (found := leaks(said, uids))} == {}
    assert leaks(scheduled) == [] and os.path.getsize(site.node.log) > 0
