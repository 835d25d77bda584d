"""Results that were stored before the catalogue existed appear in it; a damaged file stops nobody."""

from catalogue_rows import SEG, SR, result_object, store
from ovcf_node.app.cataloguing import catch_up
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.ledger.catalogue import Level, Query
from ovcf_node.storage.results import Results


def test_catching_up(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    ledger, results = Ledger(url), Results(tmp_path / "results")
    store(ledger, [result_object("a", SEG), result_object("a", SR)], results)
    store(ledger, [result_object("b", SR)], results)
    with ledger.catalogue._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM catalogue")
    lost = ledger.catalogue.missing(None, 1)[0]
    (results.root / lost.path).unlink()
    assert catch_up(ledger, results) == 2
    assert [r.sop_instance_uid for r in ledger.catalogue.missing(None, 9)] == [lost.sop_instance_uid]
    assert len(list(ledger.catalogue.find(Query(Level.INSTANCE, {}, "88.34/air")))) == 2
    assert catch_up(ledger, results) == 0
    ledger.close()
