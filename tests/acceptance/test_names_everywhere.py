"""A patient's name, in the character sets of the world, is the same in CT, report, C-FIND, DICOMweb and page."""

import html
import subprocess

import httpx
import pydicom
import pytest

from dicom_peers import program
from node_harness import Node, free_port, storescu, wait_for
from result_cases import make_case

pytestmark = [pytest.mark.peer, pytest.mark.slow]

# Name in each character set, and what Timezone Offset From UTC the scanner states.
PATIENTS = {
    "latin": ("ISO_IR 100", "Buc^Jérôme", "+0100"),
    "cyrillic": ("ISO_IR 144", "Люкceмбypг", "+0545"),
    "utf8": ("ISO_IR 192", "Wang^XiaoDong=王^小东", "-0330"),
    "gb18030": ("GB18030", "Wang^X=王^俓", "+0800"),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "+0900"),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "+0900"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A node that has answered one short series of each patient: too little spine, so the answer is a report."""
    folder = tmp_path_factory.mktemp("names")
    query, web = free_port(), free_port()
    node = Node(
        folder / "node", f'[[destinations]]\nname = "archive"\ntype = "folder"\npath = "{folder / "archive"}"\n',
        extra=f'[query]\nenabled = true\nport = {query}\npeers = [{{ ae_title = "FINDSCU" }}]\n'
              f'[web]\nenabled = true\nport = {web}\nopen = true\n',
    )
    for name, (character_set, patient, offset) in PATIENTS.items():
        make_case(
            folder / "ct" / name, spacing=4.0, study=name, series=f"{name} series", SpecificCharacterSet=character_set,
            PatientName=patient, PatientID=name, AccessionNumber=name, TimezoneOffsetFromUTC=offset,
        )
    with node.running():
        storescu(node.port, folder / "ct")
        wait_for(lambda: len(reports(folder / "archive")) == len(PATIENTS), 300, f"six reports; see {node.log}")
        wait_for(lambda: _listens(web), 60, "the web server listens")
        yield {"archive": folder / "archive", "query": query, "web": f"http://localhost:{web}", "folder": folder}
    log = node.log.read_text()
    assert not [name for _, name, _ in PATIENTS.values() if name in log or name.split("=")[-1] in log]


def reports(folder) -> dict[str, pydicom.Dataset]:
    found = [pydicom.dcmread(path) for path in folder.glob("*.dcm")] if folder.is_dir() else []
    return {d.PatientID: d for d in found if d.Modality == "SR"}


def _listens(port: int) -> bool:
    try:
        return httpx.get(f"http://localhost:{port}/", timeout=5).status_code < 500
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("patient", PATIENTS)
def test_the_report_keeps_name_character_set_and_time_zone(site, patient):
    character_set, name, offset = PATIENTS[patient]
    report = reports(site["archive"])[patient]
    assert (str(report.PatientName), report.SpecificCharacterSet) == (name, character_set)
    assert report.TimezoneOffsetFromUTC == offset


@pytest.mark.parametrize("patient", PATIENTS)
@pytest.mark.parametrize("stated", ["", "ISO_IR 192"])
def test_c_find_returns_the_name(site, tmp_path, patient, stated):
    keys = [f"AccessionNumber={patient}", "StudyInstanceUID", "PatientName", "TimezoneOffsetFromUTC"]
    if stated:
        keys.append(f"SpecificCharacterSet={stated}")
    options = [part for key in ("QueryRetrieveLevel=STUDY", *keys) for part in ("-k", key)]
    done = subprocess.run(
        [program("findscu"), "-aec", "OVCF_NODE", "-S", "-X", "-od", str(tmp_path), *options, "127.0.0.1",
         str(site["query"])], capture_output=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer, = [pydicom.dcmread(path, force=True) for path in tmp_path.glob("rsp*.dcm")]
    assert str(answer.PatientName) == PATIENTS[patient][1]
    assert answer.TimezoneOffsetFromUTC == PATIENTS[patient][2]


@pytest.mark.parametrize("patient", PATIENTS)
def test_qido_finds_by_the_name_and_returns_it(site, patient):
    name = PATIENTS[patient][1]
    groups = name.split("=")
    answer = httpx.get(
        f"{site['web']}/dicom-web/studies", params={"PatientName": groups[-1], "includefield": "00080201"}, timeout=30,
    ).raise_for_status().json()
    study, = answer
    assert study["00100020"]["Value"] == [patient]
    assert list(study["00100010"]["Value"][0].values()) == groups
    assert study["00080201"]["Value"] == [PATIENTS[patient][2]]


def test_the_pages_show_every_name(site):
    text = html.unescape(httpx.get(f"{site['web']}/", timeout=30, follow_redirects=True).raise_for_status().text)
    shown = [name.split("=")[-1].replace("^", " ").split()[0] for _, name, _ in PATIENTS.values()]
    assert not [family for family in shown if family not in text]
