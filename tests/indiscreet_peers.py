"""Peers that quote a patient wherever DICOM and TLS leave room for text: an archive, a PACS that commits, strangers.

What they say is marked (`planted_identity`), so that it can be searched for afterwards.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context, build_role

from archive import archive, match
from catalogue_rows import item
from commitment_pacs import COMMITMENT, INSTANCE, CommitmentPacs
from dicom_peers import CT_IMAGE, program, uid
from ovcf_node.network.associate import Remote
from planted_identity import mark
from tls_files import Authority, authority

_FAILED = 0xC123


def said(status: int, whose: str) -> Dataset:
    """Return a status whose Error Comment names a patient."""
    return item(Status=status, ErrorComment=f"{mark(f'{whose} comment')} {mark('PatientName')} is not known")


@contextmanager
def talking_archive(instances: Sequence[Path], receiver: int) -> Iterator[Remote]:
    """Run an archive that has these instances of one series: sends the first, and fails by its own words at the others."""
    datasets = [dcmread(path) for path in instances]
    first = datasets[0]

    def find(_event: evt.Event) -> Iterator[tuple]:
        keys = {keyword: first.get(keyword) for keyword in ("StudyInstanceUID", "SeriesInstanceUID")}
        yield match("SERIES", **keys, Modality="CT", NumberOfSeriesRelatedInstances=len(datasets), SeriesNumber=1,
                    NumberOfStudyRelatedInstances=len(datasets), ModalitiesInStudy="CT", StudyDate="18710105",
                    PatientName=mark("archive's name"), PatientID=mark("archive's id"), AccessionNumber="")

    def send(_event: evt.Event) -> Iterator[object]:
        yield len(datasets)
        yield 0xFF00, datasets[0]
        yield said(_FAILED, "archive's"), None

    def move(event: evt.Event) -> Iterator[object]:
        yield "127.0.0.1", receiver, {"contexts": [build_context(CT_IMAGE)]}
        yield from send(event)

    with archive(find=find, move=move, get=send, storage=[CT_IMAGE]) as remote:
        yield remote


class TalkingCommitment(CommitmentPacs):
    """A PACS that takes everything and reports about it with the patient in every text, failures among them."""

    def report_of(self, asked: Dataset) -> Dataset:
        """Report one instance as failed; name the patient in data set and items."""
        report = super().report_of(asked)
        failed = report.ReferencedSOPSequence.pop()
        failed.FailureReason, failed.ErrorComment = 0x0110, mark("commitment failure")
        report.FailedSOPSequence = [failed]
        report.RetrieveAETitle = mark("commitment's title")
        for named in (report, *report.ReferencedSOPSequence, failed):
            named.PatientName, named.PatientID = mark("commitment's name"), mark("commitment's id")
        return report


def commitment_asked_and_reported(receiver: int, calling: str) -> list[int]:
    """Ask a node for commitment, and report to it, what it does not know and cannot read; returns its statuses."""
    known = item(ReferencedSOPClassUID=CT_IMAGE, ReferencedSOPInstanceUID=uid("nobody's"), PatientName=mark("asked name"))
    asked = item(TransactionUID=uid("asked"), ReferencedSOPSequence=[known], PatientID=mark("asked id"))
    unreadable = item(TransactionUID=uid("unreadable"), PatientComments=mark("asked comment"))
    reported = item(TransactionUID=uid("nobody asked"), ReferencedSOPSequence=[known], PatientID=mark("reported id"))
    opened = AE(calling).associate(
        "127.0.0.1", receiver, ae_title="OVCF_NODE", contexts=[build_context(COMMITMENT)],
        ext_neg=[build_role(COMMITMENT, scu_role=True, scp_role=True)],
    )
    try:
        answers = [opened.send_n_action(one, 1, COMMITMENT, INSTANCE)[0] for one in (asked, unreadable)]
        answers += [opened.send_n_event_report(one, 1, COMMITMENT, INSTANCE)[0] for one in (reported, unreadable)]
        return [answer.Status for answer in answers]
    finally:
        opened.release()


def retrieved(query: int, study: str, folder: Path, *, destinations: Sequence[str]) -> list[int]:
    """Ask for a study by C-MOVE to each destination and by C-GET, and for what is not there; returns exit statuses."""
    folder.mkdir()
    there = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
    absent = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={mark('moved UID')}"]
    odd = [*there, "-k", f"PatientName={mark('moved name')}", "-k", f"PatientID={mark('moved id')}"]
    calls = [["movescu", "-aem", one, *keys] for one in destinations for keys in (there, absent, odd)]
    calls += [["getscu", "-od", str(folder), *keys] for keys in (there, absent, odd)]
    return [subprocess.run(
        [program(name), "-S", "-aet", "FINDSCU", "-aec", "OVCF_NODE", *rest, "127.0.0.1", str(query)], capture_output=True,
        timeout=120,
    ).returncode for name, *rest in calls]


def shaken_hands(port: int, hospital: Authority, folder: Path, welcome: str) -> list[int]:
    """Verify over TLS as a welcome peer of this name, and as a stranger whose certificate names a patient.

    Returns echoscu's exit statuses.
    """
    certificates = [hospital.issue(welcome), authority(folder / "strangers").issue(mark("subject of a stranger"))]
    return [subprocess.run(
        [program("echoscu"), "+tls", key, certificate, "+cf", hospital.certificate, "-aet", "SCANNER", "-aec", "OVCF_NODE",
         "127.0.0.1", str(port)], capture_output=True, timeout=60,
    ).returncode for certificate, key in certificates]


@contextmanager
def sealed_pacs(hospital: Authority, port: int) -> Iterator[None]:
    """Listen with a certificate of the hospital's that names a patient instead of the host."""
    certificate, key = hospital.issue(mark("subject of a PACS"), loopback=False)
    server = subprocess.Popen(
        [program("openssl"), "s_server", "-quiet", "-accept", f"127.0.0.1:{port}", "-cert", certificate, "-key", key],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        server.terminate()
        server.wait(20)
