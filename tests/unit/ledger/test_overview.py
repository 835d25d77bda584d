"""What the status page asks, on both databases; and the schema of the code is that of the migrations."""

from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from catalogue_rows import SEG, SR, result_object, store
from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.ledger import DestinationHealth, Ledger
from ovcf_node.ledger.deliveries import add_results
from ovcf_node.ledger.schema import METADATA

SAID = SecondReading("anna", "Bergmann^Anna", 110.0, (Assessment("L1", Verdict.CORRECTED, "L2"),))


@pytest.fixture
def ledger(ledger_url):
    opened = Ledger(ledger_url)
    with opened.overview._engine.begin() as connection:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(table.delete())
    yield opened
    opened.close()


@pytest.fixture
def read(ledger):
    """One read series, a segmentation and a report on their way to `pacs`."""
    revision = store(ledger, [result_object("a", SEG), result_object("a", SR)])
    made = ledger.deliveries.results_of(revision.id)
    with ledger.overview._engine.begin() as connection:
        add_results(connection, made, {"pacs": [r.sop_instance_uid for r in made]}, 102.0)
    return revision


def test_schema_is_that_of_the_migrations(ledger):
    with ledger.overview._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_what_is_open_and_what_has_ended(ledger, read):
    assert ledger.overview.open(9) == []
    assert ledger.overview.changed_since(100.0, RevisionState.ENCODED) == 1
    assert ledger.overview.changed_since(103.0, RevisionState.ENCODED) == 0
    ledger.revisions.reopen(read, 104.0)
    assert [r.number for r in ledger.overview.open(9)] == [2]
    assert [r.number for r in ledger.overview.of_studies([read.study_instance_uid])] == [2]
    assert [r.number for r in ledger.revisions.newest(9)] == [2]


def test_health_of_a_destination(ledger, read):
    assert ledger.overview.destination("pacs") == DestinationHealth(2, 0, None, 102.0, None, None)
    assert ledger.overview.pending_destinations() == {"pacs"}
    first, second = ledger.overview.deliveries_of([read.id])
    ledger.deliveries.finished(first, DeliveryState.ACCEPTED, 105.0, status=0, text="")
    ledger.deliveries.finished(second, DeliveryState.REJECTED, 106.0, status=0xA900, text="will not")
    assert ledger.overview.destination("pacs") == DestinationHealth(0, 1, 105.0, None, "will not", 0xA900)
    assert ledger.overview.destination("other") == DestinationHealth(0, 0, None, None, None, None)
    assert [r.id for r in ledger.overview.undelivered(DeliveryState.REJECTED, 100.0, 9)] == [read.id]
    assert ledger.overview.undelivered(DeliveryState.REJECTED, 107.0, 9) == []


def test_scanners_and_instances(ledger, read):
    assert ledger.overview.last_sent("CT") == 100.0 and ledger.overview.last_sent("MR") is None
    assert ledger.overview.instances_of([read.series_instance_uid, "1.2"]) == {read.series_instance_uid: 1}


def test_second_reading(ledger, read):
    ledger.revisions.second_reading(read, SAID, 110.0)
    second = ledger.revisions.newest(1)[0]
    assert ledger.assessments.of_revision(second.id) == SAID
    assert {d.role: d.state for d in ledger.overview.deliveries_of([read.id, second.id])} == {
        "seg_vertebrae": "PENDING", "sr": "CANCELLED"}
    ledger.revisions.answered(second, [], {}, 111.0, [])
    ledger.revisions.second_reading(ledger.revisions.get(second.id), replace(SAID, at=112.0), 112.0)
    assert ledger.revisions.newest(1)[0].reading_of == read.id
