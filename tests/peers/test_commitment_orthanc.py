"""Storage commitment with Orthanc in both directions: it commits to our results, and we commit to what it sent us."""

import json
import threading
import urllib.request

import pytest

from delivery_site import DeliverySite
from dicom_peers import instance, program, uid, wait_until, write
from node_harness import free_port, get, orthanc, storescu
from ovcf_node.config import Destination, Receive, Source
from ovcf_node.receive.committing import Committing
from ovcf_node.receive.server import Receiver
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.spool import Spool

pytestmark = pytest.mark.peer


@pytest.fixture
def world(tmp_path):
    """Orthanc that knows us, and a node with a receiver that knows Orthanc as destination and as source."""
    program("Orthanc")
    ours = free_port()
    with orthanc(tmp_path / "orthanc", known={"OVCF_NODE": ours}) as (port, url):
        there = Destination(name="pacs", type="dicom", ae_title="ORTHANC", host="127.0.0.1", port=port, final="committed")
        site = DeliverySite(tmp_path, there)
        receive = Receive(host="127.0.0.1", commit_days=30, sources=(
            Source(ae_title="ORTHANC", report_host="127.0.0.1", report_port=port),
        ))
        spool = Spool(tmp_path / "spool")
        storing = Storing(spool, site.ledger.instances, min_free_bytes=0, patient_secret=b"secret")
        committing = Committing(receive, site.ledger, spool)
        receiver = Receiver(receive, storing, committing, [there], port=ours)
        receiver.start()
        stop = threading.Event()
        reports = threading.Thread(target=committing.keep_reporting, args=(stop,))
        reports.start()
        yield site, port, url
        stop.set()
        reports.join(30)
        receiver.stop(0)
        site.ledger.close()


def post(url: str, body: object) -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def test_orthanc_commits_to_what_it_has_and_gets_again_what_it_lost(world):
    site, _, url = world
    revision = site.result("a", "pacs")
    site.tick()
    assert site.states_at(revision, "pacs") == ["ACCEPTED", "ACCEPTED"]
    report = site.of(revision, "pacs")[1].sop_instance_uid
    (identifier,) = post(f"{url}/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": report}})
    urllib.request.urlopen(urllib.request.Request(f"{url}/instances/{identifier}", method="DELETE")).close()
    site.tick(5)
    wait_until(site.ledger.commitments.unapplied)
    site.tick()
    assert site.states_at(revision, "pacs") == ["COMMITTED", "PENDING"]
    assert "0x0112" in site.of(revision, "pacs")[1].text
    site.tick(30)
    site.tick(30)
    wait_until(site.ledger.commitments.unapplied)
    site.tick()
    assert site.states_at(revision, "pacs") == ["COMMITTED", "COMMITTED"]
    assert len(json.loads(get(f"{url}/instances"))) == 2


def test_we_commit_to_what_orthanc_sent_and_to_nothing_else(world, tmp_path):
    site, port, url = world
    write(tmp_path / "ct", instance(1))
    write(tmp_path / "ct", instance(2))
    storescu(port, tmp_path / "ct", called="ORTHANC")
    for identifier in json.loads(get(f"{url}/instances")):
        series = json.loads(get(f"{url}/instances/{identifier}"))["ParentSeries"]
    post(f"{url}/modalities/OVCF_NODE/store", series)
    asked = [{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SOPInstanceUID": uid(*name)}
             for name in (("series", 1), ("series", 2), ("never",))]
    for instances, status in ((asked[:2], "Success"), (asked, "Failure")):
        begun = post(f"{url}/modalities/OVCF_NODE/storage-commitment", {"DicomInstances": instances, "Timeout": 20})
        where = f"{url}{begun['Path']}"
        wait_until(lambda where=where: json.loads(get(where))["Status"] != "Pending", 60)
        answer = json.loads(get(where))
        assert answer["Status"] == status and {i["SOPInstanceUID"] for i in answer["Success"]} == {
            uid("series", 1), uid("series", 2)
        }
    assert [(i["SOPInstanceUID"], i["FailureReason"]) for i in answer["Failures"]] == [(uid("never"), 0x0112)]
    wait_until(lambda: not site.ledger.promises.due(1e12))
