"""findings.json: its schema ships, holds, and refuses what is not a reading."""

import json
from importlib.resources import files

import jsonschema
import pytest

from ovcf_node.domain.findings import (
    BundleIdentity,
    Evidence,
    Findings,
    Genant,
    HeightLines,
    Heights,
    PatientFinding,
    VertebraFinding,
)
from ovcf_node.domain.reasons import reason

SCHEMA = json.loads(files("ovcf_node.domain").joinpath("findings.schema.json").read_text())


def example() -> Findings:
    fractured = VertebraFinding(
        level="L1", complete=True, fracture=True, probability=0.93,
        evidence=Evidence(superior=0.97, inferior=0.05, anterior=0.41, posterior=0.02), denis="B", ao="A1", of="OF2",
        age="recent_features", old_deformity=False, heights_mm=Heights(19.0, 20.5, 26.1),
        expected_mm=Heights(25.0, 24.5, 26.3), expected_from="T12, L2, L3", height_loss=0.24,
        genant=Genant(1, near_boundary=True), mean_hu=96.0, volume_cm3=41.2, centroid_mm=(1.0, -20.0, 310.5),
        height_lines_mm=HeightLines(anterior=((0.0, -33.0, 320.0), (0.0, -33.0, 301.0))),
    )
    undetermined = VertebraFinding(level="S1", complete=None, abstain=reason("incomplete_coverage"))
    return Findings(
        status="limited", reasons=(reason("thick_slices", "2.00 mm"),), patient=PatientFinding(True, 0.93),
        vertebrae=(fractured, undetermined), numbering_uncertain=False, numbering_basis="counted up from the sacrum",
        bundle=BundleIdentity("ovcf-reference", "0.1.0", "ab" * 32, "research"), software="ovcf-node 0.1.0",
        series_instance_uid="1.2.3", timings_s={"assemble": 0.5},
    )


def document(findings: Findings) -> dict:
    return json.loads(json.dumps(findings.to_json()))


def test_example_obeys_the_schema():
    jsonschema.validate(document(example()), SCHEMA)


def test_not_assessed_obeys_the_schema():
    jsonschema.validate(document(Findings("not_assessed", (reason("missing_slices"),))), SCHEMA)


def test_round_trip():
    assert Findings.from_json(document(example())) == example()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("status",), "fine"), (("patient", "ovcf"), 0), (("vertebrae", 0, "denis"), "E"),
        (("vertebrae", 0, "level"), "C7"), (("vertebrae", 0, "probability"), 1.2), (("vertebrae", 0, "age"), "fresh"),
        (("vertebrae", 0, "heights_mm", "anterior"), "19 mm"), (("surprise",), 1),
    ],
)
def test_schema_refuses(path, value):
    broken = document(example())
    inner = broken
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_schema_names_every_field():
    properties = SCHEMA["properties"]
    assert set(properties) == set(example().to_json())
    assert set(SCHEMA["$defs"]["vertebra"]["properties"]) == set(example().to_json()["vertebrae"][0])
