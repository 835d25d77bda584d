"""The composition root: build each process of the node from the settings, run it, drain it on SIGTERM.

`process`   what every process does: logging, ledger, signals, folders
`heartbeat` leases that tell the living from the dead
`retaining` what is done goes in time, and database files shrink
`executor`  what processes with an engine do besides: name, heartbeat, drain
`upkeep`    what the holder of the judge's lease does for all machines: the work of the dead, old workflows, leftovers
`receiver`  receive; imports neither inference nor codecs nor the engine
`worker`    judge, read, encode
`sender`    deliver
`query`     answer C-FIND, C-GET and C-MOVE
`web`       pages and DICOMweb (`connections`: client certificates, and whom it hangs up on)
`cataloguing` results from before the catalogue existed
`shadow`    what was said in shadow mode, beside what radiologists found
`backup`    a copy of a running node, and a node from a copy
`checks`    look from outside: configuration, destinations, health
"""

from collections.abc import Callable
from importlib import import_module

from ovcf_node.config import Settings


def role(name: str) -> Callable[[Settings], None]:
    """Return what runs a process until SIGTERM; only now are that process's libraries imported."""
    return import_module(f"ovcf_node.app.{name}").run
