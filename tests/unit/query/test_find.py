"""C-FIND as PS3.4 C.4.1 wants it: one response an entity, the keys asked for, statuses and comments without identity."""

import pytest

from catalogue_rows import SC, SEG, SR, item, result_object, store
from dicom_peers import uid
from ovcf_node.config import Destination
from ovcf_node.domain.reasons import Reason
from ovcf_node.network import contexts
from query_peers import PATIENTS, answering, association, find, identifier

UNABLE, MISMATCH, TOO_MANY, NOT_AUTHORISED = 0xC000, 0xA900, 0xA700, 0x0124


@pytest.fixture(scope="module")
def scp(tmp_path_factory):
    with answering(tmp_path_factory.mktemp("scp")) as asked:
        yield asked


def matches(scp, asked, **options):
    found, final = find(scp.port, asked, **options)
    assert final.Status == 0x0000 and {status for status, _ in found} <= {0xFF00}
    return [match for _, match in found]


def test_patient_study_series_image_in_patient_root(scp):
    patient = matches(scp, identifier("PATIENT", PatientName="doe*", PatientID=""), patient_root=True)
    assert [p.PatientID for p in patient] == ["ID-c"]
    study = matches(scp, identifier("STUDY", PatientID="ID-c", StudyInstanceUID=""), patient_root=True)
    assert [s.StudyInstanceUID for s in study] == [uid("c")]
    keys = {"PatientID": "ID-c", "StudyInstanceUID": uid("c")}
    series = matches(scp, identifier("SERIES", **keys, SeriesInstanceUID="", Modality=""), patient_root=True)
    assert sorted(s.Modality for s in series) == ["OT", "SEG", "SR"]
    keys |= {"SeriesInstanceUID": uid("c", "series", SR)}
    images = matches(scp, identifier("IMAGE", **keys, SOPInstanceUID="", SOPClassUID=""), patient_root=True)
    assert [(i.SOPInstanceUID, i.SOPClassUID) for i in images] == [(uid("c", SR), SR)]


def test_a_study_is_one_response_with_what_was_asked_and_no_more(scp):
    asked = identifier("STUDY", StudyInstanceUID="", AccessionNumber="A-c", ModalitiesInStudy="", PatientName="",
                       NumberOfStudyRelatedSeries="", NumberOfStudyRelatedInstances="", InstanceAvailability="",
                       NameOfPhysiciansReadingStudy="")
    study, = matches(scp, asked)
    assert {e.keyword for e in study} == {e.keyword for e in asked} - {"SpecificCharacterSet"} | {"RetrieveAETitle"}
    assert list(study.ModalitiesInStudy) == ["OT", "SEG", "SR"]
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (3, 3)
    assert (study.RetrieveAETitle, study.InstanceAvailability, study.QueryRetrieveLevel) == ("OVCF_NODE", "ONLINE", "STUDY")
    assert study["NameOfPhysiciansReadingStudy"].is_empty


@pytest.mark.parametrize(("patient", "asked", "of_request", "stated"), [
    ("a", "mÜLLER*", "ISO_IR 192", "ISO_IR 192"), ("b", "山田*", "ISO_IR 192", "ISO_IR 192"),
    ("a", "muller*", None, "ISO_IR 100"), ("a", "muller*", "ISO_IR 144", "ISO_IR 100"),
    ("b", "YAMADA*", "ISO_IR 100", "ISO_IR 192"), ("b", "YAMADA*", None, ["", "ISO 2022 IR 87"]),
    ("b", "山田*", ["", "ISO 2022 IR 87"], ["", "ISO 2022 IR 87"]), ("c", "DOE^jane", "ISO_IR 192", None),
])
def test_names_are_matched_without_case_and_answered_in_a_character_set_that_has_them(
    scp, patient, asked, of_request, stated
):
    request = identifier("STUDY", PatientName=asked, StudyInstanceUID="")
    request.SpecificCharacterSet = of_request
    match, = matches(scp, request)
    assert match.StudyInstanceUID == uid(patient)
    assert match.get("SpecificCharacterSet") == stated
    assert match.PatientName == PATIENTS[patient]["PatientName"]


