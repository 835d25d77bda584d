"""Target: instances, through C-STORE handling and a real ledger, and what was stored through the child that reads it.

Real files of many scanners and codecs (`data/odd`) and made ones, changed; and inputs made to hurt: decompression bombs,
absurd sizes, deep nesting, paths in UIDs. The child may refuse an input or even die of it; that the parent gets anything
but a coded error, or the sender a processing failure, is a finding.
"""

import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from pydicom import dcmread

from ct_series import grid, linear_hu, write_ct
from dicom_peers import CT_IMAGE, SECRET, encoded, instance, uid
from fuzz.mutating import Mutator
from fuzz.tallies import Tally, fast_folder, memory_mb, place
from ovcf_node.config import Settings
from ovcf_node.errors import OvcfError, Refused
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.network import contexts
from ovcf_node.network.messages import Peer, StoreRequest
from ovcf_node.receive.file_meta import split_head
from ovcf_node.receive.header import read_header
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool
from ovcf_node.workflow import child
from ovcf_node.workflow.child import Children

_REPOSITORY = Path(__file__).resolve().parents[2]
_LIMITS = {"timeout_s": 60.0, "memory_mb": 2048, "threads": 1}
_READ_OF = 25  # one in so many is also read: pixels, and the network that looks for a spine
_JOBS_PER_CHILD = 2000
_LARGEST = 600_000
_SHAPE = (60, 16, 16)


@dataclass(frozen=True)
class Instance:
    """A data set as it travels."""

    transfer_syntax_uid: str
    data: bytes


@cache
def honest() -> tuple[Instance, ...]:
    """Return real instances where there are some, and made ones."""
    found = [_slice("honest")] * 3 + [Instance(contexts.EXPLICIT_LITTLE_ENDIAN, encoded(instance(1, size=8)))]
    odd = Path(os.environ.get("OVCF_TEST_DATA", _REPOSITORY.parent / "shared" / "data")) / "odd"
    paths = sorted(path for path in odd.rglob("*") if path.is_file() and path.stat().st_size <= _LARGEST)
    taken = {path.parent: path for path in paths} | {path: path for path in paths if path.parent.name.startswith("cs3d")}
    for path in [*taken.values(), *odd.glob("dcmqi*/*/*/*.dcm")]:
        if path.read_bytes()[128:132] == b"DICM":
            found.append(_of(path))
    return tuple(found)


def _of(path: Path) -> Instance:
    data = path.read_bytes()
    syntax = str(dcmread(io.BytesIO(data), stop_before_pixels=True).file_meta.TransferSyntaxUID)
    return Instance(syntax, bytes(split_head(memoryview(data))[1]))


