"""What is pending of a revision goes to a destination together, the report last."""

from pathlib import Path

import pytest

from catalogue_rows import SEG, SR, result_object, store
from ovcf_node.config import Settings
from ovcf_node.domain.states import DeliveryState
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.ledger.deliveries import add_results
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.storage.results import Results
from ovcf_node.workflow.delivering import Sender


@pytest.fixture
def ledger(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    ledger = Ledger(url)
    yield ledger
    ledger.close()


def sender(ledger: Ledger, folder: Path, destination: Path, now: float, mode: str = "live") -> Sender:
    settings = Settings(node={"mode": mode}, destinations=[{"name": "pacs", "type": "folder", "path": destination}])
    return Sender(settings, ledger, Results(folder / "results"), Pseudonyms(folder), clock=lambda: now)


def test_a_report_that_is_due_does_not_overtake_images_that_wait(ledger, tmp_path):
    objects = [result_object("a", SEG), result_object("a", SR)]
    revision = store(ledger, objects, Results(tmp_path / "results"))
    with ledger.deliveries._engine.begin() as connection:
        add_results(connection, [], {"pacs": [str(d.SOPInstanceUID) for d in objects]}, 102.0)
    image, _ = ledger.deliveries.of_revision(revision.id)
    ledger.deliveries.again(image, 103.0, next_attempt_at=900.0, status=None, text="refused before")
    there = tmp_path / "there"
    there.write_text("a file where the folder should be")
    assert sender(ledger, tmp_path, there, 101.0).send(revision.id, "pacs") == "nothing due"
    sender(ledger, tmp_path, there, 104.0).send(revision.id, "pacs")
    image, report = ledger.deliveries.of_revision(revision.id)
    assert image.state is report.state is DeliveryState.PENDING
    assert (image.attempts, report.text) == (2, "waits for the objects it refers to")
    there.unlink()
    assert sender(ledger, tmp_path, there, 200.0).send(revision.id, "pacs") == "held"  # it is away until a probe says else
    assert sender(ledger, tmp_path, there, 200.0).probe("pacs") == "answers"
    sender(ledger, tmp_path, there, 201.0).send(revision.id, "pacs")
    assert {d.state for d in ledger.deliveries.of_revision(revision.id)} == {DeliveryState.ACCEPTED}


def test_what_was_pending_waits_while_shadow_mode_lasts(ledger, tmp_path):
    objects = [result_object("a", SEG)]
    revision = store(ledger, objects, Results(tmp_path / "results"))
    with ledger.deliveries._engine.begin() as connection:
        add_results(connection, [], {"pacs": [str(d.SOPInstanceUID) for d in objects]}, 102.0)
    there = tmp_path / "there"
    sender(ledger, tmp_path, there, 103.0, "shadow").send(revision.id, "pacs")  # enqueued before the mode changed
    assert not there.exists() and ledger.deliveries.of_revision(revision.id)[0].state is DeliveryState.PENDING
    sender(ledger, tmp_path, there, 104.0).send(revision.id, "pacs")
    assert len(list(there.glob("*.dcm"))) == 1


def test_an_object_that_cannot_be_read_now_waits_and_a_missing_one_is_rejected(ledger, tmp_path):
    objects = [result_object("a", SEG)]
    revision = store(ledger, objects, Results(tmp_path / "results"))
    with ledger.deliveries._engine.begin() as connection:
        add_results(connection, [], {"pacs": [str(d.SOPInstanceUID) for d in objects]}, 102.0)
    stored = tmp_path / "results" / ledger.deliveries.results_of(revision.id)[0].path
    stored.rename(away := stored.with_name("away"))
    stored.mkdir()  # what is no file cannot be read, as when a share does not answer
    sender(ledger, tmp_path, tmp_path / "there", 103.0).send(revision.id, "pacs")
    [waits] = ledger.deliveries.of_revision(revision.id)
    assert (waits.state, waits.attempts) == (DeliveryState.PENDING, 1) and "cannot be read now" in waits.text
    assert ledger.destinations.of("pacs").away_since is None  # it is not the destination's fault
    stored.rmdir()
    sender(ledger, tmp_path, tmp_path / "there", 1e6).send(revision.id, "pacs")
    assert ledger.deliveries.of_revision(revision.id)[0].state is DeliveryState.REJECTED
    assert away.exists()
