"""The catalogue answers as PS3.4 C.2.2.2 says, shows the truth in force, and nothing that is held or discarded."""

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from sqlalchemy.exc import NoResultFound

import catalogue_rows
from catalogue_rows import SC, SEG, SR, result_object, store
from dicom_peers import uid
from ovcf_node.config import Destination
from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.withdrawal import Title
from ovcf_node.ledger import Ledger, Result
from ovcf_node.ledger.catalogue import BadKey, Level, Query, TooManyMatches, dialect_for, entry_of
from ovcf_node.ledger.schema import METADATA

AIR = "88.34/air"

STUDIES = {
    "a": {"PatientName": "Müller^Hans", "StudyDate": "20240101", "StudyTime": "0930", "SpecificCharacterSet": "ISO_IR 100"},
    "b": {"PatientName": "MULLER^Anna", "StudyDate": "20240215", "StudyTime": "235959.5", "PatientSex": "M",
          "AccessionNumber": "100%_[x]"},
    "c": {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "StudyDate": "20240301", "StudyDescription": "Spine*"},
    "d": {"PatientName": "O'Neil^J^^Dr", "StudyDate": "20231231", "IssuerOfPatientID": "HOSPITAL", "AccessionNumber": "a-D"},
}


MATCHING = [
    ("PatientID", "", "abcd"), ("PatientID", "*", "abcd"), ("PatientID", "ID-a", "a"), ("PatientID", "id-a", ""),
    ("PatientID", " ID-a ", "a"), ("PatientID", "ID-?", "abcd"), ("PatientID", "*-b", "b"), ("PatientID", "I**d", "d"),
    ("PatientID", "ID-a\\ID-c", "ac"), ("PatientID", "ID", ""),
    ("PatientName", "muller^hans", "a"), ("PatientName", "MÜLLER*", "ab"), ("PatientName", "*anna", "b"),
    ("PatientName", "Yamada*", "c"), ("PatientName", "山田*", "c"), ("PatientName", "=山田^太郎", "c"),
    ("PatientName", "==やまだ*", "c"), ("PatientName", "yamada*=*太郎", "c"), ("PatientName", "muller*=山田*", ""),
    ("PatientName", "O'Neil^J^^Dr^", "d"), ("PatientName", "o'neil^?^^dr", "d"), ("PatientName", "muller", ""),
    ("PatientSex", "M", "b"), ("IssuerOfPatientID", "HOSPITAL", "d"),
    ("AccessionNumber", "100%_[x]", "b"), ("AccessionNumber", "100%_[*", "b"), ("AccessionNumber", "A-?", "ac"),
    ("AccessionNumber", "%", ""), ("AccessionNumber", "[ab]*", ""), ("AccessionNumber", "1__%*", ""),
    ("StudyDate", "20240101", "a"), ("StudyDate", "20240101-20240229", "ab"), ("StudyDate", "-20240101", "ad"),
    ("StudyDate", "20240215-", "bc"), ("StudyDate", "2024.01.01", "a"), ("StudyDate", "20250101-", ""),
    ("StudyTime", "093000", "a"), ("StudyTime", "0900-1000", "a"), ("StudyTime", "2359-", "b"),
    ("StudyTime", "-101500", "acd"), ("StudyTime", "09", "a"), ("StudyTime", "10:15:00", "cd"),
    ("StudyInstanceUID", uid("a"), "a"), ("StudyInstanceUID", f"{uid('a')}\\{uid('d')}", "ad"),
    ("StudyInstanceUID", "1.2.*", ""), ("ModalitiesInStudy", "SEG", "abcd"), ("ModalitiesInStudy", "CT", ""),
    ("SOPClassesInStudy", SR, "abcd"), ("StudyDescription", "*Spine*", "c"),
    ("ConceptNameCodeSequence__CodeValue", "126000", "abcd"), ("ContentTemplateSequence__TemplateIdentifier", "1", ""),
    ("SeriesNumber", "09004", "abcd"), ("SeriesNumber", "99999999999", ""), ("InstanceNumber", "2", ""),
    ("CompletionFlag", "COMPLETE", "abcd"), ("VerificationFlag", "VERIFIED", ""), ("Modality", "SR\\XX", "abcd"),
]
"""Keyword, value, letters of the studies that match."""


def test_what_is_in_a_study_need_not_be_in_one_instance(filled):
    both = {"ModalitiesInStudy": "SEG", "SOPClassesInStudy": SR}
    assert len(list(filled.catalogue.find(Query(Level.STUDY, both, AIR)))) == 4
    assert len(list(filled.catalogue.find(Query(Level.SERIES, both | {"Modality": "SR"}, AIR)))) == 4
    assert list(filled.catalogue.find(Query(Level.STUDY, both | {"ModalitiesInStudy": "CT"}, AIR))) == []


