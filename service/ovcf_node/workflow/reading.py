"""Read one series: instances -> volume -> findings, masks and picture. No ledger, no network."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset

from ovcf_node import __version__, assemble, infer, report
from ovcf_node.config import Assemble, Infer
from ovcf_node.domain.findings import Findings, PatientFinding
from ovcf_node.domain.reasons import NOT_ASSESSED, Reason, reason
from ovcf_node.domain.volume import FrameSource, Masks
from ovcf_node.errors import Permanent
from ovcf_node.storage import masks
from ovcf_node.workflow.child import Progress

SOFTWARE = f"ovcf-node {__version__}"


@dataclass(frozen=True)
class Read:
    """What reading one series leaves behind.

    sources  one per slice of the masks' grid; empty when no volume was made.
    picture  uint8 (rows, columns, 3) or None.
    """

    findings: Findings
    masks: Masks | None
    sources: tuple[FrameSource, ...]
    picture: np.ndarray | None

    def files(self) -> dict[str, bytes]:
        """Return what is kept of a reading, by file name."""
        files = {"sources.json": json.dumps([[s.sop_instance_uid, s.frame_number] for s in self.sources]).encode()}
        if self.masks is not None:
            files["masks.npz"] = masks.to_bytes(self.masks)
        if self.picture is not None:
            files["summary.png"] = png_bytes(self.picture)
        return files | {"findings.json": findings_bytes(self.findings)}

    @staticmethod
    def from_files(files: Mapping[str, bytes]) -> "Read":
        """Rebuild a reading from what `files` returned."""
        picture = files.get("summary.png")
        return Read(
            Findings.from_json(json.loads(files["findings.json"])),
            masks.from_bytes(files["masks.npz"]) if "masks.npz" in files else None,
            tuple(FrameSource(uid, frame) for uid, frame in json.loads(files["sources.json"])),
            np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")) if picture else None,
        )


def source_headers(inspection: assemble.Inspection, read: Read) -> list[Dataset]:
    """Return the headers a result refers to: of the slices that were read, or of the whole series when none was."""
    if read.sources:
        return inspection.headers_in_order(read)
    return [h.dataset for h in inspection.headers if h.dataset.get("SeriesInstanceUID") == inspection.series_instance_uid]


def findings_bytes(findings: Findings) -> bytes:
    """Return findings.json as it is written everywhere."""
    return (json.dumps(findings.to_json(), indent=1, ensure_ascii=False) + "\n").encode()


def png_bytes(picture: np.ndarray) -> bytes:
    """Return an RGB picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def settings_digest(rules: Assemble, *, shadow: bool = False) -> str:
    """Return the digest of the settings that change what a result says; shadow results say that they are."""
    values = {"full_mm": rules.full_mm, "limited_mm": rules.limited_mm} | ({"shadow": True} if shadow else {})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class _Clock:
    """Stage durations in seconds, in the order in which the stages ended."""

    def __init__(self) -> None:
        self.timings: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.timings[stage] = round(now - self._last, 3)
        self._last = now


def read_series(
    paths: Sequence[Path], bundle_folder: Path, rules: Assemble, inference: Infer, *,
    progress: Progress = lambda stage, fraction: None, given_up: Reason | None = None,
    load: Callable[..., infer.Bundle] | None = None,
) -> Read:
    """Read one series.

    `given_up` is the judge's reason when it has stopped waiting for the series to become complete; `load` replaces
    `infer.load` for those who read many series with one bundle. Raises Permanent for
    a bundle that must not run and Transient where a retry can help; what is wrong with the *input* is never raised but
    returned as coded reasons.
    """
    clock = _Clock()
    progress("assemble", 0.0)
    inspection = assemble.inspect(paths, rules)
    verdict = inspection.verdict
    base = Findings(
        status="excluded", software=SOFTWARE, series_instance_uid=inspection.series_instance_uid or "",
        bundle=infer.load_identity(bundle_folder),
    )
    clock.lap("inspect")
    if verdict.kind == "excluded":
        return Read(replace(base, reasons=(verdict.reason,), timings_s=clock.timings), None, (), None)
    problem = given_up or (verdict.reason if verdict.kind != "eligible" else None)
    try:
        volume = assemble.build(verdict.stack, regularise=problem is not None)
    except Permanent as error:
        if error.code not in NOT_ASSESSED:
            raise
        return _not_assessed(base, problem or reason(error.code, error.text), clock)
    clock.lap("assemble")
    progress("infer", 0.0)
    bundle = (load or infer.load)(bundle_folder, providers=inference.providers, threads=inference.threads)
    clock.lap("load_bundle")
    if problem is not None:
        # A head with uneven slices is not our business; a lumbar spine with uneven slices deserves an answer.
        if infer.looks_like_spine(volume, bundle) == 0:
            clock.lap("infer")
            return Read(replace(base, reasons=(reason("no_spine"),), timings_s=clock.timings), None, (), None)
        clock.lap("infer")
        return _not_assessed(base, problem, clock)
    result = infer.read(
        volume, bundle, withhold_grading=verdict.withhold_grading, threads=inference.threads, progress=progress
    )
    clock.lap("infer")
    clock.timings |= {f"infer_{step}": seconds for step, seconds in result.timings_s.items()}
    reasons = tuple(verdict.limits) + tuple(result.reasons)
    if result.status in ("excluded", "not_assessed"):
        return Read(replace(base, status=result.status, reasons=result.reasons, timings_s=clock.timings), None, (), None)
    findings = replace(
        base, status="limited" if reasons else "assessed", reasons=reasons, vertebrae=result.vertebrae,
        numbering_uncertain=result.numbering_uncertain, numbering_basis=result.numbering_basis,
        patient=PatientFinding(result.ovcf, result.probability),
    )
    progress("picture", 0.0)
    picture = report.render_summary(volume, findings, result.masks)
    clock.lap("picture")
    return Read(replace(findings, timings_s=clock.timings), result.masks, volume.sources, picture)


def _not_assessed(base: Findings, why: Reason, clock: _Clock) -> Read:
    return Read(replace(base, status="not_assessed", reasons=(why,), timings_s=clock.timings), None, (), None)
