"""Target: connections to a running receiver and a running Query/Retrieve SCP, with an honest peer beside.

Garbage, truncated and oversized PDUs, PDUs in the wrong state, peers that hang up in the middle, peers that never end. The
honest peer must be answered all the while, every connection must end, and threads and descriptors be given back.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_peers import instance, receiving, write
from fuzz import pdus, recorded
from fuzz.mutating import Mutator
from fuzz.tallies import Tally, descriptors, fast_folder, memory_mb
from ovcf_node.network import associate
from ovcf_node.network.associate import Remote, StoreFile
from query_peers import answering

_CLIENTS = 3
_LINGERING = 6  # connections that never end, at any time: the slow loris
_HUNG_UP_S = 60.0
_SILENCE_S = 3.0
_AFTER_S = 90.0
_HONEST_EVERY_S = 0.25


def run(seed: int, going: Callable[[int], bool]) -> Tally:
    """Open connections while `going(tried)`."""
    tally = Tally("connections")
    recorded.pdus()
    with (
        TemporaryDirectory(dir=fast_folder()) as folder,
        receiving(Path(folder), network_timeout_s=_SILENCE_S) as (receiver, _),
        answering(Path(folder), patients={"visible": {}}, network_timeout_s=_SILENCE_S) as asked,
    ):
        honest = _Honest(Path(folder), receiver.port, asked.port, tally)
        honest.ask()
        threads, open_files = threading.active_count(), descriptors()
        attack = _Attack(seed, (receiver.port, asked.port), tally, going)
        honest.start()
        attack.run()
        honest.stop()
        _given_back(tally, threads, open_files)
    tally.notes |= attack.notes | honest.notes
    return tally


def speak(port: int, data: bytes, *, end: str, limit_s: float = _HUNG_UP_S) -> str:
    """Say something over one connection; `end`: "close", "reset", "wait" or "half". Returns how it ended."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.settimeout(limit_s)
        if end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            connection.sendall(data)
            if end in ("close", "reset"):
                return end
            if end == "half":
                connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except TimeoutError:
            return "kept"
        except OSError:
            return "hung up"
    return "hung up"


