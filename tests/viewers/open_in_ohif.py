"""Open what the node sends to a PACS in OHIF, check it, and keep the pictures (`make viewers`).

A phantom study goes through a node into two Orthancs with DICOMweb: one gets the report in the profile `ohif-text`, the
other in `air`. SEG names and colours, the report's text and the picture are read back from the viewer. Exit status 1
when something that OHIF can show is shown wrongly; what it cannot show is printed.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browser import ROUNDING, Viewer, viewer
from ohif import serving

from node_harness import Node, dicom_destination, free_port, orthanc, storescu
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.report import codes

STUDY, SERIES = uid_from("phantom", "demo", "study"), uid_from("phantom", "demo", "series")
IMAGES = phantom.load().hu.shape[0]


@contextmanager
def pacs_with_results(folder: Path) -> Iterator[dict[str, str]]:
    """Run the main job; yields the DICOMweb URL of each PACS by the profile of its report."""
    phantom.write_series(phantom.load(), folder / "series")
    with orthanc(folder / "a", "TEXT", dicomweb=True) as text, orthanc(folder / "b", "AIR", dicomweb=True) as air:
        for (port, _), title in ((text, "TEXT"), (air, "AIR")):
            storescu(port, folder / "series", called=title)
        node = Node(folder / "node", dicom_destination("text", "TEXT", text[0], sr_profile="ohif-text")
                    + dicom_destination("air", "AIR", air[0]))
        with node.running():
            storescu(node.port, folder / "series")
            assert node.settled(SERIES).state == "ENCODED"
        yield {"ohif-text": f"{text[1]}/dicom-web", "air": f"{air[1]}/dicom-web"}


def check_segmentations(ohif: Viewer, out: Path) -> list[str]:
    fractured = {f"{planted.level} fracture": codes.FRACTURE_RGB for planted in phantom.load().planted if planted.fracture}
    problems = []
    for name, description, expected in (
        ("seg-vertebrae", "Vertebrae T12-S1 (SEG)", codes.LEVEL_RGB), ("seg-fractures", "Fracture regions (SEG)", fractured),
    ):
        ohif.open_study(STUDY, series=5, images=IMAGES)
        ohif.open_object(description)
        shown = ohif.load_segmentation()
        problems += [f"{name}: {segment} is not drawn in its colour" for segment in ohif.not_drawn(expected)]
        ohif.picture(out / f"{name}.png")
        if list(shown) != list(expected):
            problems.append(f"{name}: segments {list(shown)} instead of {list(expected)}")
        problems += [f"{name}: {segment} is shown in {shown[segment]} instead of {rgb}" for segment, rgb in expected.items()
                     if segment in shown and max(abs(a - b) for a, b in zip(shown[segment], rgb, strict=True)) > ROUNDING]
        print(f"{name}: {', '.join(shown)}")
    return problems


def check_picture_and_report(ohif: Viewer, out: Path) -> list[str]:
    ohif.open_study(STUDY, series=5, images=IMAGES)
    ohif.open_object("Summary")
    ohif.picture(out / "picture.png")
    problems = ["picture: not shown"] if ohif.blank() else []
    ohif.open_object("fracture report")
    text = ohif.report("Vertebral fracture analysis report") or ""
    ohif.picture(out / "report.png")
    print(f"report: {len(text.splitlines())} lines of text")
    wanted = ["Impression", "Suspected vertebral fracture: L1", "Largest vertebral body height loss", "Not for diagnosis"]
    missing = [words for words in wanted if words not in text]
    if not missing:
        ohif.scroll_to("Qualitative Evaluations")
        ohif.picture(out / "report-impression.png")
    return problems + [f"report: {words!r} is not shown" for words in missing]


def describe_air_report(ohif: Viewer, out: Path) -> None:
    ohif.open_study(STUDY, series=5, images=IMAGES)
    ohif.open_object("fracture report")
    ohif.picture(out / "report-air.png")
    print(f"report in the profile air: {'not shown' if ohif.blank() else 'shown: mend deploy/viewers/README.md'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ohif", type=Path, required=True, help="folder of the unpacked npm package @ohif/app")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    version = json.loads((arguments.ohif / "package.json").read_text())["version"]
    dist = arguments.ohif / "dist"
    with tempfile.TemporaryDirectory() as folder, pacs_with_results(Path(folder)) as dicomweb:
        with serving(dist, dicomweb["ohif-text"], free_port()) as url, viewer(url) as ohif:
            print(f"OHIF {version} in {ohif.browser}")
            problems = check_segmentations(ohif, arguments.out) + check_picture_and_report(ohif, arguments.out)
        with serving(dist, dicomweb["air"], free_port()) as url, viewer(url) as ohif:
            describe_air_report(ohif, arguments.out)
    for problem in problems:
        print(f"PROBLEM  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
