"""The answer of a series as `fetch --wait` tells it."""

import json

from catalogue_rows import SR, result_object, store
from dicom_peers import uid
from ovcf_node.app.answers import answer
from ovcf_node.app.process import results_root
from ovcf_node.config import Settings
from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.storage.results import Results
from result_cases import make_findings


def test_after_a_second_reading_the_findings_are_those_of_the_reading(tmp_path):
    settings = Settings(node={"data": tmp_path})
    migrate(settings.ledger_url)
    ledger = Ledger(settings.ledger_url)
    first = store(ledger, [result_object("a", SR)])
    document = json.dumps(make_findings().to_json()).encode()
    Results(results_root(settings)).put(first.result_key, "findings.json", document)
    said = SecondReading("anna", "Bergmann^Anna", 110.0, (Assessment("L1", Verdict.ACCEPTED),))
    ledger.revisions.second_reading(first, said, 110.0)
    assert answer(settings, ledger, first.series_instance_uid) is None
    second = ledger.revisions.of_series(uid(uid("a"), "ct"))[-1]
    ledger.revisions.answered(second, [], {}, 111.0)
    found = answer(settings, ledger, first.series_instance_uid)
    assert found.revision.number == 2 and found.findings == make_findings()
    ledger.close()
