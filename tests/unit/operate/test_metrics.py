"""Metrics and health tell what the ledger, the disk and the leases say: no more, no identity, and quickly."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ovcf_node.config import Audit, Settings
from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.domain.findings import BundleIdentity
from ovcf_node.domain.reasons import Reason, reason
from ovcf_node.domain.series import Receipt
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.errors import Permanent
from ovcf_node.ledger import Ledger, Result, Revision, migrate
from ovcf_node.operate.health import routes
from ovcf_node.storage.outbox import Outbox

S = RevisionState
NOW = 10_000.0
SECRETS = ("1.2.826.0.99.1", "1.2.826.0.99.2", "KEY-OF-PATIENT")


@dataclass
class Scene:
    """A ledger, and what is asked about it at `now`."""

    settings: Settings
    ledger: Ledger
    now: float = NOW
    bundle: BundleIdentity | None = field(default_factory=lambda: BundleIdentity("reference", "1", "d" * 64, "research"))

    def identity(self) -> BundleIdentity:
        if self.bundle is None:
            raise Permanent("bundle_manifest", "gone")
        return self.bundle

    def client(self) -> TestClient:
        return TestClient(Starlette(routes=routes(self.settings, self.ledger, self.identity, lambda: self.now)))

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Return (name, sorted label values...) -> value."""
        answer = self.client().get("/metrics")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=")
        return {
            (sample.name.removeprefix("ovcf_node_"), *[sample.labels[key] for key in sorted(sample.labels)]): sample.value
            for family in text_string_to_metric_families(answer.text) for sample in family.samples
        }

    def arrive(
        self, series: str, *, at: float, stat: bool = False, sender: str = "CT_1", study: str = "s",
        judged_at: float | None = None,
    ) -> Revision:
        self.ledger.instances.record(Receipt(
            f"{series}.1", "c", study, series, "t", f"{series}.dcm", 10, series, "KEY-OF-PATIENT", "CT",
            datetime.fromtimestamp(at, UTC), sender, "NODE", "assoc", stat,
        ))
        for arrival in self.ledger.instances.arrivals(0):
            self.ledger.revisions.arrived(arrival, at if judged_at is None else judged_at)
        return self.ledger.revisions.of_series(series)[-1]

    def answer(self, series: str, *, at: float, destinations: tuple[str, ...] = ("pacs",)) -> Revision:
        """Received at `at`, started 10 s later, inferred after 30 s more, encoded 5 s after that."""
        return self.read(self.arrive(series, at=at), at, destinations)

    def read(self, revision: Revision, at: float, destinations: tuple[str, ...] = ("pacs",)) -> Revision:
        """Read and encode what arrived, as `answer` says."""
        revision = self.ledger.revisions.move(revision, S.COMPLETE, at + 5, verdict={})
        self.ledger.revisions.start(revision, at + 10)
        revision = self.ledger.revisions.move(revision, S.INFERRED, at + 40)
        name = f"{revision.series_instance_uid}.{8 + revision.number}"
        result = Result(revision.id, "sr", "", name, "c", "s", "x.dcm", "h", 1)
        self.ledger.revisions.answered(revision, [result], {there: [name] for there in destinations}, at + 45)
        return revision

    def take(self, revision: Revision, at: float) -> None:
        """Read what arrived, and let the PACS take it at `at`."""
        delivery = self.ledger.deliveries.of_revision(self.read(revision, at - 90).id, "pacs")[0]
        self.ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, at, status=0, text="")


