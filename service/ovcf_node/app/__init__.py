"""The composition root: build each process of the node from the settings, run it, drain it on SIGTERM.

`process`   what every process does: logging, ledger, signals, folders
`executor`  what processes with an engine do besides: name, heartbeat, drain
`receiver`  receive; imports neither inference nor codecs nor the engine
`worker`    judge, read, encode
`sender`    deliver
`checks`    look from outside: configuration, destinations, health
"""

from collections.abc import Callable
from importlib import import_module

from ovcf_node.config import Settings

ROLES: tuple[str, ...] = ("receiver", "worker", "sender")
"""The processes of a node; `serve` supervises one of each, several machines run them apart."""


def role(name: str) -> Callable[[Settings], None]:
    """Return what runs a process until SIGTERM; only now are that process's libraries imported."""
    return import_module(f"ovcf_node.app.{name}").run
