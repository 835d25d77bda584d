"""A real DICOMweb client (dicomweb-client) searches and retrieves everything it can, with a token."""

import io

import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from requests import Session
from requests.exceptions import HTTPError

from ovcf_node.query import tokens


@pytest.fixture
def remote(served, tmp_path) -> DICOMwebClient:
    file = tmp_path / "tokens.toml"
    session = Session()
    session.headers["Authorization"] = f"Bearer {tokens.add(file, 'client', tokens.PERMISSIONS, None)}"
    client = served.client(open=False, tokens=file)
    made = DICOMwebClient(str(client.base_url).rstrip("/"), session=session)
    made.host = client.base_url.netloc.decode()  # its Host header lacks the port, and so would the addresses in answers
    return made


@pytest.fixture
def uids(served) -> dict[str, tuple[str, str, str]]:
    return {role: (str(d.StudyInstanceUID), str(d.SeriesInstanceUID), str(d.SOPInstanceUID))
            for role, d in served.objects.items()}


def test_without_a_token_it_is_refused(remote):
    del remote._session.headers["Authorization"]
    with pytest.raises(HTTPError, match="401"):
        remote.search_for_studies()


def test_search(remote, uids):
    study, series, instance = uids["sr"]
    (found,) = remote.search_for_studies(search_filters={"PatientName": "yama*"}, fields=["StudyDescription"])
    assert Dataset.from_json(found).StudyInstanceUID == study
    assert len(remote.search_for_series(study)) == 4
    assert len(remote.search_for_instances(get_remaining=True, limit=1)) == 4
    (one,) = remote.search_for_instances(study, series)
    assert Dataset.from_json(one).SOPInstanceUID == instance
    assert remote.search_for_studies(search_filters={"PatientID": "nobody"}) == []


def test_retrieve(remote, served, uids):
    study, series, instance = uids["seg_vertebrae"]
    stored = dcmread(io.BytesIO(served.bytes_of("seg_vertebrae")))
    assert remote.retrieve_instance(study, series, instance) == stored
    assert remote.retrieve_series(study, series) == [stored]
    assert len(remote.retrieve_study(study)) == 4
    assert sum(1 for _ in remote.iter_study(study)) == 4


def test_metadata_and_bulk_data(remote, served, uids):
    study, series, instance = uids["seg_vertebrae"]
    header = remote.retrieve_instance_metadata(study, series, instance)
    assert Dataset.from_json({k: v for k, v in header.items() if k != "7FE00010"}).SOPInstanceUID == instance
    assert len(remote.retrieve_study_metadata(study)) == 4
    (data,) = remote.retrieve_bulkdata(header["7FE00010"]["BulkDataURI"])
    assert data == served.objects["seg_vertebrae"].PixelData


def test_frames_and_picture(remote, served, uids):
    frames = remote.retrieve_instance_frames(*uids["summary"], [1])
    assert np.frombuffer(frames[0], np.uint8).size == 120 * 161 * 3
    assert remote.retrieve_instance_rendered(*uids["summary"], media_types=("image/png",))[:4] == b"\x89PNG"
    assert remote.retrieve_instance_rendered(*uids["summary"])[:2] == b"\xff\xd8"