@pytest.fixture
def scene(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    settings = Settings(
        node={"data": tmp_path, "bundle": Path("unused")},
        receive={"sources": [{"ae_title": "CT_1"}, {"ae_title": "CT_2"}], "min_free_mb": 0},
        destinations=[{"name": "pacs", "type": "folder", "path": tmp_path}],
    )
    ledger = Ledger(url)
    yield Scene(settings, ledger)
    ledger.close()


def test_an_empty_node_says_zero_rather_than_nothing(scene):
    said = scene.metrics()
    assert said["instances_received_total",] == 0 and said["ledger_up",] == 1 and said["judge_up",] == 0
    assert said["series", "", "ENCODED"] == said["series", "metal", "NOT_ASSESSED"] == 0
    assert said["queue_series", "stat", "reading"] == 0
    assert said["deliveries", "pacs", "PENDING"] == 0 and said["delivery_oldest_pending_seconds", "pacs"] == 0
    assert said["bundle_info", "d" * 64, "reference", "research", "1"] == 1
    assert 0 < said["disk_free_bytes",] < said["disk_size_bytes",]
    assert not [key for key in said if key[0] in ("stage_seconds", "last_receipt_timestamp_seconds")]


def test_receipts_states_and_reasons(scene):
    scene.arrive("1.1", at=NOW - 50)
    waiting = scene.arrive("1.2", at=NOW - 500, stat=True)
    scene.ledger.revisions.move(waiting, S.WAITING, NOW, reason=reason("incomplete", "3 of 9 instances"))
    scout = scene.arrive("1.3", at=NOW - 20, sender="CT_2")
    scene.ledger.revisions.move(scout, S.EXCLUDED, NOW, reason=reason("scout"))
    said = scene.metrics()
    assert said["instances_received_total",] == 3
    assert said["last_receipt_timestamp_seconds", "CT_1"] == NOW - 50
    assert said["last_receipt_timestamp_seconds", "CT_2"] == NOW - 20
    assert said["series", "incomplete", "WAITING"] == said["series", "scout", "EXCLUDED"] == 1
    assert said["queue_series", "routine", "receiving"] == 1 and said["queue_oldest_seconds", "routine", "receiving"] == 50
    assert said["queue_series", "stat", "waiting"] == 1 and said["queue_oldest_seconds", "stat", "waiting"] == 500


def test_a_late_instance_does_not_count_its_series_twice(scene):
    scene.answer("1.1", at=NOW - 500)
    scene.ledger.revisions.reopen(scene.ledger.revisions.of_series("1.1")[-1], NOW - 100)
    said = scene.metrics()
    assert said["series", "", "ENCODED"] == 0 and said["series", "", "RECEIVING"] == 1


def test_what_is_due_and_not_what_a_person_must_decide(scene):
    due = scene.ledger.revisions.move(scene.arrive("1.1", at=NOW - 60), S.COMPLETE, NOW, verdict={})
    assert scene.metrics()["queue_series", "routine", "reading"] == 1
    scene.ledger.holds.place(due.study_instance_uid, Reason("two_patients", "two"), NOW - 30)
    said = scene.metrics()
    assert said["queue_series", "routine", "reading"] == 0
    assert said["held_studies",] == 1 and said["held_oldest_seconds",] == 30


def test_not_assessed_is_in_the_queue_until_it_is_answered(scene):
    revision = scene.ledger.revisions.move(scene.arrive("1.1", at=NOW - 60), S.COMPLETE, NOW, verdict={})
    revision = scene.ledger.revisions.move(revision, S.NOT_ASSESSED, NOW, reason=reason("metal"))
    assert scene.metrics()["queue_series", "routine", "reading"] == 1
    scene.ledger.revisions.answered(revision, [], {}, NOW)
    said = scene.metrics()
    assert said["queue_series", "routine", "reading"] == 0 and said["series", "metal", "NOT_ASSESSED"] == 1


def test_deliveries_and_their_ages(scene):
    for number, at in enumerate((NOW - 1000, NOW - 200)):
        scene.answer(f"1.{number}", at=at, destinations=("pacs", "removed"))
    first = scene.ledger.deliveries.of_revision(1, "pacs")[0]
    scene.ledger.deliveries.finished(first, DeliveryState.ACCEPTED, NOW - 945, status=0, text="")
    said = scene.metrics()
    assert said["deliveries", "pacs", "ACCEPTED"] == said["deliveries", "pacs", "PENDING"] == 1
    assert said["delivery_oldest_pending_seconds", "pacs"] == 155
    assert said["deliveries", "removed", "PENDING"] == 2  # no longer configured, and still owed
    assert said["delivery_oldest_pending_seconds", "removed"] == 955
    assert said["delivery_seconds", "pacs", "1"] == 10 and said["turnaround_seconds", "pacs", "0.5"] == 55


def test_a_series_that_is_read_again_begins_anew_and_one_that_waited_for_a_judge_does_not(scene):
    scene.answer("1.1", at=NOW - 9000)
    scene.ledger.revisions.reopen(scene.ledger.revisions.of_series("1.1")[-1], NOW - 200)
    scene.take(scene.ledger.revisions.of_series("1.1")[-1], NOW - 100)
    assert scene.metrics()["turnaround_seconds", "pacs", "1"] == 100
    late = scene.arrive("1.2", at=NOW - 8000, judged_at=NOW - 400)  # nobody judged in between
    scene.take(late, NOW - 300)
    assert scene.metrics()["turnaround_seconds", "pacs", "1"] == 7700


def test_what_waits_for_the_end_of_shadow_mode_is_owed_to_nobody(scene):
    scene.answer("1.1", at=NOW - 1000)
    node = scene.settings.node.model_copy(update={"mode": "shadow"})
    scene.settings = scene.settings.model_copy(update={"node": node})
    assert scene.metrics()["delivery_oldest_pending_seconds", "pacs"] == 0


def test_a_second_reading_leaves_the_days_count_as_it_is(scene):
    first = scene.ledger.revisions.get(scene.answer("1.1", at=NOW - 500).id)
    said = SecondReading("rita", "Test^Rita", NOW - 300, (Assessment("L1", Verdict.ACCEPTED),))
    scene.ledger.revisions.second_reading(first, said, NOW - 300)
    second = scene.ledger.revisions.of_series("1.1")[-1]
    scene.ledger.revisions.answered(second, [], {}, NOW - 290)
    assert scene.metrics()["answered_series", "", "ENCODED", "24h"] == 1


def test_the_oldest_message_of_the_audit_trail(scene):
    assert not [key for key in scene.metrics() if key[0] == "audit_oldest_seconds"]
    scene.settings = scene.settings.model_copy(update={"audit": Audit(host="127.0.0.1", tls=False)})
    assert scene.metrics()["audit_oldest_seconds",] == 0
    Outbox(scene.settings.node.data / "audit").put(b"message")
    scene.now = time.time() + 50
    assert 50 <= scene.metrics()["audit_oldest_seconds",] < 60


def test_durations_are_those_of_the_last_hour(scene):
    scene.answer("1.1", at=NOW - 100)
    scene.answer("1.2", at=NOW - 5000)
    said = scene.metrics()
    assert [said["stage_seconds", "1", stage] for stage in ("queue", "reading", "encoding")] == [10, 30, 5]
    scene.now = NOW + 4000
    assert not [key for key in scene.metrics() if key[0] == "stage_seconds"]


def test_heartbeats(scene):
    scene.ledger.leases.take("judge", "w", NOW, 15)
    scene.ledger.leases.take("process:receiver@ct-node", "ct-node", NOW - 100, 15)
    scene.ledger.leases.take("executor:worker-0", "worker-0", NOW, 15)
    scene.ledger.leases.take("executor:worker-7", "worker-7", NOW - 4000, 15)
    said = scene.metrics()
    assert said["judge_up",] == said["process_up", "worker-0"] == 1
    assert said["process_up", "receiver@ct-node"] == 0 and ("process_up", "worker-7") not in said
    assert said["role_up", "receiver"] == said["role_up", "sender"] == 0 and ("role_up", "web") not in said
    scene.ledger.leases.take("process:receiver@other-node", "other-node", NOW, 15)
    assert scene.metrics()["role_up", "receiver"] == 1


def test_what_was_answered_lately_by_outcome(scene):
    scene.answer("1.1", at=NOW - 100)
    scene.answer("1.2", at=NOW - 5000)
    said = scene.metrics()
    assert said["answered_series", "", "ENCODED", "1h"] == 1 and said["answered_series", "", "ENCODED", "24h"] == 2
    assert said["answered_series", "metal", "NOT_ASSESSED", "24h"] == 0


def test_a_held_study_is_owed_to_no_destination(scene):
    scene.answer("1.1", at=NOW - 1000, destinations=("pacs",))
    assert scene.metrics()["delivery_oldest_pending_seconds", "pacs"] > 0
    study = scene.ledger.revisions.of_series("1.1")[-1].study_instance_uid
    scene.ledger.holds.place(study, Reason("two_patients", "two"), NOW)
    assert scene.metrics()["delivery_oldest_pending_seconds", "pacs"] == 0


def test_nothing_of_a_patient(scene):
    scene.arrive("1.2.826.0.99.1", at=NOW - 50, study="1.2.826.0.99.2")
    assert not [secret for secret in SECRETS if secret in scene.client().get("/metrics").text]


def test_ready_names_every_problem(scene):
    client = scene.client()
    assert client.get("/ready").json() == {"ready": False, "problems": [
        "receiver: none is alive", "judge: no worker has held the lease lately"]}
    scene.ledger.leases.take("judge", "w", NOW, 15)
    scene.ledger.leases.take("process:receiver@ct-node", "ct-node", NOW, 15)
    assert client.get("/ready").status_code == 200 and client.get("/ready").json()["ready"]
    scene.bundle = None
    scene.settings = scene.settings.model_copy(
        update={"receive": scene.settings.receive.model_copy(update={"min_free_mb": 2**40})}
    )
    answer = scene.client().get("/ready")
    assert answer.status_code == 503
    assert [problem.split(":")[0] for problem in answer.json()["problems"]] == ["model bundle", "data volume"]


def test_a_lost_ledger_is_said_and_the_rest_still_reported(scene, tmp_path):
    scene.ledger = Ledger(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.sqlite'}")
    client = scene.client()
    assert client.get("/ready").json()["problems"] == ["ledger: ledger_unavailable"]
    said = scene.metrics()
    assert said["ledger_up",] == 0 and said["disk_free_bytes",] > 0 and ("series", "", "ENCODED") not in said
    assert client.get("/health").text == "alive\n"


def test_destinations_that_get_nothing(scene):
    name = scene.settings.destinations[0].name
    assert scene.metrics()["destination_stopped", name, "away"] == 0
    scene.ledger.destinations.away(name, NOW, probe_at=NOW, refuses=False, text="no route")
    assert scene.metrics()["destination_stopped", name, "away"] == 1
    scene.ledger.destinations.hold(name, NOW, "otto")
    said = scene.metrics()
    assert (said["destination_stopped", name, "away"], said["destination_stopped", name, "held"]) == (0, 1)