def test_result_keys_of_rad_137(scp):
    asked = identifier(
        "IMAGE", StudyInstanceUID=uid("a"), SeriesInstanceUID=uid("a", "series", SR), SOPInstanceUID="", CompletionFlag="",
        VerificationFlag="", ContentDate="", ContentTime="", ConceptNameCodeSequence=[item(CodeValue="126000")],
        ContentTemplateSequence=[], CurrentRequestedProcedureEvidenceSequence=[], PredecessorDocumentsSequence=[],
        ReferencedRequestSequence=[], ContributingEquipmentSequence=[], SegmentSequence=[],
    )
    report, = matches(scp, asked)
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert {e.keyword for e in report.ConceptNameCodeSequence[0]} == {"CodeValue"}  # the attributes that the item names
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == 60
    assert len(report.SegmentSequence) == 0 and len(report.PredecessorDocumentsSequence) == 0
    asked.ConceptNameCodeSequence = [item(CodeValue="121181")]
    assert matches(scp, asked) == []


def test_unsupported_keys_are_left_out_and_said_so(scp):
    asked = identifier("STUDY", StudyInstanceUID=uid("a"), StationName="", ContrastBolusAgent="", SeriesInstanceUID="")
    asked.add_new(0x00091001, "LO", "private")
    (status, match), = find(scp.port, asked)[0]
    assert status == 0xFF01
    assert {e.keyword for e in match} == {"QueryRetrieveLevel", "RetrieveAETitle", "StudyInstanceUID"}


def test_value_that_is_not_matched_is_ignored_and_said_so(scp):
    (status, match), = find(scp.port, identifier("STUDY", StudyInstanceUID=uid("a"), PatientComments="walks"))[0]
    assert status == 0xFF01 and match["PatientComments"].is_empty
    asked = identifier("STUDY", StudyInstanceUID=uid("a"), ProcedureCodeSequence=[item(CodeValue="X", CodeMeaning="")])
    assert [status for status, _ in find(scp.port, asked)[0]] == [0xFF01]


@pytest.mark.parametrize(("asked", "patient_root", "status"), [
    (identifier(None, StudyInstanceUID=""), False, MISMATCH),
    (identifier("ELSEWHERE", StudyInstanceUID=""), False, MISMATCH),
    (identifier("PATIENT", PatientID=""), False, MISMATCH),
    (identifier("STUDY", StudyInstanceUID=""), True, UNABLE),
    (identifier("STUDY", PatientID="ID-*", StudyInstanceUID=""), True, UNABLE),
    (identifier("SERIES", SeriesInstanceUID=""), False, UNABLE),
    (identifier("SERIES", StudyInstanceUID=[uid("a"), uid("b")], SeriesInstanceUID=""), False, UNABLE),
    (identifier("IMAGE", StudyInstanceUID=uid("a"), SOPInstanceUID=""), False, UNABLE),
    (identifier("STUDY", StudyDate="20240101-20240102-20240103"), False, MISMATCH),
])
def test_identifier_that_cannot_be_answered_is_refused_and_not_repeated(scp, asked, patient_root, status):
    found, final = find(scp.port, asked, patient_root=patient_root)
    assert found == [] and final.Status == status
    assert final.ErrorComment and "ID-" not in final.ErrorComment and uid("a") not in final.ErrorComment


def test_broader_than_allowed_is_refused(tmp_path):
    with answering(tmp_path, max_matches=2) as asked:
        found, final = find(asked.port, identifier("STUDY", StudyInstanceUID=""))
        assert found == [] and final.Status == TOO_MANY and final.ErrorComment == "more than 2 matches"


def test_permission_to_query_is_by_peer(tmp_path):
    peers = [{"ae_title": "PACS", "find": False}, {"ae_title": "FINDSCU", "retrieve": False}]
    with answering(tmp_path, peers=peers) as asked:
        assert find(asked.port, identifier("STUDY", StudyInstanceUID=""))[1].Status == NOT_AUTHORISED
        found, _ = find(asked.port, identifier("STUDY", StudyInstanceUID=""), calling="FINDSCU")
        assert len(found) == 3 and all("RetrieveAETitle" not in match for _, match in found)
        with association(asked.port, contexts.STUDY_ROOT_FIND, calling="STRANGER") as opened:
            assert opened.is_rejected


