"""Names in the character sets of the world, from CT to every result, as DCMTK decodes them; and nowhere else."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_peers import program
from node_harness import BUNDLE
from ovcf_node.domain.identity import Dialect
from ovcf_node.report import encode, to_bytes
from result_cases import make_case, make_context, make_findings, not_assessed

pytestmark = pytest.mark.peer

PICTURE = np.zeros((20, 30, 3), np.uint8)
# The examples of PS3.5 annexes H to K; then characters whose second byte is a backslash, which must not split a value.
NAMES = {
    "Latin 1": ("ISO_IR 100", "Buc^Jérôme"),
    "Cyrillic": ("ISO_IR 144", "Люкceмбypг"),
    "UTF-8": ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    "GB18030": ("GB18030", "Wang^XiaoDong=王^小东"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "GB18030, second byte 5C": ("GB18030", "Wang^X=王^俓"),
}
# DCMTK on glibc cannot decode these: the bytes of PS3.5 H.3.1 and H.3.2 instead.
BYTES = {
    "Japanese": (["", "ISO 2022 IR 87"],
                 b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"),
    "Japanese, half-width": (["ISO 2022 IR 13", "ISO 2022 IR 87"],
                             b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J="
                             b"\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J"),
}


def dumped(path: Path) -> tuple[str, str, str]:
    """Return (name, study description, offset) as dcmdump shows them in UTF-8."""
    done = subprocess.run(
        [program("dcmdump"), "+U8", "-q", *("+P", "0010,0010", "+P", "0008,1030", "+P", "0008,0201"), str(path)],
        capture_output=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^\((\w{4},\w{4})\) \w\w \[(.*?)\]", done.stdout.decode(), re.MULTILINE))
    return found["0010,0010"], found["0008,1030"], found["0008,0201"]


def results(folder: Path, **overrides) -> Iterator[Path]:
    """Yield the file of every object that a reading of such a series gives, and of the report that it was not assessed."""
    case = make_case(folder / "ct", spacing=4.0, **overrides)
    read = make_findings(vertebrae=case.findings.vertebrae[:2])
    objects = encode(make_context(), case.headers, read, case.masks, PICTURE, Dialect(), case.volume.sources)
    objects += encode(make_context(), case.headers, not_assessed(), None, None, Dialect("88.22"), ())
    assert [o.role for o in objects] == ["seg_vertebrae", "seg_fractures", "summary", "sr", "sr"]
    for number, item in enumerate(objects):
        path = folder / f"{number}-{item.role}.dcm"
        path.write_bytes(to_bytes(item.dataset))
        yield path


@pytest.mark.parametrize("name", NAMES)
def test_every_result_spells_the_name_as_the_ct_does(tmp_path: Path, name: str):
    character_set, patient = NAMES[name]
    description = patient.split("=")[-1].replace("^", " ")
    for path in results(tmp_path, SpecificCharacterSet=character_set, PatientName=patient, StudyDescription=description,
                        TimezoneOffsetFromUTC="+0545"):
        assert dumped(path) == (patient, description, "+0545"), path.name


@pytest.mark.parametrize("name", BYTES)
def test_escape_sequences_arrive_byte_for_byte(tmp_path: Path, name: str):
    character_set, patient = BYTES[name]
    for path in results(tmp_path, SpecificCharacterSet=character_set, PatientName=patient):
        assert patient in path.read_bytes(), path.name
        assert str(pydicom.dcmread(path).PatientName).split("=")[1:] == ["山田^太郎", "やまだ^たろう"]


def test_no_name_outside_the_objects(tmp_path: Path):
    """A series with a gap is answered "not assessed": the report has the name, findings, messages and file names do not."""
    patient, family = "Secretov^Wang=秘密^小东", "秘密"
    ct, out = tmp_path / "ct", tmp_path / "out"
    make_case(ct, spacing=4.0, SpecificCharacterSet="GB18030", PatientName=patient, PatientID="SECRET-ID", omit=(20, 21))
    (tmp_path / "node.toml").write_text(f'[node]\nbundle = "{BUNDLE}"\n')
    done = subprocess.run(
        [sys.executable, "-m", "ovcf_node", "analyze", str(ct), "--out", str(out), "--config", str(tmp_path / "node.toml")],
        capture_output=True, timeout=120,
    )
    assert done.returncode == 3, done.stderr
    assert str(pydicom.dcmread(out / "sr.dcm").PatientName) == patient
    told = [done.stdout, done.stderr, (out / "findings.json").read_bytes(), *(p.name.encode() for p in out.iterdir())]
    secrets = [b"Secretov", b"SECRET", family.encode(), family.encode("gb18030"), family.encode("unicode_escape")]
    assert not [secret for secret in secrets if any(secret in text for text in told)]
