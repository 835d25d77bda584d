"""Find a few top-level elements of an encoded data set without parsing the rest (PS3.5 7.1, 7.5).

A full parser takes ten times longer for the same handful of elements, and this is done for every instance received.
"""

import struct
from collections.abc import Collection

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_DEEPEST = 32


class Malformed(ValueError):
    """The bytes are not a data set in the given encoding."""


def find(data: memoryview, *, implicit: bool, little: bool, wanted: Collection[int], last: int) -> dict[int, bytes]:
    """Return the raw values of the `wanted` tags (group << 16 | element), reading no further than tag `last`.

    `implicit` is what the transfer syntax says; as everywhere, the first element decides, since some senders get it
    wrong. Raises Malformed.
    """
    if len(data) >= 6:
        vr = bytes(data[4:6])
        implicit = not (vr.isalpha() and vr.isupper())
    scanner = _Scanner(data, little)
    found: dict[int, bytes] = {}
    position = 0
    while position + 8 <= len(data):
        tag, vr, length, value = scanner.element(position, implicit)
        if tag > last:
            break
        position = scanner.end(vr, length, value, implicit, 0)
        if tag in wanted and length != _UNDEFINED:
            found[tag] = bytes(data[value:position])
    return found


class _Scanner:
    def __init__(self, data: memoryview, little: bool):
        order = "<" if little else ">"
        self._data = data
        self._tag = struct.Struct(f"{order}HH")
        self._short = struct.Struct(f"{order}H")
        self._long = struct.Struct(f"{order}I")

    def element(self, position: int, implicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty when implicit), length and where the value begins."""
        try:
            group, number = self._tag.unpack_from(self._data, position)
            tag = group << 16 | number
            if implicit or group == 0xFFFE:
                return tag, b"", self._long.unpack_from(self._data, position + 4)[0], position + 8
            vr = bytes(self._data[position + 4 : position + 6])
            if vr in _LONG:
                return tag, vr, self._long.unpack_from(self._data, position + 8)[0], position + 12
            return tag, vr, self._short.unpack_from(self._data, position + 6)[0], position + 8
        except struct.error as error:
            raise Malformed("the data set ends within an element") from error

    def end(self, vr: bytes, length: int, value: int, implicit: bool, depth: int) -> int:
        """Return where a value ends."""
        if length != _UNDEFINED:
            if value + length > len(self._data):
                raise Malformed("an element is longer than the data set")
            return value + length
        if depth > _DEEPEST:
            raise Malformed("sequences are nested too deep")
        # A sequence of unknown VR is encoded as Implicit VR Little Endian (PS3.5 6.2.2 note 2).
        return self._end_of_items(value, implicit or vr == b"UN", depth)

    def _end_of_items(self, position: int, implicit: bool, depth: int) -> int:
        while True:
            tag, _, length, position = self.element(position, implicit)
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise Malformed("a sequence holds something that is not an item")
            if length != _UNDEFINED:
                position = self.end(b"", length, position, implicit, depth)
                continue
            while True:
                tag, vr, length, value = self.element(position, implicit)
                if tag == _ITEM_END:
                    position = value
                    break
                position = self.end(vr, length, value, implicit, depth + 1)
