"""Commissioning: a site's connections tried one after the other, a test study sent the real way, and a report of it.

`check`         one thing that was tried, and how it ended
`own_side`      us: software, models, data, processes, and whether the receiver is reached and rejects strangers
`other_side`    them: destinations, archives, who calls us; TLS
`phantom_study` the phantom as a marked test patient: sent, waited for, timed, its finding beside what was planted
`arrival`       what each destination says it has; our own queries and pages
`run`           all of it in order
`report`        one HTML file for the shelf

It needs a running node and uses what a scanner and a PACS would use: associations, C-FIND, QIDO-RS, HTTP.
"""

from ovcf_node.commission.check import Check, Outcome
from ovcf_node.commission.run import Options, Run, commission

__all__ = ["Check", "Options", "Outcome", "Run", "commission"]
