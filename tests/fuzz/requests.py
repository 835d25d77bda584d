"""Target: encoded identifiers of C-FIND and requests of DICOMweb, changed.

Identifiers that are well formed but absurd are hypothesis' task in tests/unit/query/test_fuzz.py.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from pynetdicom import Association
from starlette.applications import Starlette

from catalogue_rows import SR
from dicom_peers import encoded, uid
from fuzz.mutating import Mutator
from fuzz.tallies import Tally, fast_folder, memory_mb, place
from ovcf_node.config import Settings, Web
from ovcf_node.errors import OvcfError, Refused
from ovcf_node.network import contexts, query_retrieve
from ovcf_node.query.dicomweb import dicomweb
from query_peers import answering, ask, association, identifier
from web_server import serving

_HEADERS = (
    "application/dicom+json", 'multipart/related; type="application/dicom"', "image/png", "*/*", "",
    "multipart/related" + "; x=1" * 200, 'multipart/related; type="application/dicom"; transfer-syntax=*',
)


def run(seed: int, going: Callable[[int], bool]) -> Tally:
    """Ask while `going(tried)`, an identifier and a DICOMweb request in turn."""
    tally = Tally("requests")
    with TemporaryDirectory(dir=fast_folder()) as folder, services(Path(folder)) as (query, web):
        identifiers, paths, begin = Mutator(seed, _identifiers()), Mutator(seed, _paths()), memory_mb()
        while going(tally.tried):
            with association(query, contexts.STUDY_ROOT_FIND) as opened:
                while going(tally.tried) and opened.is_established:
                    find(tally, opened, identifiers.one())
                    get(tally, web, paths.one(), paths.random.choice(_HEADERS))
        tally.notes |= {"MB grown": memory_mb() - begin}
    return tally


@contextmanager
def services(folder: Path) -> Iterator[tuple[int, int]]:
    """Run both services; yields their ports."""
    with answering(folder, patients={"visible": {}}) as asked:
        application = Starlette(routes=[dicomweb(Settings(web=Web(open=True)), asked.ledger, asked.results.root)])
        with serving(application) as port:
            yield asked.port, port


@contextmanager
def defects_told(tally: Tally, what: str, data: bytes) -> Iterator[None]:
    """Make a finding of every defect that the Q/R services hide behind a refusal meanwhile."""
    defects: list[Exception] = []

    def refusal(error: Exception) -> Refused:
        if not isinstance(error, OvcfError):
            defects.append(error)
        return made(error)

    made = query_retrieve._refusal
    with patch.object(query_retrieve, "_refusal", refusal):
        yield
    for defect in defects:
        tally.found(f"{what}: {place(defect)}", data)


def find(tally: Tally, opened: Association, data: bytes) -> None:
    """Ask with an encoded identifier; every one must be answered over the same association, and none by a defect."""
    if not data:
        return  # a message without the identifier that it announces never ends
    tally.tried += 1
    with defects_told(tally, "C-FIND", data):
        try:
            _, status = ask(opened, data)
            tally.outcomes[f"C-FIND 0x{status:04X}"] += 1
        except AssertionError as error:
            tally.found(f"C-FIND: {error}", data)
            opened.abort()


def get(tally: Tally, port: int, path: bytes, accept: str) -> None:
    """Get a path; whatever it is, it is no error of the server's."""
    tally.tried += 1
    line = b"GET /" + path.lstrip(b"/").replace(b"\n", b"") + b" HTTP/1.1\r\n"
    line += b"Host: 127.0.0.1\r\nConnection: close\r\nAccept: "
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(line + accept.encode() + b"\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status = answer[9:12].decode("ascii", "replace")
    tally.outcomes[f"DICOMweb {status or 'hung up'}"] += 1
    if not status or (status[0] == "5" and status != "501"):
        tally.found(f"DICOMweb: {status or 'no answer'}", accept.encode() + b"\n" + path)


def _identifiers() -> list[bytes]:
    return [
        encoded(identifier("STUDY", StudyInstanceUID="", PatientName="*", StudyDate="20200101-", ModalitiesInStudy="SR")),
        encoded(identifier("SERIES", StudyInstanceUID=uid("visible"), SeriesInstanceUID="", Modality="")),
        encoded(identifier("IMAGE", StudyInstanceUID=uid("visible"), SOPInstanceUID="", ConceptNameCodeSequence=[])),
        encoded(identifier("PATIENT", PatientID="ID-visible", PatientBirthDate="")),
    ]


def _paths() -> list[bytes]:
    study, series, one = uid("visible"), uid("visible", "series", SR), uid("visible", SR)
    below = f"/dicom-web/studies/{study}"
    return [text.encode() for text in (
        "/dicom-web/studies", "/dicom-web/studies?PatientName=*&includefield=all&limit=5&offset=1&fuzzymatching=true",
        "/dicom-web/series?Modality=SR", "/dicom-web/instances?00080016=1.2&StudyDate=20200101-20260101", below,
        f"{below}/metadata", f"{below}/series", f"{below}/series/{series}/instances/{one}",
        f"{below}/series/{series}/instances/{one}/frames/1,2", f"{below}/series/{series}/instances/{one}/rendered?quality=5",
        f"{below}/thumbnail?viewport=10,10", "/dicom-web/studies/../../../etc/passwd", "/dicom-web/studies/%2e%2e%2f%00",
    )]
