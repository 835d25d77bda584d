"""Stage 2: from files to one volume. Pure functions over DICOM files; no network, no ledger.

`inspect` reads headers (`headers`, `frames`), drops what is no CT slice (`eligibility`), groups the rest (`stacks`),
judges every group (`geometry`, `completeness`) and picks the best (`choice`). `build` decodes it (`pixels`, `volume`).
"""

from ovcf_node.assemble.choice import Candidate, choose, rank
from ovcf_node.assemble.completeness import Verdict
from ovcf_node.assemble.conflicts import compare
from ovcf_node.assemble.eligibility import OwnResult, exclude_unseen
from ovcf_node.assemble.inspection import Inspection, inspect
from ovcf_node.assemble.source_notes import read_source_note
from ovcf_node.assemble.volume import build

__all__ = [
    "Candidate", "Inspection", "OwnResult", "Verdict", "build", "choose", "compare", "exclude_unseen", "inspect",
    "rank", "read_source_note",
]