def hurtful() -> Iterator[tuple[str, Instance]]:
    """Yield inputs that are made to hurt, each with its name."""
    explicit = contexts.EXPLICIT_LITTLE_ENDIAN
    for name, elements in {
        "rows and columns": {"Rows": 65535, "Columns": 65535},
        "no rows": {"Rows": 0, "Columns": 0},
        "frames": {"NumberOfFrames": "2147483647"},
        "negative frames": {"NumberOfFrames": "-1"},
        "bits": {"BitsAllocated": 65535, "BitsStored": 65535, "HighBit": 65535},
        "one bit": {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
        "samples": {"SamplesPerPixel": 65535},
        "infinite slope": {"RescaleSlope": "1E308", "RescaleIntercept": "-1E308"},
        "endless geometry": {"ImagePositionPatient": ["1E300", "0", "-1E300"], "PixelSpacing": ["1E-300", "1E300"],
                             "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"]},
        "planes": {"PlanarConfiguration": 65535, "PhotometricInterpretation": "PALETTE COLOR"},
    }.items():
        for syntax in (explicit, contexts.LOSSLESS[6]):  # native, and a JPEG 2000 that is none
            yield f"{name} {syntax}", _slice(name, syntax, **elements)
    for name in ("../../../etc/passwd", "1.2/../3", "1.2\\3", "1.2\x00.3", "C:\\1.2", "1" * 65, "$(id)", "1.2\n3", ".", ""):
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            marked = encoded(instance(1, size=4, **{keyword: "9.9.9.9.9.9.9.9.9.9"}))
            padded = name.encode()[:20].ljust(20, b"\x00")
            yield f"{keyword} {name!r}", Instance(explicit, marked.replace(b"9.9.9.9.9.9.9.9.9.9\x00", padded))
    for depth in (20, 500, 50_000):
        item, sequence = b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\x40\x00\x75\x02SQ\x00\x00\xff\xff\xff\xff"
        close = b"\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
        nested = (sequence + item) * depth + close * depth
        yield f"nested {depth}", Instance(explicit, _before_pixels(nested))
        yield f"nested with lengths {depth}", Instance(explicit, _before_pixels(_measured(depth)))
    yield "an endless element", Instance(explicit, _before_pixels(b"\x43\x00\x10\x10OB\x00\x00\xfe\xff\xff\xff"))
    for megabytes in (4, 1100):
        deflating = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        parts = [deflating.compress(_slice(megabytes).data)]
        parts += [deflating.compress(bytes(2**20)) for _ in range(megabytes)]
        yield f"bomb {megabytes}", Instance(contexts.DEFLATED_LITTLE_ENDIAN, b"".join(parts) + deflating.flush())


def _series(folder: Path) -> list[Path]:
    """Write the slices of a small series that can be read."""
    affine = grid(_SHAPE, spacing=(2.5, 2.0, 2.0))
    return write_ct(folder, linear_hu(_SHAPE, affine), affine)


@cache
def _middle() -> bytes:
    with TemporaryDirectory() as folder:
        return _series(Path(folder))[_SHAPE[0] // 2].read_bytes()


def _slice(name: object, syntax: str = contexts.EXPLICIT_LITTLE_ENDIAN, **elements) -> Instance:
    """Return the slice in the middle of that series, but for `elements`."""
    dataset = dcmread(io.BytesIO(_middle()))
    for keyword, value in ({"SOPInstanceUID": uid(name, syntax)} | elements).items():
        setattr(dataset, keyword, value)
    return Instance(syntax, encoded(dataset))


def _before_pixels(element: bytes) -> bytes:
    data = _slice(len(element)).data
    at = data.index(b"\xe0\x7f\x10\x00")
    return data[:at] + element + data[at:]


def _measured(depth: int) -> bytes:
    """Return sequences inside each other with defined lengths, as deep as a length can say."""
    nested = b""
    for _ in range(min(depth, 3000)):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(nested)) + nested
        nested = b"\x40\x00\x75\x02SQ\x00\x00" + struct.pack("<I", len(item)) + item
    return nested


