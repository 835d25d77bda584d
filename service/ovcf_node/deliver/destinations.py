"""The types of destination. A new one is a module with `send`, `echo` and `found`, and one line in `TYPES`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from ovcf_node.config import Destination
from ovcf_node.deliver import dicom, folder, stow
from ovcf_node.deliver.outcome import File, GoOn, Outcome
from ovcf_node.errors import Permanent, Transient


class Type(NamedTuple):
    """What a type can do: `send` never raises for network and disk errors; the others raise Transient or Permanent.

    `send` asks its last argument before each file; what it raises (Transient) is the outcome of this file and the rest.
    """

    send: Callable[[Destination, Sequence[File], GoOn], list[Outcome]]
    echo: Callable[[Destination], str]
    found: Callable[[Destination, str, Mapping[str, str]], set[str]]


TYPES: dict[str, Type] = {
    "dicom": Type(dicom.send, dicom.echo, dicom.found),
    "folder": Type(folder.send, folder.echo, folder.found),
    "stow": Type(stow.send, stow.echo, stow.found),
}


def always() -> None:
    """Go on: nobody else can be sending."""


def send(destination: Destination, files: Sequence[File], go_on: GoOn = always) -> list[Outcome]:
    """Send files in their order and return one outcome each in that order; network and disk errors are outcomes too."""
    return TYPES[destination.type].send(destination, files, go_on)


def results_at(destination: Destination, study_instance_uid: str, series: Collection[str]) -> set[str]:
    """Return everything that a destination holds of these series, known to us or not; nothing where it is not to be asked.

    Asked before something is sent (`ask_first`), and of type dicom only; `found` is asked afterwards about what was sent.
    Returns SOP Instance UIDs. Raises Transient or Permanent when it does not answer.
    """
    if destination.type != "dicom" or not destination.ask_first:
        return set()
    return dicom.results_at(destination, study_instance_uid, series)


def echo(destination: Destination) -> str:
    """Try a destination without sending anything of a patient and return what was done, in words.

    Raises Transient or Permanent with the peer's words.
    """
    return TYPES[destination.type].echo(destination)


def probe(destination: Destination) -> tuple[Literal["answers", "unreachable", "refused"], str]:
    """Find out cheaply whether a destination is back; never raises for network and disk errors.

    One that answers and will not be probed (no Verification, no QIDO-RS for our token) may well take results: it answers.
    """
    try:
        return "answers", echo(destination)
    except Transient as error:
        return "unreachable", str(error)
    except Permanent as error:
        return "refused" if error.code == "association_rejected" else "answers", str(error)


def found(destination: Destination, study_instance_uid: str, instances: Mapping[str, str]) -> set[str]:
    """Return which of these instances, all of which it took, a destination has by its own account: SOP Instance UIDs.

    instances  SOP Instance UID -> Series Instance UID

    Raises Transient or Permanent; Permanent `not_searchable` where a destination takes objects and answers no queries.
    """
    return TYPES[destination.type].found(destination, study_instance_uid, instances)
