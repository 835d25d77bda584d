"""WADO-RS: bytes as they are stored, metadata, frames, pictures, and what is asked for but not here."""

import email
import email.policy
import io
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from ovcf_node.domain.reasons import Reason
from ovcf_node.query.dicomweb.pixels import _bits

DICOM = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'


def parts(answer) -> list[bytes]:
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    kinds = {part.get_content_type() for part in message.iter_parts()}
    assert kinds == {message.get_param("type")}
    return [part.get_payload(decode=True) for part in message.iter_parts()]


@pytest.mark.parametrize(
    "accept", [DICOM, f"{DICOM}; transfer-syntax=*", "*/*", f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.1",
               "multipart/related", "image/jpeg, multipart/*;q=0.1"],
)
def test_stored_bytes_come_unchanged(client, served, accept):
    for level, roles in (("instance", ["sr"]), ("series", ["sr"]), ("study", list(served.objects))):
        answer = client.get(served.path("sr", level), headers={"Accept": accept})
        assert answer.status_code == 200
        assert parts(answer) == [served.bytes_of(role) for role in roles]


def test_one_instance_without_multipart(client, served):
    answer = client.get(served.path("summary"), headers={"Accept": "application/dicom"})
    assert answer.headers["content-type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    assert answer.content == served.bytes_of("summary")


@pytest.mark.parametrize("accept", [f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.90", "application/zip", "text/html"])
def test_what_there_is_not_is_406(client, served, accept):
    answer = client.get(served.path("summary", "study"), headers={"Accept": accept})
    assert answer.status_code == 406
    assert "application/dicom" in answer.json()["title"]


def test_the_accept_parameter_wins(client, served):
    answer = client.get(served.path("summary"), params={"accept": "application/dicom"}, headers={"Accept": "text/html"})
    assert answer.status_code == 200


@pytest.mark.parametrize("below", ["", "/metadata", "/rendered", "/thumbnail"])
@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_unknown_and_held_are_the_same_404(client, served, below, level):
    path = served.path("summary", level)
    unknown = client.get(path.replace(str(served.objects["summary"].StudyInstanceUID), "1.2.3") + below)
    served.ledger.holds.place(str(served.objects["sr"].StudyInstanceUID), Reason("identity_conflict", "two"), 1.0)
    held = client.get(path + below)
    assert (unknown.status_code, unknown.content) == (held.status_code, held.content)
    assert held.status_code == 404


def test_an_instance_is_only_found_in_its_own_series(client, served):
    path = served.path("summary").replace(str(served.objects["summary"].SeriesInstanceUID), "1.2.3")
    assert client.get(path).status_code == 404


def test_a_damaged_file_is_not_served(client, served):
    path = next(served.results.root.rglob(f"{served.objects['summary'].SOPInstanceUID}.dcm"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert client.get(served.path("summary")).status_code == 500
    path.unlink()
    assert client.get(served.path("summary")).status_code == 500


def test_metadata_is_the_whole_header(client, served):
    answer = client.get(served.path("sr", "study") + "/metadata", headers={"Accept": "application/dicom+json"})
    assert answer.headers["content-type"] == "application/dicom+json"
    headers = {h["00080018"]["Value"][0]: h for h in answer.json()}
    assert list(headers) == [str(d.SOPInstanceUID) for d in served.objects.values()]
    for dataset in served.objects.values():
        expected = dcmread(io.BytesIO(next(served.results.root.rglob(f"{dataset.SOPInstanceUID}.dcm")).read_bytes()))
        expected.pop("PixelData", None)
        found = headers[str(dataset.SOPInstanceUID)]
        address = found.pop("7FE00010", {}).get("BulkDataURI")
        assert Dataset.from_json(found) == expected
        assert ("PixelData" in dataset) == bool(address)
        if address:
            assert parts(client.get(address)) == [dataset.PixelData]


def test_frames_of_single_bits(client, served):
    dataset = dcmread(io.BytesIO(served.bytes_of("seg_vertebrae")))
    wanted = [3, 1, int(dataset.NumberOfFrames)]
    answer = client.get(f"{served.path('seg_vertebrae')}/frames/{','.join(map(str, wanted))}", headers={"Accept": OCTETS})
    frames = parts(answer)
    pixels = pixel_array(dataset)
    for number, frame in zip(wanted, frames, strict=True):
        bits = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")[:dataset.Rows * dataset.Columns]
        assert (bits.reshape(dataset.Rows, dataset.Columns) == pixels[number - 1]).all()
    assert any(frame.strip(b"\0") for frame in frames)


@pytest.mark.parametrize("size", [16, 9, 15])
def test_frames_that_do_not_fill_bytes(size):
    frames = np.random.default_rng(size).integers(0, 2, (5, size), np.uint8)
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    for number, frame in enumerate(frames):
        assert _bits(packed, number * size, size) == np.packbits(frame, bitorder="little").tobytes()


@pytest.mark.parametrize(
    ("frames", "status"), [
        ("0", 400), ("1,x", 400), ("-1", 400), ("9999", 404), ("1,2,9999", 404), ("1" * 20, 400), ("1,2,1", 400),
    ],
)
def test_frames_that_are_not_there(client, served, frames, status):
    assert client.get(f"{served.path('seg_vertebrae')}/frames/{frames}").status_code == status


def test_one_frame_without_multipart(client, served):
    accept = {"Accept": "application/octet-stream; transfer-syntax=*"}
    answer = client.get(f"{served.path('summary')}/frames/1", headers=accept)
    assert answer.content == served.objects["summary"].PixelData[:120 * 161 * 3]


def test_a_report_has_no_pixels(client, served):
    for below in ("/frames/1", "/rendered", "/bulkdata/7FE00010"):
        assert client.get(served.path("sr") + below).status_code == 406
    assert client.get(served.path("sr") + "/bulkdata/00420011").status_code == 404


@pytest.mark.parametrize(("accept", "kind"), [("*/*", "JPEG"), ("image/*", "JPEG"), ("image/png", "PNG"),
                                              ("text/html, image/png;q=0.9, image/jpeg;q=0.8", "PNG")])
def test_the_picture_of_study_series_and_instance(client, served, accept, kind):
    for path in (served.path("sr", "study"), served.path("summary", "series"), served.path("summary"),
                 served.path("summary") + "/frames/1"):
        answer = client.get(f"{path}/rendered", headers={"Accept": accept})
        image = Image.open(io.BytesIO(answer.content))
        assert (image.format, image.size) == (kind, (161, 120))
        if kind == "PNG":
            stored = np.frombuffer(served.objects["summary"].PixelData, np.uint8)[:120 * 161 * 3]
            assert (np.asarray(image).ravel() == stored).all()


def test_thumbnail_and_viewport(client, served):
    def size(path: str) -> tuple[int, int]:
        return Image.open(io.BytesIO(client.get(f"{served.path('sr', 'study')}{path}").content)).size

    assert size("/thumbnail") == (161, 120)
    assert size("/thumbnail?viewport=80,80") == (80, 60)
    assert size("/rendered?viewport=40,400&quality=50") == (40, 30)


@pytest.mark.parametrize("query", ["viewport=0,5", "viewport=5", "viewport=1,1,1,1,1,1", "viewport=99999,1", "quality=0",
                                   "quality=x", "quality=101"])
def test_pictures_that_cannot_be_made(client, served, query):
    assert client.get(f"{served.path('sr', 'study')}/rendered?{query}").status_code == 400


def test_series_without_a_picture(client, served):
    assert client.get(f"{served.path('sr', 'series')}/rendered").status_code == 404
    assert client.get(f"{served.path('seg_vertebrae')}/rendered").status_code == 406


def test_only_reading(client, served):
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, served.path("sr", "study")).status_code == 405
    assert client.head(served.path("sr", "study")).content == b""
    assert client.get("/nothing").status_code == 404


def test_no_answer_stays_in_a_cache(client, served):
    study = served.path("summary", "study")
    for path in ("/studies", study, f"{study}/metadata", f"{study}/rendered", "/studies/1.2.3", "/studies?PatientID=x"):
        headers = client.get(path).headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


def test_addresses_behind_a_proxy(served):
    client = served.client(public_url="https://ovcf.hospital.example/node")
    found = client.get("/studies").json()[0]["00081190"]["Value"][0]
    assert found == f"https://ovcf.hospital.example/node/dicom-web{served.path('sr', 'study')}"
    (header,) = client.get(served.path("summary") + "/metadata").json()
    assert header["7FE00010"]["BulkDataURI"].startswith("https://ovcf.hospital.example/node/dicom-web/studies/")


_SEGMENT = st.one_of(st.text(max_size=20), st.from_regex(r"[0-9.*?\\\\,]{0,70}", fullmatch=True))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(study=_SEGMENT, instance=_SEGMENT, last=st.one_of(_SEGMENT, st.just("1")), accept=st.text(
    st.characters(min_codepoint=32, max_codepoint=126), max_size=40,
))
def test_no_path_breaks_it_or_finds_what_it_does_not_name(client, study, instance, last, accept):
    for tail in ("", "/metadata", "/rendered", f"/frames/{quote(last, safe='')}", f"/bulkdata/{quote(last, safe='')}"):
        path = f"/studies/{quote(study, safe='')}/series/1.2/instances/{quote(instance, safe='')}{tail}"
        status = client.get(path, headers={"Accept": accept.strip() or "*/*"}).status_code
        assert status in (400, 404, 406) or (status == 405 and not last)