class Site:
    """A spool, a ledger and children, as a node has them."""

    def __init__(self, folder: Path, tally: Tally):
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        migrate(url)
        self._folder, self._tally = folder, tally
        self._ledger, self._spool = Ledger(url), Spool(folder / "spool")
        self._storing = Storing(self._spool, self._ledger.instances, min_free_bytes=0, patient_secret=SECRET)
        self._children = Children(Settings(infer=_LIMITS))
        slices = _series(folder / "series")
        slices.pop(_SHAPE[0] // 2).unlink()
        self._others = slices

    def close(self) -> None:
        self._children.close()
        self._ledger.close()

    def take(self, name: str, sent: Instance, *, read: bool) -> None:
        """Store an instance, and look at and perhaps read what was stored."""
        self._tally.tried += 1
        case = f"{name}\n{sent.transfer_syntax_uid}\n".encode() + sent.data
        try:
            if not self._storing.store(self._request(sent)):
                self._tally.outcomes["known already"] += 1
                return
        except Refused as refused:
            self._tally.outcomes[f"refused: {refused.code}"] += 1
            return
        # No coded refusal, so a finding, which fails the campaign: the sender would be told of a processing failure.
        except Exception as error:  # noqa: BLE001
            self._tally.found(f"C-STORE: {place(error)}", case)
            return
        paths = [self._spool.path(path) for path in self._spool.files()]
        known = {*paths, *self._others}
        outside = [path for path in self._folder.rglob("*.dcm") if path not in known]
        if outside:
            self._tally.found("a file outside the spool", case)
        self._look(paths, case, read=read)
        self._spool.purge([str(path.relative_to(self._spool.root)) for path in paths])

    def _look(self, paths: list[Path], case: bytes, *, read: bool) -> None:
        jobs: list[tuple[str, Callable]] = [("inspected", lambda: self._children.inspect(paths).kind)]
        if read:
            jobs += [("read", lambda: self._read([*paths, *self._others])),
                     ("note", lambda: self._children.source_note(paths[0]))]
        if read and self._tally.tried % 4 == 0:
            jobs += [("compared", lambda: self._children.compare(paths[0], paths[0]))]
        for name, job in jobs:
            try:
                self._tally.outcomes[f"{name}: {job()}"[:40]] += 1
            except OvcfError as error:
                self._tally.outcomes[f"{name}: {error.code}"] += 1
                if error.code == "defect":
                    self._tally.found(f"{name}: {error.text}", case)
                if error.code == "child_timeout":
                    break
        shutil.rmtree(self._folder / "results", ignore_errors=True)

    def _read(self, paths: list[Path]) -> str:
        """Read the stored instance as the one missing in a series that can be read; returns what came of it."""
        results = Results(self._folder / "results")
        self._children.read(paths, results.root, "key")
        findings = json.loads(results.get("key", "findings.json"))
        return ", ".join([findings["status"], *(reason["code"] for reason in findings["reasons"])])

    @staticmethod
    def _request(sent: Instance) -> StoreRequest:
        try:  # a hostile sender makes request and data set agree
            header = read_header(io.BytesIO(sent.data), sent.transfer_syntax_uid)
            names = header.sop_class_uid, header.sop_instance_uid
        except Refused:
            names = CT_IMAGE, uid("none")
        return StoreRequest(
            peer=Peer("a1", "SCANNER", "OVCF_NODE", "127.0.0.1"), sop_class_uid=names[0], sop_instance_uid=names[1],
            transfer_syntax_uid=sent.transfer_syntax_uid, high_priority=False, dataset=io.BytesIO(sent.data),
        )


def run(seed: int, going: Callable[[int], bool], *, hurt: bool = True) -> Tally:
    """Take the hurtful inputs and then changed ones while `going(tried)`."""
    tally = Tally("files")
    with TemporaryDirectory(dir=fast_folder()) as folder:
        site = Site(Path(folder), tally)
        try:
            # A child lives for 50 jobs; its imports would be nearly all of the time here.
            with patch.object(child, "_JOBS_PER_CHILD", _JOBS_PER_CHILD):
                for name, sent in hurtful() if hurt else ():
                    site.take(name, sent, read=True)
                _changed(site, seed, going, tally)
        finally:
            site.close()
    return tally


def _changed(site: Site, seed: int, going: Callable[[int], bool], tally: Tally) -> None:
    changes = {one: Mutator(seed + number, (one.data,)) for number, one in enumerate(honest())}
    chance = Mutator(seed, (b"",)).random
    begin = memory_mb()
    while going(tally.tried):
        one = honest()[chance.randrange(4)] if chance.random() < 0.3 else chance.choice(honest())
        region = chance.choice((400, 4000, None))
        syntax = one.transfer_syntax_uid if chance.random() < 0.95 else chance.choice(contexts.IMAGE)
        sent = Instance(syntax, changes[one].one(region))
        site.take("changed", sent, read=tally.tried % _READ_OF == 0)
    tally.notes |= {"MB grown": memory_mb() - begin}
