"""A recalled bundle: its results are found and taken back, those of others stay."""

import json

import pytest

from catalogue_rows import SC, SR, result_object, store
from ovcf_node.config import Destination, Settings
from ovcf_node.domain.states import DeliveryState
from ovcf_node.domain.withdrawal import NOTE_ROLE
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.ledger.catalogue import Level, Query
from ovcf_node.ledger.deliveries import add_results
from ovcf_node.ledger.retention import Due, Phase
from ovcf_node.ledger.schema import revisions
from ovcf_node.storage.results import Results
from ovcf_node.workflow import recalling
from ovcf_node.workflow.purging import remove_files
from ovcf_node.workflow.withdrawing import Withdrawing
from result_cases import make_findings


class Site:
    """Answers of two versions of a bundle, and one of a node that did not record the bundle yet; all at `pacs`."""

    def __init__(self, folder):
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        migrate(url)
        self.ledger, self.results = Ledger(url), Results(folder / "results")
        self.made = {name: self._answer(name, bundle) for name, bundle in
                     {"old": "ref@1", "new": "ref@2", "unnamed": None}.items()}
        self.results.put(self.made["unnamed"].result_key, "findings.json", json.dumps(make_findings().to_json()).encode())

    def _answer(self, name, bundle):
        revision = store(self.ledger, [result_object(name, SC), result_object(name, SR)], self.results)
        engine = self.ledger.revisions._engine
        with engine.begin() as connection:
            connection.execute(revisions.update().where(revisions.c.id == revision.id).values(bundle=bundle))
            uids = [result.sop_instance_uid for result in self.ledger.deliveries.results_of(revision.id)]
            add_results(connection, [], {"pacs": uids}, 102.0)
        for delivery in self.ledger.deliveries.of_revision(revision.id):
            self.ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, 103.0, status=0, text="")
        return revision

    def found(self, bundle):
        return list(recalling.made_by(self.ledger, self.results, bundle))

    def shown(self, name) -> int:
        asked = Query(Level.INSTANCE, {"StudyInstanceUID": self.made[name].study_instance_uid}, "88.34/air")
        return len(list(self.ledger.catalogue.find(asked)))


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.ledger.close()


def test_what_a_bundle_made_is_found_with_where_it_went(site):
    (one,) = site.found("ref@1")
    assert one.revision.id == site.made["old"].id and one.taken == {"pacs": 2} and one.unsent == {}
    assert len(site.found("ref")) == 2 and site.found("re") == site.found("ref@3") == []
    bundle = make_findings().bundle
    assert [o.revision.id for o in site.found(bundle.label)] == [site.made["unnamed"].id]


@pytest.mark.parametrize("purged", [False, True], ids=["results are here", "results were purged"])
def test_recall_takes_back_what_was_delivered_and_nothing_else(site, purged):
    if purged:
        study = site.made["old"].study_instance_uid
        assert site.ledger.retention.purge(Phase.RESULTS, study, Due(1000.0, 110.0, ("pacs",), True))
        remove_files(site.ledger, None, site.results)
    recalling.recall(site.ledger, site.found("ref@1"), 2000.0, "anna", "wrong levels")
    assert site.shown("old") == 0 and site.shown("new") == 2
    pacs = Destination(name="pacs", type="dicom", ae_title="PACS", host="127.0.0.1", port=104)
    Withdrawing(Settings(destinations=(pacs,)), site.ledger, site.results, lambda uid: "hash").tick(2001.0)
    deliveries = site.ledger.deliveries.of_revision(site.made["old"].id)
    (note,) = [d for d in deliveries if d.role == NOTE_ROLE]
    assert note.state is DeliveryState.PENDING and note.destination == "pacs"
    assert {d.withdrawn_as for d in deliveries if d is not note} == {"113037"}
    assert all(d.withdrawn_as is None for d in site.ledger.deliveries.of_revision(site.made["new"].id))
    assert site.found("ref@1")[0].withdrawn == 2
    history = site.ledger.events.of_study(site.made["old"].study_instance_uid)
    assert any("recalled by anna: wrong levels" in event.text for event in history)
