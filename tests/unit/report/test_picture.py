"""The summary picture: what is known is drawn, what is not known is not, and nothing identifies the patient."""

from dataclasses import replace

import numpy as np
import pytest

from ovcf_node.domain.findings import Findings, PatientFinding
from ovcf_node.domain.levels import REPORTED
from ovcf_node.domain.volume import Volume
from ovcf_node.report import codes, render_summary, wording
from ovcf_node.report.picture import HEIGHT, WIDTH, _headline_size
from ovcf_node.report.picture_reformat import views
from ovcf_node.report.picture_style import DIM, RULE, wrap
from result_cases import Case, body_centre, make_findings, make_vertebra, partly_graded, withheld


def count(rgb: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((rgb == colour).all(axis=-1).sum())


def picture(case: Case, findings: Findings | None = None) -> np.ndarray:
    return render_summary(case.volume, findings or case.findings, case.masks)


def test_shape(case: Case):
    rgb = picture(case)
    assert (rgb.shape, rgb.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)


def test_same_reading_same_picture(case: Case):
    np.testing.assert_array_equal(picture(case), picture(case))


def test_every_vertebra_is_outlined_in_its_colour(case: Case):
    rgb = picture(case)[100:880, 10:700]
    assert all(count(rgb, codes.LEVEL_RGB[level]) > 200 for level in REPORTED)


def test_fracture_region_is_drawn_only_for_a_found_fracture(case: Case):
    assert count(picture(case), codes.FRACTURE_RGB) > 100
    assert count(picture(case, withheld()), codes.FRACTURE_RGB) == 0


def test_the_bar_tells_the_result(case: Case):
    clear = tuple(make_vertebra(level, fracture=False, denis=None) for level in REPORTED)
    negative = make_findings(patient=PatientFinding(False, 0.1), vertebrae=clear)
    readings = (case.findings, negative, withheld(), partly_graded())
    bars = [tuple(int(c) for c in picture(case, f)[2, 2]) for f in readings]
    assert bars[2] == bars[3] and len(set(bars)) == 3
    assert np.argmax(bars[0]) == 0 and np.argmax(bars[1]) == 1


def test_the_table_has_a_row_for_every_level_found_or_not(case: Case):
    """The rules between rows stand at the same places; the row of a missing level is dim."""
    x = 4 * 10 + 438 + 242 + 300
    complete, some = picture(case)[:, x], picture(case, make_findings(vertebrae=(make_vertebra("L1"),)))[:, x]
    rows = [set(np.flatnonzero((column[100:420] == RULE).all(axis=-1)) + 100) for column in (complete, some)]
    assert len(rows[0]) == len(REPORTED) + 1 and rows[0] == rows[1]
    table = picture(case, make_findings(vertebrae=(make_vertebra("L1"),)))[100:420, 720:]
    assert count(table, DIM) > 200
    assert count(picture(case)[100:420, 720:], DIM) == 0


@pytest.mark.parametrize("findings", [make_findings(vertebrae=()), make_findings(vertebrae=(make_vertebra("L1"),))])
def test_few_or_no_vertebrae(case: Case, findings: Findings):
    assert render_summary(case.volume, findings, None).shape == (HEIGHT, WIDTH, 3)


def test_long_limits_do_not_run_out_of_the_picture(case: Case):
    wordy = replace(case.findings, numbering_uncertain=True, numbering_basis="word " * 400)
    rgb = picture(case, wordy)
    assert (rgb[-55:-50, 720:] == rgb[-52, 725]).all()


def test_views_are_where_the_patient_is():
    """A bright ball anterior, left and up of the middle shows there in both views."""
    hu = np.full((60, 60, 60), -1000, np.int16)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 2.0], [0, 2.0, 0], [2.0, 0, 0]])
    affine[:3, 3] = body_centre("L3") - 59.0
    hu[40:44, 14:18, 28:32] = 2000  # up, anterior, middle
    vertebra = make_vertebra("L3")
    volume = Volume(hu, affine, (), "axial", None)
    findings = make_findings(vertebrae=(vertebra,))
    sagittal, _ = views(volume, findings, None, height=700, sagittal_width=420, coronal_width=260)
    rows, columns = np.nonzero(sagittal.grey > 128)
    ball = affine[:3, :3] @ [41.5, 15.5, 29.5] + affine[:3, 3]
    expected_column, expected_row = sagittal.pixel(tuple(ball))
    assert abs(rows.mean() - expected_row) < 2 and abs(columns.mean() - expected_column) < 2
    assert expected_column < 210 and expected_row < 350


def test_a_whole_body_fits_into_the_coronal_view_of_a_short_field(case: Case):
    findings = make_findings(vertebrae=(make_vertebra("L3"),))
    _, coronal = views(case.volume, findings, case.masks, height=790, sagittal_width=438, coronal_width=242)
    body = coronal.levels["L3"]
    assert not body[:, [0, -1]].any() and body.shape[1] / coronal.scale > 60


@pytest.mark.parametrize("level", ["T12", "S1"])
def test_the_views_show_no_emptiness_while_there_is_image(case: Case, level: str):
    """A single body at the end of a field as high as the view: the view moves into the field."""
    findings = make_findings(vertebrae=(make_vertebra(level),))
    for view in views(case.volume, findings, case.masks, height=790, sagittal_width=438, coronal_width=242):
        middle = view.grey[:, view.grey.shape[1] // 2]
        assert (middle > 0).mean() > 0.95


def test_a_headline_stays_on_one_line_where_it_can():
    words = wording.headline(make_findings(vertebrae=tuple(make_vertebra(level) for level in REPORTED)))
    assert len(wrap(words, _headline_size(words, WIDTH - 30), WIDTH - 30)) == 1
    for many in (30, 60, 90):
        long = "word " * many
        size = _headline_size(long, WIDTH - 30)
        assert len(wrap(long, size, WIDTH - 30)) * size * 1.3 <= 88


def test_wrap_keeps_every_word():
    text = "one two three four five six seven eight nine ten"
    assert " ".join(wrap(text, 16, 90)) == text
    assert len(wrap(text, 16, 90)) > 2
