"""A study that was never routed: it lies in Orthanc, is fetched, read, and its results are back in Orthanc."""

import json
from pathlib import Path

import pytest

from node_harness import Node, dicom_destination, free_port, get, orthanc, storescu
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from

pytestmark = [pytest.mark.peer, pytest.mark.slow]

STUDY, SERIES = uid_from("phantom", "demo", "study"), uid_from("phantom", "demo", "series")
IDENTITY = ("Phantom^Demo", "PHANTOM-1", "DEMO0001", "19450508")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A node whose archive and destination is an Orthanc that holds the phantom study."""
    folder: Path = tmp_path_factory.mktemp("fetch")
    files = phantom.write_series(phantom.load(), folder / "series")
    node_port = free_port()
    with orthanc(folder / "orthanc", known={"OVCF_NODE": node_port}) as (port, url):
        storescu(port, folder / "series", called="ORTHANC")
        archive = f'name = "pacs"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {port}\n'
        node = Node(
            folder / "node", dicom_destination("pacs", "ORTHANC", port), port=node_port, sources=["ORTHANC"],
            extra=f'[[archives]]\n{archive}[[archives]]\n{archive.replace("pacs", "pacs-get")}retrieve = "get"\n',
        )
        with node.running():
            done = node.command("fetch", "--accession", "DEMO0001", "--from", "pacs", "--wait", limit_s=300)
            yield {"node": node, "url": url, "done": done, "count": len(files)}


def modalities(url: str) -> list[str]:
    series = [json.loads(get(f"{url}/series/{name}")) for name in json.loads(get(f"{url}/series"))]
    studies = {json.loads(get(f"{url}/studies/{one['ParentStudy']}"))["MainDicomTags"]["StudyInstanceUID"] for one in series}
    assert studies == {STUDY}
    return sorted(one["MainDicomTags"]["Modality"] for one in series)


def test_fetched_read_and_delivered(world):
    done, count = world["done"], world["count"]
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} of {count} instances are here, {count} new" in done.stdout
    assert "ENCODED" in done.stdout and "pacs: seg_vertebrae accepted, seg_fractures accepted" in done.stdout
    planted = [vertebra for vertebra in phantom.load().planted if vertebra.fracture]
    for vertebra in planted:
        assert f"{vertebra.level:4} fracture" in done.stdout
    assert modalities(world["url"]) == ["CT", "OT", "SEG", "SEG", "SR"]


def test_no_identity_where_it_does_not_belong(world):
    printed = world["done"].stdout + world["done"].stderr
    log = world["node"].log.read_text()
    assert not [text for text in IDENTITY if text in printed or text in log]


@pytest.mark.parametrize("archive", ["pacs", "pacs-get"])
def test_fetched_again_is_answered_at_once_and_leaves_our_results_out(world, archive):
    done = world["node"].command("fetch", "--study", STUDY, "--from", archive, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 new" in done.stdout and "ENCODED" in done.stdout
    assert [f"modality {one}" in done.stdout for one in ("SEG", "SR", "OT")] == [True] * 3
    assert [revision.number for revision in world["node"].ledger.revisions.of_series(SERIES)] == [1]
