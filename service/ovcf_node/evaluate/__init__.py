"""Score a model bundle on a cohort with known truth, through the same reading as the node's; figures and tables.

A cohort is a folder of cases (`truth`); `score` reads one case into a record, `figures` are statistics over records,
`markdown` prints them beside the study's tables; `radiologists` does so for results of shadow mode. Nothing here knows
where a cohort comes from: phantoms of this project, or a hospital's own cases with reference labels.
"""

from ovcf_node.evaluate.markdown import CARD_BEGINS, CARD_ENDS, card
from ovcf_node.evaluate.run import PICTURES, Records, evaluate, write_report
from ovcf_node.evaluate.score import score

__all__ = ["CARD_BEGINS", "CARD_ENDS", "PICTURES", "Records", "card", "evaluate", "score", "write_report"]