def test_address_decides_which_entry_of_a_title_counts(tmp_path):
    peers = [{"ae_title": "PACS", "address": "192.0.2.1"}, {"ae_title": "PACS", "address": "127.0.0.1", "find": False}]
    with answering(tmp_path, peers=[*peers, {"ae_title": "PACS"}]) as asked:
        assert find(asked.port, identifier("STUDY", StudyInstanceUID=""))[1].Status == NOT_AUTHORISED
    with answering(tmp_path, peers=[peers[0] | {"find": False}, {"ae_title": "PACS"}], patients={}) as asked:
        assert find(asked.port, identifier("STUDY", StudyInstanceUID=""))[1].Status == 0x0000
    with answering(tmp_path, peers=peers[:1], patients={}) as asked, association(
        asked.port, contexts.STUDY_ROOT_FIND
    ) as opened:
        assert opened.is_rejected


def test_each_peer_sees_reports_of_its_own_destination(tmp_path):
    destinations = (
        Destination(name="new", type="dicom", ae_title="NEW", host="h", port=1),
        Destination(name="old", type="dicom", ae_title="PACS", host="h", port=1, sr_class="88.22"),
    )
    with answering(tmp_path, patients={}, destinations=destinations) as asked:
        old = result_object("x", SR, SOPInstanceUID=uid("old"), SeriesInstanceUID=uid("old series"))
        objects = [result_object("x", SEG), result_object("x", SC), result_object("x", SR), old]
        store(asked.ledger, objects, asked.results, dialects={uid("old"): "88.22/air"})
        request = identifier("SERIES", StudyInstanceUID=uid("x"), SeriesInstanceUID="", Modality="SR")
        for calling, expected in (("PACS", uid("old series")), ("FINDSCU", uid("x", "series", SR))):
            assert [m.SeriesInstanceUID for _, m in find(asked.port, request, calling=calling)[0]] == [expected]
        named = identifier("IMAGE", StudyInstanceUID=uid("x"), SeriesInstanceUID=uid("x", "series", SR),
                           SOPInstanceUID=uid("x", SR))
        assert find(asked.port, named, calling="PACS")[0] == []


def test_held_study_is_not_found(tmp_path):
    with answering(tmp_path) as asked:
        asked.ledger.holds.place(uid("a"), Reason("two_patients", "one study, two Patient IDs"), 1.0)
        found, _ = find(asked.port, identifier("STUDY", StudyInstanceUID="", PatientID=""))
        assert sorted(m.PatientID for _, m in found) == ["ID-b", "ID-c"]


def test_cancel_ends_a_long_answer_soon(tmp_path):
    with answering(tmp_path, patients={}) as asked:
        store(asked.ledger, [result_object(f"s{number}", SR) for number in range(300)])
        with association(asked.port, contexts.STUDY_ROOT_FIND) as opened:
            everything, received = identifier("STUDY", StudyInstanceUID=""), []
            for status, _ in opened.send_c_find(everything, contexts.STUDY_ROOT_FIND, msg_id=7):
                received.append(status.Status)
                if len(received) == 1:
                    opened.send_c_cancel(7, query_model=contexts.STUDY_ROOT_FIND)
            assert received[-1] == 0xFE00 and len(received) < 200
            again = list(opened.send_c_find(identifier("STUDY", StudyInstanceUID=uid("s1")), contexts.STUDY_ROOT_FIND))
            assert [status.Status for status, _ in again] == [0xFF00, 0x0000]


def test_log_tells_what_happened_and_about_nobody(scp, capsys):
    matches(scp, identifier("STUDY", PatientName="Doe^Jane", PatientID="ID-c", StudyInstanceUID=""))
    printed = "".join(capsys.readouterr())
    assert "found" in printed and "matches=1" in printed
    assert "Doe" not in printed and "ID-c" not in printed and uid("c") not in printed
