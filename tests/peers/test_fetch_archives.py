"""`ovcf-node fetch` against Orthanc and DCMTK's dcmqrscp, without a running node: what it finds, asks and says."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from archive import archive, match
from dicom_peers import CT_IMAGE, free_port, instance, program, receiving, uid, wait_until, write
from node_harness import orthanc
from ovcf_node.cli.fetch import Exit
from ovcf_node.config import Source, load
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.network.associate import Remote, StoreFile, store

pytestmark = pytest.mark.peer

ACCESSION = "ACC4711"
SC = "1.2.840.10008.5.1.4.1.1.7"


def store_study(folder: Path, port: int, called: str, syntax: str) -> None:
    """Give an archive a study, its CT series in this transfer syntax, with scout, dose sheet, SR; two of one accession."""
    common = {"AccessionNumber": ACCESSION, "SeriesNumber": 2, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}
    items = [instance(n, series="axial", SeriesDescription="TL spine 1.0 B", **common) for n in range(1, 9)]
    for item in items if syntax == RLELossless else ():
        item.compress(syntax, generate_instance_uid=False)
    items += [instance(n, series="scout", **(common | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})) for n in (1, 2)]
    items += [instance(1, series="dose", SOPClassUID=SC, **common)]
    items += [instance(1, series="report", Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22", PixelData=None,
                       **common)]
    other = {"StudyInstanceUID": uid("second study"), "AccessionNumber": "TWICE"}
    items += [instance(1, series="one of two", **(common | other))]
    items += [instance(1, series="two of two", **(common | other | {"StudyInstanceUID": uid("third study")}))]
    files = [StoreFile(write(folder, item), str(item.SOPClassUID), str(item.SOPInstanceUID)) for item in items]
    replies = []
    store(Remote("127.0.0.1", port, called, "SCANNER"), files, replies.append)
    assert {reply.status for reply in replies} == {0}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory) -> Iterator[tuple[int, int]]:
    """Orthanc with the study; yields its port and the one to which it sends for OVCF_NODE."""
    folder = tmp_path_factory.mktemp("pacs")
    program("Orthanc")
    node_port = free_port()
    with orthanc(folder / "orthanc", known={"OVCF_NODE": node_port}) as (port, _):
        store_study(folder / "study", port, "ORTHANC", RLELossless)
        yield port, node_port


def configured(folder: Path, port: int, *, node_port: int = 1, title: str = "ORTHANC", **archive: str) -> Path:
    lines = [f'{key} = "{value}"' for key, value in ({"retrieve": "get"} | archive).items()]
    path = folder / "node.toml"
    path.write_text("\n".join([
        "[node]", 'data = "data"', "[receive]", f"port = {node_port}", "min_free_mb = 1",
        f'sources = [{{ ae_title = "{title}" }}]', "[[archives]]", 'name = "pacs"', f'ae_title = "{title}"',
        'host = "127.0.0.1"', f"port = {port}", "timeout_s = 10", *lines, "",
    ]))
    migrate(load(path).ledger_url)  # as a node that has run before
    return path


def command(configuration: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "ovcf_node", "fetch", "--config", str(configuration), "--from", "pacs", *arguments]


def fetch(configuration: Path, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(command(configuration, *arguments), capture_output=True, text=True, timeout=60, input=text)


def stored(folder: Path) -> list[str]:
    """Return the transfer syntax of each instance of the axial series, its pixels compared with what was sent."""
    ledger = Ledger(f"sqlite:///{folder / 'data' / 'ledger.sqlite'}")
    try:
        paths = [one.path for one in ledger.instances.originals(uid("axial"))]
    finally:
        ledger.close()
    found = [dcmread(folder / "data" / "spool" / path) for path in paths]
    for one in found:
        assert one.pixel_array.tobytes() == instance(one.InstanceNumber).PixelData
    return [one.file_meta.TransferSyntaxUID for one in found]


def test_get_by_accession_number_from_standard_input(pacs, tmp_path):
    done = fetch(configured(tmp_path, pacs[0]), "--accession", "-", text=f"{ACCESSION}\n")
    assert done.returncode == Exit.DONE, done.stdout + done.stderr
    assert f"study {uid('study')}, 4 series" in done.stdout
    assert "CT 2 'TL spine 1.0 B'" in done.stdout and "8 of 8 instances are here, 8 new" in done.stdout
    for why in ("modality SR", "a scout (localizer) image", "secondary capture"):
        assert why in done.stdout
    assert "no worker is running" in done.stdout
    assert stored(tmp_path) == [RLELossless] * 8
    assert not [word for word in (ACCESSION, "Planted", "PLANTED") if word in done.stdout + done.stderr]


def test_one_series(pacs, tmp_path):
    configuration = configured(tmp_path, pacs[0])
    done = fetch(configuration, "--study", uid("study"), "--series", uid("axial"))
    assert done.returncode == Exit.DONE and done.stdout.count("not the series that was asked for") == 3
    assert fetch(configuration, "--study", uid("study"), "--series", uid("none")).returncode == Exit.NOTHING


def test_several_studies_of_one_accession_number(pacs, tmp_path):
    done = fetch(configured(tmp_path, pacs[0]), "--accession", "TWICE")
    assert done.returncode == Exit.SEVERAL and "choose one with --study" in done.stderr
    assert uid("second study") in done.stdout and uid("third study") in done.stdout
    assert "PLANTED" not in done.stdout + done.stderr


def test_no_such_study(pacs, tmp_path):
    done = fetch(configured(tmp_path, pacs[0]), "--accession", "NONE")
    assert done.returncode == Exit.NOTHING and "pacs has no such study" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "either"), (["--study", "1.2", "--accession", "A"], "either"), (["--accession", "ACC*"], "without"),
     (["--study", "1.2.*"], "digits and dots"), (["--study", "1.2", "--from", "ris"], "no such archive; configured: pacs")],
)
def test_unusable_arguments(tmp_path, arguments, words):
    done = fetch(configured(tmp_path, 1), *arguments)
    assert done.returncode == Exit.UNUSABLE and words in done.stderr


def test_unreachable_archive(tmp_path):
    port = free_port()
    done = fetch(configured(tmp_path, port), "--study", uid("study"))
    assert done.returncode == Exit.FAILED and f"127.0.0.1:{port}: Connection refused" in done.stderr


@contextmanager
def receiver(folder: Path, port: int, *titles: str) -> Iterator[None]:
    """Run the node's receiver, over the node's ledger, that knows these calling AE titles."""
    url = f"sqlite:///{folder / 'data' / 'ledger.sqlite'}"
    migrate(url)
    ledger = Ledger(url)
    try:
        with receiving(folder / "data", ledger.instances, port=port, sources=tuple(Source(ae_title=t) for t in titles)):
            yield
    finally:
        ledger.close()


def test_move_to_our_receiver(pacs, tmp_path):
    configuration = configured(tmp_path, pacs[0], node_port=pacs[1], retrieve="move")
    with receiver(tmp_path, pacs[1], "ORTHANC"):
        done = fetch(configuration, "--study", uid("study"))
        again = fetch(configuration, "--study", uid("study"))
    assert done.returncode == Exit.DONE, done.stdout + done.stderr
    assert "C-MOVE to OVCF_NODE" in done.stdout and "8 of 8 instances are here, 8 new" in done.stdout
    assert stored(tmp_path) == [RLELossless] * 8
    assert again.returncode == Exit.DONE and "8 of 8 instances are here, 0 new" in again.stdout


def test_receiver_that_does_not_know_the_archive(pacs, tmp_path):
    with receiver(tmp_path, pacs[1], "SCANNER"):
        done = fetch(configured(tmp_path, pacs[0], node_port=pacs[1], retrieve="move"), "--study", uid("study"))
    assert done.returncode == Exit.FAILED
    assert "0 of 8 instances are here" in done.stdout and "must be in receive.sources" in done.stdout


def test_no_receiver(pacs, tmp_path):
    done = fetch(configured(tmp_path, pacs[0], node_port=pacs[1], retrieve="move"), "--study", uid("study"))
    assert done.returncode == Exit.FAILED
    assert "no receiver of this node answers" in done.stdout and "nothing came in" in done.stdout


def test_too_little_space_is_a_partial_failure(pacs, tmp_path):
    configuration = configured(tmp_path, pacs[0])
    configuration.write_text(configuration.read_text().replace("min_free_mb = 1", "min_free_mb = 1000000000"))
    done = fetch(configuration, "--study", uid("study"))
    assert done.returncode == Exit.FAILED
    assert "0 of 8 instances are here" in done.stdout and "8 failed" in done.stdout
    assert "low_disk" in done.stderr and "0xA700" in done.stderr


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c(tmp_path, presses):
    """One asks the archive to stop and keeps what came; a second one does not wait for an archive that goes on."""
    cancelled = []

    def find(event):
        uids = {"StudyInstanceUID": uid("study"), "SeriesInstanceUID": uid("series")}
        level = event.identifier.QueryRetrieveLevel
        yield match(level, **uids, Modality="CT", NumberOfSeriesRelatedInstances=200, AccessionNumber="")

    def slowly(event):
        yield 200
        for number in range(1, 201):
            if event.is_cancelled:
                cancelled.append(number)
                if presses == 1:
                    yield 0xFE00, None
                    return
            time.sleep(0.5)
            yield 0xFF00, instance(number)

    with archive(find=find, get=slowly, storage=[CT_IMAGE]) as remote:
        configuration = configured(tmp_path, remote.port, title="ARCHIVE")
        process = subprocess.Popen(command(configuration, "--study", uid("study")), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        ledger = tmp_path / "data" / "ledger.sqlite"
        wait_until(lambda: ledger.exists() and len(list((tmp_path / "data" / "spool").glob("??/*/*.dcm"))) >= 2, 30)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: cancelled)
        if presses == 2:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)  # all 200 take longer
    assert process.returncode == Exit.INTERRUPTED, out + err
    assert presses == 2 or ("interrupted: what has arrived stays" in err and "cancelled" in out and " of 200" in out)


@contextmanager
def dcmqrscp(folder: Path, node_port: int, title: str = "OVCF_NODE") -> Iterator[int]:
    """Run DCMTK's archive with the study; it sends to `title` at `node_port`. Yields its port."""
    port = free_port()
    (folder / "db").mkdir(parents=True)
    (folder / "dcmqrscp.cfg").write_text("\n".join([
        f"NetworkTCPPort = {port}", "MaxPDUSize = 131072", "MaxAssociations = 8", "HostTable BEGIN",
        f"node = ({title}, 127.0.0.1, {node_port})", "HostTable END", "VendorTable BEGIN", "VendorTable END",
        "AETable BEGIN", f"DCMQRSCP {folder / 'db'} RW (10, 1024mb) ANY", "AETable END", "",
    ]))
    process = subprocess.Popen([program("dcmqrscp"), "-c", str(folder / "dcmqrscp.cfg")], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=os.environ | {"TCP_NODELAY": "1"})
    echo = [program("echoscu"), "-aec", "DCMQRSCP", "127.0.0.1", str(port)]
    try:
        wait_until(lambda: subprocess.run(echo, capture_output=True, timeout=10).returncode == 0)
        store_study(folder / "study", port, "DCMQRSCP", ExplicitVRLittleEndian)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_dcmqrscp(tmp_path, retrieve):
    node_port = free_port()
    with dcmqrscp(tmp_path / "dcmqrscp", node_port) as port, receiver(tmp_path, node_port, "DCMQRSCP"):
        configuration = configured(tmp_path, port, node_port=node_port, title="DCMQRSCP", retrieve=retrieve)
        done = fetch(configuration, "--accession", ACCESSION)
    assert done.returncode == Exit.DONE, done.stdout + done.stderr
    assert "8 of 8 instances are here, 8 new" in done.stdout
    assert stored(tmp_path) == [ExplicitVRLittleEndian] * 8
    assert "2 of 2 instances are here, 2 new" in done.stdout  # it tells no Image Type: the scout comes, the judge sees it


def test_dcmqrscp_does_not_know_us(tmp_path):
    with dcmqrscp(tmp_path / "dcmqrscp", 1, title="ANOTHER") as port:
        done = fetch(configured(tmp_path, port, title="DCMQRSCP", retrieve="move"), "--accession", ACCESSION)
    assert done.returncode == Exit.FAILED
    assert "0xA801 Move Destination unknown" in done.stdout and "enter OVCF_NODE" in done.stdout