WRONG = [
    ("StudyDate", "yesterday"), ("StudyDate", "2024-01-01"), ("StudyDate", "-"), ("StudyTime", "9"), ("StudyTime", "-"),
    ("InstanceNumber", "one"), ("PatientID", "x" * 5000), ("StudyInstanceUID", "\\"), ("PatientID", "a\x00b"),
    ("PatientName", "\ud800"), ("StudyInstanceUID", "\\".join(["1.2"] * 6000)),
]


@pytest.fixture
def ledger(ledger_url):
    """An empty ledger."""
    opened = Ledger(ledger_url)
    with opened.catalogue._engine.begin() as connection:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(table.delete())
    yield opened
    opened.close()


@pytest.fixture
def filled(ledger):
    """Four studies of three objects each."""
    for name, elements in STUDIES.items():
        store(ledger, [result_object(name, sop_class, **elements) for sop_class in (SEG, SC, SR)])
    return ledger


def test_matching(filled):
    answers = {(k, v): "".join(sorted(str(d.PatientID)[-1] for d in found(filled, **{k: v}))) for k, v, _ in MATCHING}
    assert answers == {(k, v): expected for k, v, expected in MATCHING}


def found(ledger, level=Level.STUDY, dialect=AIR, **keys) -> list[Dataset]:
    asked = {k.replace("__", "."): v for k, v in keys.items()}
    return [Dataset.from_json(m.attributes) for m in ledger.catalogue.find(Query(level, asked, dialect))]


def names(ledger, **keys) -> str:
    """Return the letters of the studies that match."""
    return "".join(sorted(str(d.PatientID)[-1] for d in found(ledger, **keys)))


def test_every_condition_must_hold(filled):
    assert names(filled, PatientName="muller*", PatientSex="M") == "b"


def test_what_cannot_be_a_value_is_refused_without_repeating_it(filled):
    for keyword, value in WRONG:
        with pytest.raises(BadKey) as caught:
            found(filled, **{keyword: value})
        assert caught.value.keyword == keyword and str(caught.value) == f"bad_key: {keyword} has no valid value"


def test_one_answer_for_each_entity_the_newest_first(filled):
    assert [str(d.PatientID)[-1] for d in found(filled)] == ["d", "c", "b", "a"]
    assert [len(found(filled, level)) for level in Level] == [4, 4, 12, 12]
    query = Query(Level.STUDY, {}, AIR, offset=1, limit=2)
    assert [m.attributes["00100020"]["Value"][0][-1] for m in filled.catalogue.find(query)] == ["c", "b"]


def test_too_many_matches_are_refused_and_none_is_dropped(filled):
    with pytest.raises(TooManyMatches):
        filled.catalogue.find(Query(Level.INSTANCE, {}, AIR, at_most=11))
    assert len(list(filled.catalogue.find(Query(Level.INSTANCE, {}, AIR, at_most=12)))) == 12


def test_counts_are_of_the_entity_and_not_of_the_matches(filled):
    study = found(filled, StudyInstanceUID=uid("a"), Modality="SR")[0]
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (3, 3)
    assert list(study.ModalitiesInStudy) == ["OT", "SEG", "SR"] and SEG in study.SOPClassesInStudy
    patient = found(filled, Level.PATIENT, PatientID="ID-d")[0]
    assert (patient.NumberOfPatientRelatedStudies, patient.NumberOfPatientRelatedInstances) == (1, 3)
    assert found(filled, Level.SERIES, SeriesInstanceUID=uid("a", "series", SR))[0].NumberOfSeriesRelatedInstances == 1


def test_an_answer_holds_attributes_of_its_level_and_above(filled):
    study = found(filled, StudyInstanceUID=uid("a"))[0]
    assert study.PatientName == "Müller^Hans" and study.StudyDate == "20240101"
    assert "Modality" not in study and "SOPInstanceUID" not in study and "ContentDate" not in study
    series = found(filled, Level.SERIES, SeriesInstanceUID=uid("a", "series", SR))[0]
    assert series.Modality == "SR" and "SOPInstanceUID" not in series and "ModalitiesInStudy" not in series


