"""QIDO-RS: every resource, matching, what is returned, and what a query string must not do."""

import json
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from catalogue_rows import SR, result_object, store
from ovcf_node.domain.reasons import Reason
from ovcf_node.ledger.catalogue import KEYS

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"


def first(entity: dict, tag: str):
    return entity[tag]["Value"][0]


def test_studies(client, objects):
    answer = client.get("/studies")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    (study,) = answer.json()
    assert first(study, STUDY) == str(objects["sr"].StudyInstanceUID)
    name = first(study, "00100010")
    assert name == {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    assert study["00080061"]["Value"] == ["OT", "SEG", "SR"]
    assert (first(study, "00201206"), first(study, "00201208")) == (4, 4)
    assert first(study, "00081190") == f"{client.base_url}studies/{objects['sr'].StudyInstanceUID}"
    assert first(study, "00080056") == "ONLINE"
    assert first(study, "00080005") == "ISO_IR 192"


def test_answers_are_the_json_model(client):
    for resource in ("/studies", "/series", "/instances"):
        for entity in client.get(resource, params={"includefield": "all"}).json():
            dataset = Dataset.from_json(entity)
            assert list(entity) == sorted(entity)
            assert dataset.StudyInstanceUID
            assert not any(element.tag.group == 0x7FE0 and element.value for element in dataset)


def test_every_resource(client, served):
    study, series = served.path("sr", "study"), served.path("sr", "series")
    assert len(client.get("/series").json()) == 4
    assert len(client.get("/instances").json()) == 4
    assert len(client.get(f"{study}/series").json()) == 4
    assert len(client.get(f"{study}/instances").json()) == 4
    (one,) = client.get(f"{series}/instances").json()
    assert first(one, INSTANCE) == str(served.objects["sr"].SOPInstanceUID)
    assert first(one, "00081190").endswith(served.path("sr"))


def test_attributes_of_higher_levels_come_where_the_path_does_not_name_them(client, served):
    assert "00100020" in client.get("/series").json()[0]
    assert "00100020" in client.get("/instances").json()[0]
    assert "00080060" in client.get("/instances").json()[0]
    below = client.get(f"{served.path('sr', 'study')}/series").json()[0]
    assert "00100020" not in below and STUDY in below


@pytest.mark.parametrize(
    "query",
    [
        "PatientID=PLANTED-ID", "00100020=PLANTED-ID", "PatientName=yamada*", "PatientName=YAMADA^TAROU",
        "PatientName=山田*", "AccessionNumber=PLANTED-A?C", "PatientBirthDate=19400101-19401231", "StudyDate=",
        "PatientID=*", "ModalitiesInStudy=SEG",
        "Modality=SR", "fuzzymatching=false", "limit=1", "offset=0",
    ],
)
def test_matching(client, query):
    assert client.get(f"/studies?{query}").status_code == 200


@pytest.mark.parametrize(
    "query", ["PatientID=planted-id", "PatientName=Suzuki*", "StudyDate=19000101-19000102", "Modality=MR", "offset=1",
              "limit=0", "StudyInstanceUID=1.2.3", "SOPInstanceUID=1.2.3,1.2.4"],
)
def test_no_match_is_204_without_a_body(client, query):
    answer = client.get(f"/studies?{query}")
    assert (answer.status_code, answer.content) == (204, b"")


def test_lists_of_uids(client, objects):
    names = [str(d.SOPInstanceUID) for d in objects.values()]
    assert len(client.get("/instances", params={"SOPInstanceUID": ",".join(names[:2])}).json()) == 2
    assert len(client.get("/instances", params={"SOPInstanceUID": names[:3]}).json()) == 3


def test_lists_of_modalities(client):
    assert len(client.get("/series?Modality=SR,OT").json()) == 2
    assert len(client.get("/series?Modality=SR&Modality=OT").json()) == 2
    assert client.get("/studies?ModalitiesInStudy=CT,SEG").status_code == 200


def test_private_attributes_are_not_returned_and_not_refused(client):
    assert client.get("/studies?includefield=00091001,PatientID").status_code == 200


def test_path_and_query_string_must_agree(client, served):
    study = str(served.objects["sr"].StudyInstanceUID)
    assert client.get(f"/studies/{study}/series", params={"StudyInstanceUID": f"1.2,{study}"}).status_code == 200
    assert client.get(f"/studies/{study}/series?StudyInstanceUID=1.2").status_code == 204
    assert len(client.get(f"/studies/{study}/series?StudyInstanceUID=*").json()) == 4


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=x", "offset=99999999999", "StudyDate=yesterday", "includefield=Nonsense",
     "PatientID=a&PatientID=b", "SeriesNumber=one"],
)
def test_what_cannot_be_understood_is_400_without_the_words(client, query):
    answer = client.get(f"/studies?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "yesterday" not in answer.text and "Nonsense" not in answer.text


@pytest.mark.parametrize("query", ["Nonsense=1", "0010zz20=1", "00100020.=1", "00091001=1", "_=17&_=18", "=1"])
def test_unsupported_parameters_are_ignored_with_a_warning_without_the_words(client, query):
    answer = client.get(f"/studies?{query}")
    assert answer.status_code == 200
    assert answer.headers["warning"] == '299 ovcf-node "A parameter is not supported, it was ignored"'


@pytest.mark.parametrize("path", ["/studies/*/series", "/studies/1.2%5C1.3/series", "/studies/%2A/instances", "/studies/a"])
def test_a_path_holds_one_uid_and_no_wildcard(client, path):
    assert client.get(path).status_code == 400


def test_pages(client):
    pages = [client.get(f"/instances?limit=1&offset={n}") for n in range(5)]
    assert [p.status_code for p in pages] == [200, 200, 200, 200, 204]
    assert len({first(p.json()[0], INSTANCE) for p in pages[:4]}) == 4
    assert "additional results" in pages[0].headers["warning"] and "warning" not in pages[3].headers


def test_fuzzy_matching_is_declined_by_a_warning(client):
    answer = client.get("/studies?fuzzymatching=true&PatientName=Yamada*")
    assert answer.status_code == 200
    assert "literal matching" in answer.headers["warning"]


def test_unsupported_key_is_ignored_by_a_warning(client):
    answer = client.get("/studies?Manufacturer=x")
    assert answer.status_code == 200
    assert "Manufacturer is not supported" in answer.headers["warning"]


def test_include_field(client, served):
    path = f"{served.path('sr', 'series')}/instances"
    assert "0040A375" not in client.get(path).json()[0]
    for name in ("CurrentRequestedProcedureEvidenceSequence", "0040A375", "Rows,0040A375"):
        (one,) = client.get(path, params={"includefield": name}).json()
        assert one["0040A375"]["Value"], "a long element comes from the complete header"
    (everything,) = client.get(path, params={"includefield": "all"}).json()
    assert {"0040A730", "0040A375", "0040A043"} <= set(everything)


def test_code_of_the_document_title(client):
    assert len(client.get("/instances?ConceptNameCodeSequence.CodeValue=126000").json()) == 1
    assert len(client.get("/instances?0040A043.00080100=126000").json()) == 1
    assert client.get("/instances?ConceptNameCodeSequence.CodeValue=1").status_code == 204


def test_not_acceptable(client):
    assert client.get("/studies", headers={"Accept": "application/dicom+xml"}).status_code == 406
    assert client.get("/studies", headers={"Accept": "application/json"}).status_code == 200


def test_nothing_of_a_held_or_discarded_study(client, served):
    study = str(served.objects["sr"].StudyInstanceUID)
    served.ledger.holds.place(study, Reason("identity_conflict", "two patients"), 1.0)
    for path in ("/studies", "/series", "/instances", f"/studies/{study}/series"):
        assert client.get(path).status_code == 204
    served.ledger.holds.lift(study, 2.0, "somebody")
    assert client.get("/studies").status_code == 200
    for revision in served.ledger.revisions.newest_of_study(study):
        served.ledger.revisions.discard(revision, 3.0)
    assert client.get("/instances").status_code == 204


def test_superseded_instances_only_by_their_uid(client, served):
    old = str(served.objects["sr"].SOPInstanceUID)
    study, series = served.objects["sr"].StudyInstanceUID, served.objects["sr"].SeriesInstanceUID
    new = result_object("new", SR, StudyInstanceUID=study, SeriesInstanceUID=series)
    store(served.ledger, [new], served.results)
    found = [first(i, INSTANCE) for i in client.get("/instances").json()]
    assert found == [str(new.SOPInstanceUID)]
    assert len(client.get(f"/instances?SOPInstanceUID={old}").json()) == 1


_NAMES = st.sampled_from(
    [*KEYS, "00100010", "0040A043.00080100", "limit", "offset", "includefield", "fuzzymatching", "accept"]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    resource=st.sampled_from(["/studies", "/series", "/instances", "/studies/1.2/series", "/studies/1.2/instances"]),
    query=st.lists(st.tuples(st.one_of(_NAMES, st.text(max_size=12)), st.text(max_size=40)), max_size=5),
)
def test_no_query_string_breaks_it_or_comes_back(client, resource, query):
    answer = client.get(resource, params=query)
    assert answer.status_code in (200, 204, 400, 406)
    if answer.status_code == 200:
        assert json.loads(answer.text)
    if answer.status_code in (400, 406):
        assert set(answer.json()) == {"status", "title"}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=60))
def test_no_raw_query_string_breaks_it(client, raw):
    url = client.base_url
    with socket.create_connection((url.host, url.port), 5) as connection:
        head = f"GET /dicom-web/instances?{raw} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        status = connection.makefile("rb").readline().split()[1]
    assert status in (b"200", b"204", b"400", b"406")
