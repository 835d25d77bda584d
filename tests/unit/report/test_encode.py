"""Which objects a reading gives, and that encoding it again gives the same bytes."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ovcf_node.domain.identity import ROLES, Dialect
from ovcf_node.errors import Permanent
from ovcf_node.report import EncodedObject, encode, to_bytes
from result_cases import Case, make_case, make_context, make_findings, not_assessed, withheld

PICTURE = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)


@pytest.fixture(scope="module")
def case(case: Case) -> Case:
    """Return the shared reading with two vertebrae only: the report is most of the time."""
    return replace(case, findings=make_findings(vertebrae=case.findings.vertebrae[:2]))


def objects(case: Case, **changes) -> list[EncodedObject]:
    arguments = {
        "context": make_context(), "headers": case.headers, "findings": case.findings, "masks": case.masks,
        "summary_rgb": PICTURE, "dialect": Dialect(), "sources": case.volume.sources,
    } | changes
    return encode(**arguments)


def roles(encoded: list[EncodedObject]) -> list[str]:
    return [o.role for o in encoded]


def digests(encoded: list[EncodedObject]) -> dict[str, str]:
    return {o.role: hashlib.sha256(to_bytes(o.dataset)).hexdigest() for o in encoded}


def test_all_objects_in_sending_order(case: Case):
    encoded = objects(case)
    assert roles(encoded) == list(ROLES)
    assert [o.dataset.SeriesNumber for o in encoded] == [9001, 9002, 9003, 9004]
    assert all(o.sop_instance_uid == make_context().identity.sop_instance_uid(o.role, Dialect()) for o in encoded)


def test_encoded_twice_is_the_same_bytes(case: Case):
    assert digests(objects(case)) == digests(objects(case))


def test_only_the_report_differs_between_dialects(case: Case):
    air, text = digests(objects(case)), digests(objects(case, dialect=Dialect("88.33", "ohif-text")))
    assert {role for role in ROLES if air[role] != text[role]} == {"sr"}


def test_the_report_does_not_depend_on_the_roles_asked_for(case: Case):
    alone = objects(case, roles=("sr",), summary_rgb=None)
    assert roles(alone) == ["sr"]
    assert digests(alone)["sr"] == digests(objects(case))["sr"]


def test_the_picture_names_what_it_was_made_from(case: Case):
    [summary] = objects(case, roles=("summary",))
    items = summary.dataset.SourceImageSequence
    assert [i.ReferencedSOPInstanceUID for i in items] == [h.SOPInstanceUID for h in case.headers]
    assert {i.ReferencedSOPClassUID for i in items} == {case.headers[0].SOPClassUID}
    assert {i.PurposeOfReferenceCodeSequence[0].CodeValue for i in items} == {"121322"}


def test_the_picture_says_which_series_it_shows(case: Case):
    first = Dataset()
    first.update(case.headers[0])
    first.SeriesNumber, first.SeriesDescription = 4, "Spine 1.0 Br59"
    [summary] = objects(case, headers=[first, *case.headers[1:]], roles=("summary",))
    assert "series 4 (Spine 1.0 Br59)" in summary.dataset.DerivationDescription


def test_everything_is_called_research(case: Case):
    assert {o.dataset.SeriesDescription.split()[0] for o in objects(case)} == {"RESEARCH"}


def test_no_fracture_no_fracture_segmentation(case: Case):
    assert roles(objects(case, findings=withheld())) == ["seg_vertebrae", "summary", "sr"]


def test_not_assessed_gives_only_the_report(case: Case):
    assert roles(objects(case, findings=not_assessed(), masks=None)) == ["sr"]
    assert roles(objects(case, findings=not_assessed(), masks=None, sources=())) == ["sr"]


def test_without_frame_of_reference_no_segmentation(tmp_path: Path):
    case = make_case(tmp_path, spacing=4.0, FrameOfReferenceUID=None)
    encoded = objects(case)
    assert roles(encoded) == ["summary", "sr"]
    assert "Referenced Segment" not in str(encoded[1].dataset)


def test_nothing_segmented(case: Case):
    assert roles(objects(case, masks=None)) == ["summary", "sr"]


def test_an_excluded_series_has_no_objects(case: Case):
    with pytest.raises(Permanent, match="encode"):
        objects(case, findings=make_findings(status="excluded"))


def test_a_slice_of_unknown_origin_is_refused(case: Case):
    with pytest.raises(Permanent, match="source_headers"):
        objects(case, headers=case.headers[1:])


def test_a_violation_stops_the_object(case: Case):
    context = make_context()
    context = replace(context, identity=replace(context.identity, installation=""))
    with pytest.raises(Permanent, match=r"lint: seg_vertebrae: DeviceSerialNumber is empty"):
        objects(case, context=context)


def test_a_time_without_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        make_context(analysis_started_at=make_context().analysis_started_at.replace(tzinfo=None))
