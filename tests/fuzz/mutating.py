"""Seeded changes of bytes: the same seed makes the same inputs, whatever the machine."""

import random
import struct
from collections.abc import Sequence

_EDGES = (0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
          0xFFFFFFFE, 0xFFFFFFFF)


class Mutator:
    """Changes inputs, a few places at a time."""

    def __init__(self, seed: int, seeds: Sequence[bytes]):
        self.random = random.Random(seed)
        self._seeds = seeds
        self._changes = (self._bit, self._byte, self._edge, self._edge, self._cut, self._repeat, self._drop, self._noise,
                         self._splice)

    def one(self, region: int | None = None) -> bytes:
        """Return a changed input; `region` keeps the changes within the first bytes of it."""
        data = bytearray(self.random.choice(self._seeds))
        for _ in range(self.random.choice((1, 1, 1, 2, 3, 6))):
            if data:
                self.random.choice(self._changes)(data, min(len(data), region or len(data)))
        return bytes(data) or b"\x00"  # who announces a data set and sends none is waited for until the time-out

    def _bit(self, data: bytearray, end: int) -> None:
        data[self.random.randrange(end)] ^= 1 << self.random.randrange(8)

    def _byte(self, data: bytearray, end: int) -> None:
        data[self.random.randrange(end)] = self.random.randrange(256)

    def _edge(self, data: bytearray, end: int) -> None:
        """Write a number that lengths and counts break at, in either byte order."""
        form = self.random.choice(("<H", ">H", "<I", ">I"))
        value = self.random.choice(_EDGES) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
        at = self.random.randrange(end)
        written = struct.pack(form, value)
        data[at:at + len(written)] = written

    def _cut(self, data: bytearray, end: int) -> None:
        del data[self.random.randrange(end):]

    def _repeat(self, data: bytearray, end: int) -> None:
        at = self.random.randrange(end)
        piece = data[at:at + self.random.randrange(1, 64)]
        data[at:at] = piece * self.random.choice((1, 1, 2, 20))

    def _drop(self, data: bytearray, end: int) -> None:
        at = self.random.randrange(end)
        del data[at:at + self.random.randrange(1, 64)]

    def _noise(self, data: bytearray, end: int) -> None:
        at = self.random.randrange(end)
        data[at:at] = self.random.randbytes(self.random.randrange(1, 24))

    def _splice(self, data: bytearray, end: int) -> None:
        other = self.random.choice(self._seeds)
        begin = self.random.randrange(len(other))
        at = self.random.randrange(end)
        data[at:at + self.random.randrange(64)] = other[begin:begin + self.random.randrange(1, 256)]
