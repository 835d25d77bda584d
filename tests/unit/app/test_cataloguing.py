"""Results that were stored before the catalogue existed appear in it; a damaged file stops nobody."""

import threading

from catalogue_rows import SEG, SR, result_object, store
from dicom_peers import wait_until
from ovcf_node.app.cataloguing import catch_up, catch_up_beside
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.ledger.catalogue import Level, Query
from ovcf_node.storage.results import Results


def test_catching_up(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    ledger, results = Ledger(url), Results(tmp_path / "results")
    store(ledger, [result_object("a", SEG), result_object("a", SR)], results)
    store(ledger, [result_object("b", SR)], results)
    store(ledger, [result_object("c", SR)], results)
    with ledger.catalogue._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM catalogue")
    lost, damaged, *_ = ledger.catalogue.missing(None, 9)
    (results.root / lost.path).unlink()
    # Still DICOM, but without the UIDs that a row needs.
    (results.root / damaged.path).write_bytes((results.root / damaged.path).read_bytes()[:400])
    stopped = threading.Event()
    stopped.set()
    assert catch_up(ledger, results, stopped) == 0
    assert catch_up(ledger, results, threading.Event()) == 2
    assert [r.sop_instance_uid for r in ledger.catalogue.missing(None, 9)] == [
        lost.sop_instance_uid, damaged.sop_instance_uid,
    ]
    assert len(list(ledger.catalogue.find(Query(Level.INSTANCE, {}, "88.34/air")))) == 2
    assert catch_up(ledger, results, threading.Event()) == 0
    ledger.close()


def test_catching_up_beside_other_work(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    ledger, results = Ledger(url), Results(tmp_path / "results")
    store(ledger, [result_object("a", SR)], results)
    with ledger.catalogue._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE catalogue RENAME TO elsewhere")  # the ledger fails once
    monkeypatch.setattr("ovcf_node.app.cataloguing._AGAIN_S", 0.05)
    catch_up_beside(ledger, results, threading.Event())
    with ledger.catalogue._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM elsewhere")
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO catalogue")
    wait_until(lambda: not ledger.catalogue.missing(None, 1), 10)
    ledger.close()
