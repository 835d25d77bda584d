"""The types of destination. A new one is a module with `send` and `echo`, and one line in `TYPES`."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from ovcf_node.config import Destination
from ovcf_node.deliver import dicom, folder, stow
from ovcf_node.deliver.outcome import File, GoOn, Outcome


class Type(NamedTuple):
    """What a type can do: `send` never raises for network and disk errors, `echo` raises Transient or Permanent.

    `send` asks its last argument before each file; what it raises (Transient) is the outcome of this file and the rest.
    """

    send: Callable[[Destination, Sequence[File], GoOn], list[Outcome]]
    echo: Callable[[Destination], str]


TYPES: dict[str, Type] = {
    "dicom": Type(dicom.send, dicom.echo),
    "folder": Type(folder.send, folder.echo),
    "stow": Type(stow.send, stow.echo),
}


def always() -> None:
    """Go on: nobody else can be sending."""


def send(destination: Destination, files: Sequence[File], go_on: GoOn = always) -> list[Outcome]:
    """Send files in their order and return one outcome each in that order; network and disk errors are outcomes too."""
    return TYPES[destination.type].send(destination, files, go_on)


def results_at(destination: Destination, study_instance_uid: str, series: Collection[str]) -> set[str]:
    """Return the SOP Instance UIDs that a destination holds of these series; nothing where it is not to be asked.

    Raises Transient or Permanent when it does not answer.
    """
    if destination.type != "dicom" or not destination.ask_first:
        return set()
    return dicom.results_at(destination, study_instance_uid, series)


def echo(destination: Destination) -> str:
    """Try a destination without sending anything of a patient and return what was done, in words.

    Raises Transient or Permanent with the peer's words.
    """
    return TYPES[destination.type].echo(destination)
