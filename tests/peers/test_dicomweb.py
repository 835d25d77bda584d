"""DICOMweb against programs that are not ours: Orthanc as a client, curl."""

import io
import json
import subprocess
import urllib.request

import pytest
from PIL import Image

from dicom_peers import program
from node_harness import ORTHANC_DICOMWEB, get, orthanc
from ovcf_node.query import tokens

pytestmark = pytest.mark.peer


def post(url: str, body: object) -> bytes:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def test_orthanc_searches_and_retrieves_a_study_unchanged(served, tmp_path):
    program("Orthanc")
    if not ORTHANC_DICOMWEB.exists():
        program("orthanc-dicomweb")
    file = tmp_path / "tokens.toml"
    token = tokens.add(file, "orthanc", tokens.PERMISSIONS, None)
    node = str(served.client(open=False, tokens=file).base_url)
    server = {"Url": node, "HttpHeaders": {"Authorization": f"Bearer {token}"}}
    study = str(served.objects["sr"].StudyInstanceUID)
    with orthanc(tmp_path / "orthanc", dicomweb=True, dicomweb_servers={"node": server}) as (_, url):
        asked = {"Uri": "/studies", "Arguments": {"PatientName": "yama*"}}
        (found,) = json.loads(post(f"{url}/dicom-web/servers/node/qido", asked))
        assert study in str(found)
        post(f"{url}/dicom-web/servers/node/retrieve", {"Resources": [{"Study": study}]})
        stored = {get(f"{url}/instances/{name}/file") for name in json.loads(get(f"{url}/instances"))}
    assert stored == {served.bytes_of(role) for role in served.objects}


def test_curl_gets_the_picture(served, tmp_path):
    file = tmp_path / "tokens.toml"
    token = tokens.add(file, "curl", ["retrieve"], None)
    node = str(served.client(open=False, tokens=file).base_url).rstrip("/")
    url = node + served.path("sr", "study") + "/rendered"

    def curl(*options: str) -> bytes:
        command = [program("curl"), "--silent", *options, url]
        return subprocess.run(command, capture_output=True, timeout=30, check=True).stdout

    picture = curl("--oauth2-bearer", token, "--header", "Accept: image/png")
    assert Image.open(io.BytesIO(picture)).size == (161, 120)
    assert json.loads(curl())["status"] == 401
