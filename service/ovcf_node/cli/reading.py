"""A reading in words for a terminal."""

from ovcf_node.domain.findings import Findings
from ovcf_node.domain.levels import GRADED


def lines(findings: Findings) -> list[str]:
    """Return the status with its reasons, then one line a vertebra."""
    reasons = "; ".join(f"{r.code}: {r.text}" for r in findings.reasons) or "no limitations"
    found = [f"{findings.status}: {reasons}"]
    for vertebra in findings.vertebrae:
        undetermined = "undetermined" if vertebra.level in GRADED else "labelled"
        fracture = {True: "fracture", False: "no fracture", None: undetermined}[vertebra.fracture]
        denis = f", Denis compression type {vertebra.denis}" if vertebra.denis else ""
        loss = f", height loss {vertebra.height_loss:.0%}" if vertebra.height_loss is not None else ""
        found.append(f"  {vertebra.level:4} {fracture}{denis}{loss}")
    return found