class _Attack:
    def __init__(self, seed: int, ports: tuple[int, ...], tally: Tally, going: Callable[[int], bool]):
        self._seed, self._ports, self._tally, self._going = seed, ports, tally, going
        self._lock = threading.Lock()
        self.notes: dict[str, float] = {}

    def run(self) -> None:
        clients = [threading.Thread(target=self._client, args=(number,)) for number in range(_CLIENTS)]
        clients += [threading.Thread(target=self._loris, args=(number,)) for number in range(_LINGERING)]
        begun, memory = time.monotonic(), []
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            clients[0].join(1.0)
            memory.append((self._tally.tried, memory_mb()))
            if not clients[0].is_alive():
                for client in clients:
                    client.join()
        seconds = time.monotonic() - begun
        settled = memory[len(memory) // 3:]
        grown = (settled[-1][1] - settled[0][1]) / max(1, settled[-1][0] - settled[0][0]) * 10000
        self.notes = {"peak MB": max(mb for _, mb in memory), "MB for 10,000": grown,
                      "a second": self._tally.tried / seconds}

    def _client(self, number: int) -> None:
        changes = Mutator(self._seed * 1000 + number, recorded.pdus())
        while self._going(self._tally.tried):
            port, data, end = input_of(changes, self._ports)
            self._count(speak(port, data, end=end), data)

    def _loris(self, number: int) -> None:
        """Begin a PDU and go on byte by byte: the node must hang up."""
        chance = Mutator(self._seed * 1000 + 500 + number, recorded.pdus()).random
        begin = recorded.pdus()[0]
        while self._going(self._tally.tried):
            said = begin[:chance.choice((0, 1, 3, 6, 40, len(begin) - 1))]
            deadline = time.monotonic() + _HUNG_UP_S
            ended = "kept"
            with socket.create_connection(("127.0.0.1", chance.choice(self._ports)), 30) as connection:
                with suppress(OSError):
                    connection.sendall(said)
                    connection.settimeout(0.5)
                    while time.monotonic() < deadline:
                        with suppress(TimeoutError):
                            if not connection.recv(4096):
                                break
                        if said and len(said) < len(begin) - 1:
                            connection.sendall(begin[len(said):len(said) + 1])
                            said = begin[:len(said) + 1]
                if time.monotonic() < deadline:
                    ended = "outwaited"
            self._count(ended, said)

    def _count(self, ended: str, data: bytes) -> None:
        with self._lock:
            self._tally.tried += 1
            self._tally.outcomes[ended] += 1
            if ended == "kept":
                self._tally.found("a connection that was not ended", data)


def input_of(changes: Mutator, ports: tuple[int, ...]) -> tuple[int, bytes, str]:
    """Return a port, what is said to it, and how the peer leaves."""
    chance = changes.random
    request = recorded.pdus()[0]
    kind = chance.randrange(6)
    if kind == 0:
        data = chance.randbytes(chance.randrange(1, 300))
    elif kind == 1:  # longer than anybody may say
        length = chance.choice((1 << 20, 1 << 24, 1 << 31, (1 << 32) - 1))
        data = bytes([chance.randrange(1, 8), 0]) + length.to_bytes(4, "big")
    elif kind == 2:  # the wrong state
        data = b"".join(chance.choice(recorded.pdus()) for _ in range(chance.randrange(1, 4)))
    elif kind == 3:  # a request that is welcome, and then anything
        data = request + b"".join(pdus.input_of(changes)[1] for _ in range(chance.randrange(1, 4)))
    elif kind == 4:  # cut short
        whole = request + chance.choice(recorded.pdus())
        data = whole[:chance.randrange(1, len(whole))]
    else:
        data = pdus.input_of(changes)[1]
    return chance.choice(ports), data, chance.choice(("close", "reset", "half", "half"))


class _Honest:
    """A peer that is known and keeps to the standard."""

    def __init__(self, folder: Path, receiver: int, query: int, tally: Tally):
        self._receiver = Remote("127.0.0.1", receiver, "OVCF_NODE", "SCANNER", timeout_s=30)
        self._query = Remote("127.0.0.1", query, "OVCF_NODE", "PACS", timeout_s=30)
        dataset = instance(1)
        self._file = StoreFile(write(folder / "honest", dataset), str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
        self._tally, self._ends, self._seconds = tally, threading.Event(), []
        self._thread = threading.Thread(target=self._go_on)

    def ask(self) -> None:
        """Verify, store one instance, verify the other service. Raises what `associate` does."""
        replies: list = []
        associate.echo(self._receiver)
        associate.store(self._receiver, [self._file], replies.append)
        associate.echo(self._query)
        if [reply.status for reply in replies] != [0x0000]:
            raise AssertionError("an honest sender was not served")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ends.set()
        self._thread.join()

    @property
    def notes(self) -> dict[str, float]:
        took = sorted(self._seconds) or [0.0]
        return {"honest peer served": len(self._seconds), "its median s": took[len(took) // 2], "its worst s": took[-1]}

    def _go_on(self) -> None:
        while not self._ends.wait(_HONEST_EVERY_S):
            begun = time.monotonic()
            try:
                self.ask()
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody honest was not served
                self._tally.found(f"an honest peer was turned away: {error}", b"")
            self._seconds.append(time.monotonic() - begun)


def _given_back(tally: Tally, threads: int, open_files: int) -> None:
    deadline = time.monotonic() + _AFTER_S
    while time.monotonic() < deadline:
        if threading.active_count() <= threads and descriptors() <= open_files:
            return
        time.sleep(0.2)
    tally.found(f"{threading.active_count() - threads} threads and {descriptors() - open_files} descriptors are kept", b"")
