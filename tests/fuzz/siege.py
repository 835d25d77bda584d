"""A port besieged: hostile peers, peers that never end, and an honest one who must be answered all the while.

Afterwards every connection has ended, and threads and descriptors are given back.
"""

import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from fuzz.mutating import Mutator
from fuzz.tallies import Tally, descriptors, memory_mb

_CLIENTS = 3
_LINGERING = 6  # connections that never end, at any time: the slow loris
_HUNG_UP_S = 60.0
_AFTER_S = 90.0
_HONEST_EVERY_S = 0.25
_BYTE_EVERY_S = 0.5
_ANSWER_AT_MOST = 1 << 16

Conversation = Callable[[Mutator], tuple[str, bytes]]
"""One connection; returns how it ended ("kept" is a finding) and what was said in it."""


def besiege(
    tally: Tally, seed: int, seeds: Sequence[bytes], going: Callable[[int], bool], *, talk: Conversation,
    linger: Conversation, honest: Callable[[], None], spare: int = 0,
) -> None:
    """Let peers talk and linger while `going(tried)`; what `honest` raises is a finding.

    spare  threads that the server may keep for later, with three descriptors each
    """
    honest()
    threads, open_files = threading.active_count(), descriptors()
    attack, beside = _Attack(tally, seed, seeds, going), _Honest(honest, tally)
    beside.start()
    attack.run([talk] * _CLIENTS + [linger] * _LINGERING)
    beside.stop()
    _given_back(tally, threads + spare, open_files + 3 * spare)
    tally.notes |= attack.notes | beside.notes


def speak(port: int, data: bytes, *, end: str, limit_s: float = _HUNG_UP_S) -> tuple[str, bytes]:
    """Say something over one connection; `end`: "close", "reset", "wait" or "half".

    Returns how it ended, and what was answered.
    """
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        return leave(connection, data, end=end, limit_s=limit_s)


def leave(connection: socket.socket, data: bytes, *, end: str, limit_s: float = _HUNG_UP_S) -> tuple[str, bytes]:
    """Say the last things over an open connection; as `speak`."""
    answer = bytearray()
    connection.settimeout(limit_s)
    if end == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    try:
        connection.sendall(data)
        if end in ("close", "reset"):
            return end, b""
        if end == "half":
            connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            answer += piece[:_ANSWER_AT_MOST - len(answer)]
    except TimeoutError:
        return "kept", bytes(answer)
    except OSError:
        return "hung up", bytes(answer)
    return "hung up", bytes(answer)


def trickle(port: int, begin: bytes, said: int, wrap: ssl.SSLContext | None = None) -> tuple[str, bytes]:
    """Say so many bytes and then one at a time, never the last: whoever listens must hang up. `wrap`: within TLS."""
    deadline = time.monotonic() + _HUNG_UP_S
    with socket.create_connection(("127.0.0.1", port), 30) as connection, suppress(OSError):
        if wrap is not None:
            connection = wrap.wrap_socket(connection, server_hostname="localhost")
        connection.sendall(begin[:said])
        connection.settimeout(_BYTE_EVERY_S)
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                if not connection.recv(4096):
                    break
            if 0 < said < len(begin) - 1:
                connection.sendall(begin[said:said + 1])
                said += 1
    return ("outwaited" if time.monotonic() < deadline else "kept"), begin[:said]


def length_of_a_beginning(chance: random.Random, begin: bytes) -> int:
    """Return how much of a message a peer says before it dawdles."""
    return min(chance.choice((0, 1, 3, 6, 40, len(begin) - 1)), len(begin) - 1)


class _Attack:
    def __init__(self, tally: Tally, seed: int, seeds: Sequence[bytes], going: Callable[[int], bool]):
        self._tally, self._seed, self._seeds, self._going = tally, seed, seeds, going
        self._lock = threading.Lock()
        self.notes: dict[str, float] = {}

    def run(self, conversations: Sequence[Conversation]) -> None:
        clients = [threading.Thread(target=self._client, args=(number, one)) for number, one in enumerate(conversations)]
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
        self.notes = {"MB for 10,000": grown, "a second": self._tally.tried / seconds}

    def _client(self, number: int, conversation: Conversation) -> None:
        changes = Mutator(self._seed * 1000 + number, self._seeds)
        while self._going(self._tally.tried):
            try:
                ended, said = conversation(changes)
            except OSError as error:  # the port itself does not take connections any more
                ended, said = f"no connection: {error.strerror or error}", b""
            with self._lock:
                self._tally.tried += 1
                self._tally.outcomes[ended] += 1
                if ended.endswith("kept"):
                    self._tally.found("a connection that was not ended", said)
                elif ended.startswith("no connection"):
                    self._tally.found(ended, said)


class _Honest:
    """A peer that is known and keeps to the standard."""

    def __init__(self, ask: Callable[[], None], tally: Tally):
        self._ask, self._tally = ask, tally
        self._ends, self._seconds = threading.Event(), []
        self._thread = threading.Thread(target=self._go_on)

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
                self._ask()
            # A finding, which fails the campaign, whatever it is: somebody honest was not served.
            except Exception as error:  # noqa: BLE001
                self._tally.found(f"an honest peer was turned away: {error}", b"")
            self._seconds.append(time.monotonic() - begun)


def _given_back(tally: Tally, threads: int, open_files: int) -> None:
    deadline = time.monotonic() + _AFTER_S
    while time.monotonic() < deadline:
        if threading.active_count() <= threads and descriptors() <= open_files:
            return
        time.sleep(0.2)
    tally.found(f"{threading.active_count() - threads} threads and {descriptors() - open_files} descriptors are kept", b"")