def test_long_sequences_are_in_the_header_only(filled):
    match = next(filled.catalogue.find(Query(Level.INSTANCE, {"SOPInstanceUID": uid("a", SR)}, AIR)))
    assert match.left_out == {"0040A375"} and match.character_set == "ISO_IR 100"
    header = Dataset.from_json(filled.catalogue.header(match.result_id))
    evidence = header.CurrentRequestedProcedureEvidenceSequence[0]
    assert len(evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 60
    assert header.ContentSequence[0].TextValue == "text" and header.SpecificCharacterSet == "ISO_IR 192"


def test_header_keeps_the_vr_of_pixel_data_and_none_of_their_bytes(filled):
    match = next(filled.catalogue.find(Query(Level.INSTANCE, {"SOPInstanceUID": uid("a", SEG)}, AIR)))
    assert filled.catalogue.header(match.result_id)["7FE00010"] == {"vr": "OB"}


def test_patients_with_one_id_of_two_issuers_are_two(ledger):
    for name, issuer in (("x", "ONE"), ("y", "TWO"), ("z", "TWO")):
        store(ledger, [result_object(name, SR, PatientID="same", IssuerOfPatientID=issuer)])
    counts = {d.IssuerOfPatientID: d.NumberOfPatientRelatedStudies for d in found(ledger, Level.PATIENT)}
    assert counts == {"ONE": 1, "TWO": 2}


def test_result_of_a_patient_without_id_is_found_by_study_and_names_no_patient(ledger):
    store(ledger, [result_object("x", SR, PatientID="")])
    assert found(ledger, Level.PATIENT) == [] and len(found(ledger)) == 1


def test_held_study_is_not_shown(filled):
    filled.holds.place(uid("a"), Reason("two_patients", "one study, two Patient IDs"), 200.0)
    assert names(filled) == "bcd"
    for level in Level:
        assert found(filled, level, StudyInstanceUID=uid("a"), SOPInstanceUID=uid("a", SR)) == []
    assert filled.catalogue.retrieve({"StudyInstanceUID": uid("a")}, AIR, 100) == []
    filled.holds.lift(uid("a"), 201.0, "operator")
    assert names(filled) == "abcd"


def test_superseded_result_is_shown_only_by_its_uid(ledger):
    store(ledger, [result_object("a", SR)])
    new = result_object("a", SR, SOPInstanceUID=uid("a", "second"), InstanceNumber=2)
    second = store(ledger, [new])
    assert second.number == 2
    assert [d.SOPInstanceUID for d in found(ledger, Level.INSTANCE)] == [uid("a", "second")]
    assert found(ledger)[0].NumberOfStudyRelatedInstances == 1
    assert len(found(ledger, Level.INSTANCE, SOPInstanceUID=uid("a", SR))) == 1
    assert [r.sop_instance_uid for r in ledger.catalogue.retrieve({"StudyInstanceUID": uid("a")}, AIR, 9)] == [
        uid("a", "second")]
    assert len(ledger.catalogue.retrieve({"SOPInstanceUID": uid("a", SR)}, AIR, 9)) == 1


def test_second_reading_replaces_the_report_once_it_is_there_and_leaves_the_images(ledger):
    first = store(ledger, [result_object("a", SEG), result_object("a", SR)])
    said = SecondReading("anna", "Bergmann^Anna", 110.0, (Assessment("L1", Verdict.ACCEPTED),))
    ledger.revisions.second_reading(first, said, 110.0)
    shown = lambda: sorted(d.SOPInstanceUID for d in found(ledger, Level.INSTANCE))  # noqa: E731
    assert shown() == sorted([uid("a", SEG), uid("a", SR)])
    new = result_object("a", SR, SOPInstanceUID=uid("a", "second"), InstanceNumber=2)
    second = ledger.revisions.of_series(first.series_instance_uid)[-1]
    made = Result(second.id, "sr", "88.34/air", uid("a", "second"), SR, str(new.SeriesInstanceUID), "none", "h", 1)
    ledger.revisions.answered(second, [made], {}, 111.0, [entry_of(new)])
    assert shown() == sorted([uid("a", SEG), uid("a", "second")])
    said = SecondReading("anna", "Bergmann^Anna", 120.0, (Assessment("L1", Verdict.REJECTED),))
    ledger.revisions.second_reading(ledger.revisions.get(second.id), said, 120.0)
    assert shown() == sorted([uid("a", SEG), uid("a", "second")])  # what the reader said last, not the reading alone
    store(ledger, [result_object("a", SR, SOPInstanceUID=uid("a", "third"), InstanceNumber=3)])  # a late slice
    assert shown() == [uid("a", "third")]


@pytest.mark.parametrize("act", ["discard", "reopen"])
def test_discarded_or_replaced_result_is_never_shown_again(ledger, act):
    first = store(ledger, [result_object("a", SR)])
    if act == "discard":
        ledger.revisions.discard(first, 200.0)
    else:
        ledger.revisions.reopen(first, 200.0, withdrawn_as=Title.PATIENT_SAFETY)
    for level in Level:
        assert found(ledger, level) == [] and found(ledger, level, SOPInstanceUID=uid("a", SR)) == []
    assert ledger.catalogue.retrieve({"SOPInstanceUID": uid("a", SR)}, AIR, 9) == []
    assert ledger.catalogue.missing(None, 9) == []  # catching up does not bring it back


def test_each_reader_sees_one_report_in_its_own_dialect(ledger):
    older = result_object("a", SR, SOPInstanceUID=uid("older"), SeriesInstanceUID=uid("older series"))
    objects = [result_object("a", SEG), result_object("a", SR), older]
    store(ledger, objects, dialects={uid("older"): "88.22/air"})

    def reports(dialect):
        return [d.SOPInstanceUID for d in found(ledger, Level.INSTANCE, dialect, Modality="SR")]

    assert reports(AIR) == [uid("a", SR)] and reports("88.22/air") == [uid("older")]
    assert reports("88.33/air") == [uid("a", SR)]  # configured later: the first report of the revision
    assert found(ledger, SOPInstanceUID=uid("older")) == []
    assert found(ledger)[0].NumberOfStudyRelatedInstances == 2
    assert len(ledger.catalogue.retrieve({"StudyInstanceUID": uid("a")}, "88.22/air", 9)) == 2


def test_retrieve_gives_images_before_the_report_and_is_limited(filled):
    keys = {"StudyInstanceUID": uid("b")}
    assert [r.role for r in filled.catalogue.retrieve(keys, AIR, 3)] == ["seg_vertebrae", "summary", "sr"]
    with pytest.raises(TooManyMatches):
        filled.catalogue.retrieve(keys, AIR, 2)


def test_dialect_follows_the_destination_of_the_same_title():
    new = Destination(name="new", type="dicom", ae_title="NEW", host="h", port=104)
    old = Destination(name="old", type="dicom", ae_title="OLD", host="h", port=104, sr_class="88.22")
    assert [dialect_for((old, new), title) for title in ("NEW", "OLD", "OTHER", None)] == [
        "88.34/air", "88.22/air", "88.22/air", "88.22/air"]
    assert dialect_for(()) == "88.34/air"


def test_results_from_before_the_catalogue_are_caught_up_once(ledger):
    objects = [result_object("a", SEG), result_object("a", SR)]
    revision = store(ledger, objects)
    assert ledger.catalogue.missing(None, 9) == []
    with ledger.catalogue._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM catalogue")
    lacking = ledger.catalogue.missing(None, 1)
    assert [r.sop_instance_uid for r in lacking] == [uid("a", SEG)]
    assert [r.sop_instance_uid for r in ledger.catalogue.missing(lacking[0], 9)] == [uid("a", SR)]
    for _ in range(2):
        for dataset in objects:
            ledger.catalogue.add_missing(entry_of(dataset))
    assert ledger.catalogue.missing(None, 9) == [] and len(found(ledger, Level.INSTANCE)) == 2
    assert revision.id == lacking[0].revision_id


def test_catching_up_does_not_bring_back_what_was_discarded(ledger):
    objects = [result_object("a", SR)]
    revision = store(ledger, objects)
    ledger.instances.discard_study(revision.study_instance_uid)
    ledger.revisions.discard(revision, 200.0)
    with ledger.catalogue._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM catalogue")
    ledger.catalogue.add_missing(entry_of(objects[0]))
    assert ledger.catalogue.missing(None, 9) == [] and found(ledger, SOPInstanceUID=uid("a", SR)) == []


def test_results_and_their_entries_are_stored_together_or_not_at_all(ledger, monkeypatch):
    stranger = entry_of(result_object("stranger", SR))
    monkeypatch.setattr(catalogue_rows, "entry_of", lambda dataset: stranger)
    with pytest.raises(NoResultFound):
        store(ledger, [result_object("a", SR)])
    revision = ledger.revisions.of_series(uid(uid("a"), "ct"))[0]
    assert not revision.answered and ledger.deliveries.results_of(revision.id) == []


@pytest.mark.parametrize("value", [b"fat", b"NaN", b"1e999"])
def test_value_that_is_none_of_its_vr_is_entered_without_it(ledger, value):
    dataset = result_object("a", SR)
    dataset[0x00101030] = RawDataElement(BaseTag(0x00101030), "DS", len(value), value, 0, False, True)
    store(ledger, [dataset])
    match = next(ledger.catalogue.find(Query(Level.INSTANCE, {"PatientID": "ID-a"}, AIR)))
    assert match.attributes["00101030"] == {"vr": "DS"}


@pytest.mark.parametrize("elements", [
    {"PatientID": "x" * 3000}, {"PatientID": None, "PatientName": None, "StudyDate": None, "Modality": None},
    {"StudyDate": "", "StudyTime": "", "SeriesNumber": None, "AccessionNumber": ""},
    {"PatientName": "a=b=c=d", "StudyDescription": "nul\x00nul"},
])
def test_odd_headers_are_entered_all_the_same(ledger, elements):
    store(ledger, [result_object("a", SR, **elements)])
    assert len(found(ledger, Level.INSTANCE, StudyInstanceUID=uid("a"))) == 1
