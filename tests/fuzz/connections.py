"""Target: connections to a running receiver and a running Query/Retrieve SCP, with an honest peer beside.

Garbage, truncated and oversized PDUs, PDUs in the wrong state, peers that hang up in the middle, peers that never end.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_peers import instance, receiving, write
from fuzz import pdus, recorded
from fuzz.mutating import Mutator
from fuzz.siege import besiege, length_of_a_beginning, speak, trickle
from fuzz.tallies import Tally, fast_folder
from ovcf_node.network import associate
from ovcf_node.network.associate import Remote, StoreFile
from query_peers import answering

SILENCE_S = 3.0
_ENDS = ("close", "reset", "half", "half")


def run(seed: int, going: Callable[[int], bool]) -> Tally:
    """Open connections while `going(tried)`."""
    tally = Tally("connections")
    request = recorded.pdus()[0]
    with (
        TemporaryDirectory(dir=fast_folder()) as folder,
        receiving(Path(folder), network_timeout_s=SILENCE_S) as (receiver, _),
        answering(Path(folder), patients={"visible": {}}, network_timeout_s=SILENCE_S) as asked,
    ):
        ports = receiver.port, asked.port

        def talk(changes: Mutator) -> tuple[str, bytes]:
            data = input_of(changes)
            ended, _ = speak(changes.random.choice(ports), data, end=changes.random.choice(_ENDS))
            return ended, data

        def linger(changes: Mutator) -> tuple[str, bytes]:
            said = length_of_a_beginning(changes.random, request)
            return trickle(changes.random.choice(ports), request, said)

        scanner = Remote("127.0.0.1", receiver.port, "OVCF_NODE", "SCANNER", timeout_s=30)
        viewer = Remote("127.0.0.1", asked.port, "OVCF_NODE", "PACS", timeout_s=30)
        ask = honest_sender(Path(folder), scanner)

        def honest() -> None:
            ask()
            associate.echo(viewer)

        besiege(tally, seed, recorded.pdus(), going, talk=talk, linger=linger, honest=honest)
    return tally


def honest_sender(folder: Path, remote: Remote) -> Callable[[], None]:
    """Return what a scanner does: verify and store one instance; it raises where it was not served."""
    dataset = instance(1)
    file = StoreFile(write(folder / "honest", dataset), str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))

    def ask() -> None:
        replies: list = []
        associate.echo(remote)
        associate.store(remote, [file], replies.append)
        if [reply.status for reply in replies] != [0x0000]:
            raise AssertionError("an honest sender was not served")

    return ask


def input_of(changes: Mutator) -> bytes:
    """Return what a hostile peer says to a DICOM port."""
    chance = changes.random
    request = recorded.pdus()[0]
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 300))
    if kind == 1:  # longer than anybody may say
        length = chance.choice((1 << 20, 1 << 24, 1 << 31, (1 << 32) - 1))
        return bytes([chance.randrange(1, 8), 0]) + length.to_bytes(4, "big")
    if kind == 2:  # the wrong state
        return b"".join(chance.choice(recorded.pdus()) for _ in range(chance.randrange(1, 4)))
    if kind == 3:  # a request that is welcome, and then anything
        return request + b"".join(pdus.input_of(changes)[1] for _ in range(chance.randrange(1, 4)))
    if kind == 4:  # cut short
        whole = request + chance.choice(recorded.pdus())
        return whole[:chance.randrange(1, len(whole))]
    return pdus.input_of(changes)[1]
