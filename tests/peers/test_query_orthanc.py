"""Orthanc as Query/Retrieve client: it finds the results of a study and has them sent to itself."""

import json
import urllib.request

import pytest

from catalogue_rows import SR
from dicom_peers import program, uid
from node_harness import get, orthanc
from query_peers import answering

pytestmark = pytest.mark.peer


def post(url: str, body: dict, method: str = "POST") -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or b"{}")


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    program("Orthanc")
    folder = tmp_path_factory.mktemp("orthanc")
    with orthanc(folder / "orthanc") as (port, url):
        known = [{"ae_title": "ORTHANC", "move_host": "127.0.0.1", "move_port": port}]
        with answering(folder, peers=known) as scp:
            node = {"AET": "OVCF_NODE", "Host": "127.0.0.1", "Port": scp.port}
            post(f"{url}/modalities/node", node, "PUT")
            yield scp, url


def test_echo(peers):
    assert post(f"{peers[1]}/modalities/node/echo", {}) == {}


def test_study_is_found_and_moved(peers):
    _, url = peers
    query = post(f"{url}/modalities/node/query", {"Level": "Study", "Query": {"AccessionNumber": "A-?", "PatientName": ""}})
    answers = json.loads(get(f"{url}{query['Path']}/answers?expand&simplify"))
    # It keeps names in its own default encoding, Latin-1.
    assert [(a["StudyInstanceUID"], a["PatientName"]) for a in answers] == [
        (uid("c"), "Doe^Jane"), (uid("b"), "Yamada^Tarou=^=^"), (uid("a"), "Müller^Hans")]
    post(f"{url}{query['Path']}/answers/0/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
    instances = json.loads(get(f"{url}/instances?expand"))
    assert len(instances) == 3


def test_series_and_instance_levels(peers):
    _, url = peers
    for level, keys, number in [
        ("Patient", {"PatientName": "*"}, 3), ("Series", {"StudyInstanceUID": uid("a")}, 3),
        ("Instance", {"StudyInstanceUID": uid("a"), "SeriesInstanceUID": uid("a", "series", SR)}, 1),
    ]:
        query = post(f"{url}/modalities/node/query", {"Level": level, "Query": keys})
        assert len(json.loads(get(f"{url}{query['Path']}/answers"))) == number, level
