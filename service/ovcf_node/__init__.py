"""ovcf-node: a DICOM node that reads thoracolumbar CT for osteoporotic vertebral compression fractures.

The folders in the order the data flows; a module imports only from those above it, and the stages never import
each other (they meet in the ledger and in `workflow`):

1.  `errors`    what can go wrong: whose fault it is, and whether a retry can help
2.  `config`    every setting, read once, every problem reported at once
3.  `observe`   logging without patient identity
4.  `domain`    values and rules: levels, reasons, states, findings, the Denis table, volumes
5.  `storage`   bytes on disk: written whole or not at all
6.  `ledger`    the durable truth: instances, revisions, results, deliveries, events
7.  `engine`    the durable scheduler (the only importer of DBOS)
8.  `network`   application entity, associations (the only importer of pynetdicom)
9.  `receive`   stage 1: C-STORE -> spool -> ledger -> status
10. `assemble`  stage 2: completeness, eligibility, choice of series, volume
11. `infer`     stage 3: model bundle, labels, per-vertebra evidence, morphometry
12. `report`    stage 4: SEG, SR, summary picture, lint
13. `deliver`   stage 5: results to destinations
14. `query`     the results for PACS and viewers: C-FIND, C-MOVE, C-GET, QIDO-RS, WADO-RS
15. `operate`   the pages for people; metrics and health for machines
16. `workflow`  the steps in order: the only module that knows all stages
17. `evaluate`  a bundle scored on a cohort with known truth, through the same reading
18. `app`       composition root: the processes, and looks from outside
19. `commission` a site tried from end to end, with a report
20. `cli`       the commands
"""

import os
from importlib.metadata import version

# onnxruntime's wheels report usage over the network unless told otherwise before they are loaded. A hospital's node
# talks to nobody but its configured peers.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = version("ovcf-node")
