"""Score a model bundle on a cohort with known truth, through the same reading as the node's; figures and tables.

A cohort is a folder of cases (`truth`); `score` reads one case, the rest are statistics over such records. Nothing here
knows where a cohort comes from: phantoms of this project, or a hospital's own cases with reference labels.
"""

from ovcf_node.evaluate.score import score
from ovcf_node.evaluate.truth import cases

__all__ = ["cases", "score"]
