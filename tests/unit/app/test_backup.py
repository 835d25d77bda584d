"""A backup is whole or not there, and is restored only where it fits."""

import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

import postgresql
from ovcf_node.app import backup
from ovcf_node.config import Settings
from ovcf_node.errors import Permanent
from ovcf_node.ledger import Ledger, migrate


@pytest.fixture
def node(tmp_path: Path) -> Settings:
    settings = Settings(node={"data": tmp_path / "data", "installation": "one"})
    (settings.node.data / "spool" / "ab").mkdir(parents=True)
    (settings.node.data / "spool" / "ab" / "x.dcm").write_bytes(b"pixels")
    (settings.node.data / "spool" / ".tmp").mkdir()
    (settings.node.data / "spool" / ".tmp" / "half").write_bytes(b"half")
    (settings.node.data / "engine.sqlite").write_bytes(b"the judge enqueues again")
    migrate(settings.ledger_url)
    return settings


def test_a_running_ledger_is_copied_as_it_is_at_one_moment(node: Settings, tmp_path: Path):
    ledger = Ledger(node.ledger_url)  # rows that are still in the write-ahead log
    ledger.leases.take("before", "me", 1.0, 9.0)
    made = backup.back_up(node, tmp_path / "copy")
    ledger.leases.take("after", "me", 1.0, 9.0)
    ledger.close()
    assert made.files == 1 and (tmp_path / "copy" / "data" / "spool" / "ab" / "x.dcm").read_bytes() == b"pixels"
    assert not list((tmp_path / "copy").rglob("half")) and not list((tmp_path / "copy").rglob("engine*"))
    shutil.rmtree(node.node.data)
    backup.restore(node, tmp_path / "copy")
    restored = Ledger(node.ledger_url)
    assert restored.leases.living("", 2.0) == {"before"}
    restored.close()


def test_a_mistyped_data_folder_is_not_backed_up_as_an_empty_node(tmp_path: Path):
    (tmp_path / "mistyped").mkdir()
    with pytest.raises(Permanent) as caught:
        backup.back_up(Settings(node={"data": tmp_path / "mistyped"}), tmp_path / "copy")
    assert caught.value.code == "no_ledger" and {path.name for path in tmp_path.rglob("*")} == {"mistyped"}


def test_a_backup_is_never_mixed_with_another(node: Settings, tmp_path: Path):
    backup.back_up(node, tmp_path / "copy")
    for out, code in ((tmp_path / "copy", "backup_exists"), (node.node.data / "copy", "backup_inside")):
        with pytest.raises(Permanent) as caught:
            backup.back_up(node, out)
        assert caught.value.code == code


def test_what_does_not_fit_is_refused_before_anything_is_written(node: Settings, tmp_path: Path):
    copy = tmp_path / "copy"
    backup.back_up(node, copy)
    empty = {"data": tmp_path / "new", "installation": "one"}
    other = Settings(node=empty | {"installation": "two"})
    server = Settings(node=empty, engine={"ledger_url": "postgresql+psycopg://db/ledger"})
    cases = [(node, "data_not_empty"), (other, "other_installation"), (server, "no_backup")]
    for settings, code in cases:
        with pytest.raises(Permanent) as caught:
            backup.restore(settings, copy)
        assert caught.value.code == code
    (copy / "ledger.sqlite").write_bytes(b"damaged")
    with pytest.raises(Permanent) as caught:
        backup.restore(Settings(node=empty), copy)
    assert caught.value.code == "backup_damaged" and not (tmp_path / "new").exists()
    (copy / "backup.json").unlink()
    with pytest.raises(Permanent, match="did not finish"):
        backup.restore(Settings(node=empty), copy)


def test_a_backup_of_a_later_version_is_refused_and_leaves_the_folder_empty(node: Settings, tmp_path: Path):
    with sqlite3.connect(node.node.data / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE alembic_version SET version_num = '9999'")
    backup.back_up(node, tmp_path / "copy")
    new = Settings(node={"data": tmp_path / "new", "installation": "one"})
    with pytest.raises(Permanent) as caught:
        backup.restore(new, tmp_path / "copy")
    assert caught.value.code == "schema_newer" and list((tmp_path / "new").iterdir()) == []


@pytest.mark.peer
def test_with_postgresql_the_dump_comes_first_and_the_files_after(tmp_path: Path, postgresql_cluster):
    (tmp_path / "data" / "spool").mkdir(parents=True)
    (tmp_path / "data" / "patient-key.secret").write_bytes(b"key")
    with postgresql.database(postgresql_cluster) as url, postgresql.database(postgresql_cluster) as other:
        migrate(url)
        ledger = Ledger(url)
        ledger.leases.take("before", "me", 1.0, 9.0)
        ledger.close()
        dump = str(tmp_path / "ledger.dump")
        program("pg_dump", "--format=custom", "--exclude-schema=dbos", f"--file={dump}", url)
        with pytest.raises(Permanent) as caught:
            backup.back_up(Settings(node={"data": tmp_path / "dta"}, engine={"ledger_url": url}), tmp_path / "copy")
        assert caught.value.code == "no_spool" and not list(tmp_path.glob("copy*"))
        backup.back_up(Settings(node={"data": tmp_path / "data"}, engine={"ledger_url": url}), tmp_path / "copy")
        program("pg_restore", dump, "--dbname", other)
        backup.restore(Settings(node={"data": tmp_path / "new"}, engine={"ledger_url": other}), tmp_path / "copy")
        restored = Ledger(other)
        assert restored.leases.living("", 2.0) == {"before"}
        restored.close()
    assert (tmp_path / "new" / "patient-key.secret").read_bytes() == b"key"


def program(name: str, *arguments: str) -> None:
    plain = [argument.replace("postgresql+psycopg://", "postgresql://") for argument in arguments]
    subprocess.run([postgresql.program(name), *plain], check=True, capture_output=True, timeout=120)
