"""The same stages without network, ledger or engine: a folder in, files out (`ovcf-node analyze`)."""

from datetime import UTC, datetime
from pathlib import Path

from ovcf_node import assemble, report
from ovcf_node.config import Settings
from ovcf_node.domain.findings import Findings
from ovcf_node.domain.identity import Dialect, ResultIdentity, source_digest
from ovcf_node.workflow.child import Progress
from ovcf_node.workflow.reading import (
    SOFTWARE,
    Read,
    findings_bytes,
    png_bytes,
    read_series,
    settings_digest,
    source_headers,
)


def analyze(
    folder: Path, out: Path, settings: Settings, *, dialect: Dialect | None = None,
    progress: Progress = lambda stage, fraction: None,
) -> Findings:
    """Read the best series below `folder` and write the answer into `out`.

    Writes findings.json, and as far as they exist sr.dcm, seg_vertebrae.dcm, seg_fractures.dcm (when there is a
    fracture) and summary.png. Raises Permanent `no_instances` when there is no DICOM instance below `folder`.
    """
    paths = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else [folder]
    inspection = assemble.inspect(paths, settings.assemble)
    started_at = datetime.now(UTC)
    read = read_series(paths, settings.node.bundle, settings.assemble, settings.infer, progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("sr.dcm", "seg_vertebrae.dcm", "seg_fractures.dcm", "summary.png", "findings.json"):
        (out / name).unlink(missing_ok=True)  # never leave an older answer beside the new one
    if read.findings.status != "excluded":
        progress("report", 0.0)
        _write_objects(inspection, read, out, settings, dialect or Dialect(), started_at)
    (out / "findings.json").write_bytes(findings_bytes(read.findings))
    return read.findings


def _write_objects(
    inspection: assemble.Inspection, read: Read, out: Path, settings: Settings, dialect: Dialect, started_at: datetime
) -> None:
    headers = source_headers(inspection, read)
    context = report.ResultContext(
        identity=ResultIdentity(
            installation=settings.node.installation, study_instance_uid=str(headers[0].StudyInstanceUID),
            series_instance_uid=str(headers[0].SeriesInstanceUID),
            source_digest=source_digest(str(h.SOPInstanceUID) for h in headers), software=SOFTWARE,
            bundle_digest=read.findings.bundle.digest, settings_digest=settings_digest(settings.assemble), revision=1,
            analysis_started_at=started_at.isoformat(),
            # Two runs are two readings, of different times: not even series must be shared between them.
            namespace=f"analyze {started_at.isoformat()}",
        ),
        analysis_started_at=started_at, institution=settings.node.institution, predecessors=(),
    )
    roles = ("seg_vertebrae", "seg_fractures", "sr")
    for item in report.encode(
        context, headers, read.findings, read.masks, read.picture, dialect, read.sources, roles=roles
    ):
        (out / f"{item.role}.dcm").write_bytes(report.to_bytes(item.dataset))
    if read.picture is not None:
        (out / "summary.png").write_bytes(png_bytes(read.picture))
