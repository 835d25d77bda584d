"""`ovcf-node jobs list` and `destinations list`: what arrived, was refused or taken back, held, or cannot be looked at."""

import pytest
from typer.testing import CliRunner

from catalogue_rows import SC, SR, result_object, store
from ovcf_node.cli import app
from ovcf_node.config import load
from ovcf_node.domain.states import DeliveryState
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.ledger.deliveries import add_results
from ovcf_node.ledger.schema import revisions


@pytest.fixture
def node(tmp_path):
    configuration = tmp_path / "node.toml"
    configuration.write_text(
        '[node]\ndata = "data"\n[[destinations]]\nname = "pacs"\ntype = "folder"\npath = "pacs"\n'
    )
    settings = load(configuration)
    migrate(settings.ledger_url)
    ledger = Ledger(settings.ledger_url)
    revision = store(ledger, [result_object("study", SC), result_object("study", SR)])
    with ledger.revisions._engine.begin() as connection:
        uids = [result.sop_instance_uid for result in ledger.deliveries.results_of(revision.id)]
        add_results(connection, [], {"pacs": uids}, 102.0)

    def run(*arguments: str) -> str:
        return CliRunner().invoke(app, [*arguments, "--config", str(configuration)]).output

    yield ledger, revision, run
    ledger.close()


def test_rejected_is_not_taken_for_delivered(node):
    ledger, revision, run = node
    assert "2 deliveries pending" in run("jobs", "list")
    first, second = ledger.deliveries.of_revision(revision.id)
    ledger.deliveries.finished(first, DeliveryState.ACCEPTED, 103.0, status=0, text="")
    ledger.deliveries.finished(second, DeliveryState.REJECTED, 103.0, status=0xC000, text="cannot understand")
    listed = run("jobs", "list")
    assert "1 delivery REJECTED" in listed and "delivered" not in listed


def test_delivered_is_said(node):
    ledger, revision, run = node
    for delivery in ledger.deliveries.of_revision(revision.id):
        ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, 103.0, status=0, text="")
    assert run("jobs", "list").rstrip().endswith("delivered")


def test_recalled_is_not_taken_for_delivered(node):
    ledger, revision, run = node
    with ledger.revisions._engine.begin() as connection:
        connection.execute(revisions.update().values(bundle="ref@1"))
    for delivery in ledger.deliveries.of_revision(revision.id):
        ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, 103.0, status=0, text="")
    run("recall", "--bundle", "ref@1", "--confirm", "--why", "wrong levels")
    listed = run("jobs", "list")
    assert "WITHDRAWN" in listed and "delivered" not in listed


def test_a_held_destination_is_not_said_to_be_probed(node):
    ledger, _, run = node
    ledger.destinations.away("pacs", 200.0, probe_at=205.0, text="refused", refuses=False)
    assert "next probe" in run("destinations", "list")
    ledger.destinations.hold("pacs", 201.0, "somebody")
    listed = run("destinations", "list")
    assert "HELD" in listed and "AWAY" in listed and "next probe" not in listed


def test_a_ledger_that_cannot_be_opened_is_said_in_a_line(tmp_path):
    (tmp_path / "data" / "ledger.sqlite").mkdir(parents=True)
    (tmp_path / "node.toml").write_text('[node]\ndata = "data"\n')
    result = CliRunner().invoke(app, ["jobs", "list", "--config", str(tmp_path / "node.toml")])
    assert result.exit_code == 2
    assert result.output.strip() == "ledger_unavailable: OperationalError SQLITE_CANTOPEN"


@pytest.mark.parametrize("command", [
    ("jobs", "list"), ("jobs", "retry", "1"), ("destinations", "list"), ("destinations", "hold", "pacs"),
    ("purge", "--study", "1.2"), ("recall", "--bundle", "ref"), ("shadow", "compare", "--truth", "no.csv"), ("commission",),
    ("fetch", "--from", "pacs", "--study", "1.2"),
])
def test_a_mistyped_data_folder_is_not_an_empty_node(tmp_path, command):
    configuration = tmp_path / "node.toml"
    configuration.write_text(
        '[node]\ndata = "mistyped"\n[[destinations]]\nname = "pacs"\ntype = "folder"\npath = "pacs"\n'
        '[[archives]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 1\nretrieve = "get"\n'
    )
    result = CliRunner().invoke(app, [*command, "--config", str(configuration)])
    assert result.exit_code == 2 and f"no node has run on {tmp_path / 'mistyped'} yet" in result.output
    assert not (tmp_path / "mistyped").exists()
