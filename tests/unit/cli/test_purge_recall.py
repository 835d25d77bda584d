"""`ovcf-node purge` and `recall`: what they print, what they refuse, what they change."""

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from catalogue_rows import SC, SR, result_object, store
from dicom_peers import uid
from ovcf_node.cli import app
from ovcf_node.config import load
from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.series import Receipt
from ovcf_node.ledger import Ledger, Revision, migrate
from ovcf_node.ledger.deliveries import add_results
from ovcf_node.ledger.schema import revisions
from ovcf_node.storage.results import Results


class Site:
    """One answered study whose objects wait for `pacs`."""

    def __init__(self, folder):
        self.configuration = folder / "node.toml"
        self.configuration.write_text(
            '[node]\ndata = "data"\n[[destinations]]\nname = "pacs"\ntype = "folder"\npath = "pacs"\n'
        )
        settings = load(self.configuration)
        migrate(settings.ledger_url)
        self.ledger, self.results = Ledger(settings.ledger_url), Results(settings.node.data / "results")
        self.revision = self.answer("study", "ref@1")
        self.results.put(self.revision.result_key, "findings.json", b"{}")

    def answer(self, study: str, bundle: str) -> Revision:
        """Answer a study with two objects, made by a bundle."""
        revision = store(self.ledger, [result_object(study, SC), result_object(study, SR)])
        with self.ledger.revisions._engine.begin() as connection:
            connection.execute(revisions.update().where(revisions.c.id == revision.id).values(bundle=bundle))
            uids = [result.sop_instance_uid for result in self.ledger.deliveries.results_of(revision.id)]
            add_results(connection, [], {"pacs": uids}, 102.0)
        return revision

    def states(self, revision: Revision) -> set[str]:
        return {delivery.state for delivery in self.ledger.deliveries.of_revision(revision.id)}

    def run(self, *arguments: str):
        return CliRunner().invoke(app, [*arguments, "--config", str(self.configuration)])


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.ledger.close()


def test_purge_refuses_what_is_in_flight_and_says_what(site):
    refused = site.run("purge", "--study", uid("study"))
    assert refused.exit_code == 1 and "not finally delivered" in refused.output
    assert site.results.names(site.revision.result_key)


def test_forced_purge_leaves_nothing_but_a_tombstone(site):
    done = site.run("purge", "--study", uid("study"), "--force")
    assert done.exit_code == 0 and "purged" in done.output
    assert site.results.names(site.revision.result_key) == []
    assert site.ledger.revisions.of_series(site.revision.series_instance_uid) == []
    assert site.ledger.retention.tombstone(site.revision.series_instance_uid).last_number == 1
    again = site.run("purge", "--study", uid("study"))
    assert again.exit_code == 1 and "no such study" in again.output


def test_recall_lists_and_changes_nothing_until_it_is_confirmed(site):
    listed = site.run("recall", "--bundle", "ref@1")
    assert listed.exit_code == 0 and "unsent pacs 2" in listed.output and "nothing was changed" in listed.output
    assert {d.state for d in site.ledger.deliveries.of_revision(site.revision.id)} == {"PENDING"}
    assert site.run("recall", "--bundle", "ref", "--confirm", "--why", "wrong levels").exit_code == 0
    assert {d.state for d in site.ledger.deliveries.of_revision(site.revision.id)} == {"CANCELLED"}
    assert site.run("recall", "--bundle", "other").exit_code == 1


def test_a_name_alone_takes_several_versions_back_only_when_that_is_said(site):
    other = site.answer("another study", "ref@2")
    recalled = ("recall", "--bundle", "ref", "--confirm")
    refused = site.run(*recalled)
    assert refused.exit_code == 1 and "answers by version: ref@1 1, ref@2 1" in refused.output
    assert "--all-versions" in refused.output and site.states(site.revision) == site.states(other) == {"PENDING"}
    assert site.run("recall", "--bundle", "ref@2", "--confirm").exit_code == 0
    assert (site.states(site.revision), site.states(other)) == ({"PENDING"}, {"CANCELLED"})
    assert site.run(*recalled, "--all-versions").exit_code == 0 and site.states(site.revision) == {"CANCELLED"}


def test_what_is_decided_on_the_command_line_is_in_the_audit_trail(site):
    site.configuration.write_text(site.configuration.read_text() + '[audit]\nhost = "127.0.0.1"\nport = 9\ntls = false\n')
    site.ledger.holds.place(uid("study"), Reason("by_person", "held"), 100.0)
    assert site.run("jobs", "release", uid("study")).exit_code == 0
    assert site.run("recall", "--bundle", "ref@1", "--confirm").exit_code == 0
    assert site.run("purge", "--study", uid("study"), "--force").exit_code == 0
    messages = [path.read_text() for path in sorted((site.configuration.parent / "data" / "audit").glob("*.msg"))]
    assert [("DICOM Instances Accessed" in m, "DICOM Study Deleted" in m, uid("study") in m) for m in messages] == [
        (True, False, True), (True, False, True), (False, True, True)]


def test_a_release_that_makes_no_sense_yet_is_refused_in_words(site):
    for name in ("study", "elsewhere"):  # one series in two studies
        site.ledger.instances.record(Receipt(
            uid("ct", name), "1.2.840.10008.5.1.4.1.1.2", uid(name), uid("twice"), "1.2.840.10008.1.2.1", "x.dcm", 10, name,
            "p", "CT", datetime.fromtimestamp(100.0, UTC), "CT", "NODE", "association", False,
        ))
    site.ledger.holds.place(uid("study"), Reason("two_studies", "one series, two studies"), 100.0)
    refused = site.run("jobs", "release", uid("study"))
    assert refused.exit_code == 1 and "discard one of them first" in refused.output and "Traceback" not in refused.output
    assert site.run("jobs", "discard", uid("study")).exit_code == 0
