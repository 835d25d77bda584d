"""Read the header with which a balancer says whom it speaks for: PROXY protocol, version 1 or 2 (HAProxy)."""

import ipaddress
import socket
import struct
import time

from ovcf_node.errors import Permanent

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LINE_AT_MOST = 107  # of version 1
_REST_AT_MOST = 2048  # addresses and extensions of version 2
_FAMILIES = {0x11: "!4s4sHH", 0x21: "!16s16sHH"}  # TCP over IPv4, over IPv6: two addresses, two ports
_LOCAL, _PROXY = 0x20, 0x21


def read(connection: socket.socket, deadline: float) -> tuple[str, int] | None:
    """Take the header off a connection and return the client's address and port; None: the balancer speaks for itself.

    Not a byte more than the header is read, and none after `deadline` (of time.monotonic). Raises Permanent
    (`proxy_protocol`) for anything else, OSError from the socket.
    """
    begin = _exactly(connection, deadline, len(_SIGNATURE))
    if begin == _SIGNATURE:
        return _version_2(connection, deadline)
    if begin.startswith(b"PROXY "):
        return _version_1(connection, deadline, begin)
    raise Permanent("proxy_protocol", "the connection does not begin with a PROXY header")


def _version_1(connection: socket.socket, deadline: float, line: bytes) -> tuple[str, int] | None:
    while not line.endswith(b"\r\n"):
        if len(line) >= _LINE_AT_MOST:
            raise Permanent("proxy_protocol", "the PROXY line is too long")
        line += _exactly(connection, deadline, 1)
    words = line.decode("ascii", "replace").split()
    if words[1:2] == ["UNKNOWN"]:
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise Permanent("proxy_protocol", "malformed PROXY line")
    try:
        return str(ipaddress.ip_address(words[2])), int(words[4])
    except ValueError as error:
        raise Permanent("proxy_protocol", "malformed address in the PROXY line") from error


def _version_2(connection: socket.socket, deadline: float) -> tuple[str, int] | None:
    command, family, length = struct.unpack("!BBH", _exactly(connection, deadline, 4))
    if command not in (_LOCAL, _PROXY) or length > _REST_AT_MOST:
        raise Permanent("proxy_protocol", "malformed PROXY header")
    rest = _exactly(connection, deadline, length)
    if command == _LOCAL or family not in _FAMILIES:
        return None
    form = _FAMILIES[family]
    if len(rest) < struct.calcsize(form):
        raise Permanent("proxy_protocol", "the PROXY header is too short for its addresses")
    client, _, port, _ = struct.unpack_from(form, rest)
    return str(ipaddress.ip_address(client)), port


def _exactly(connection: socket.socket, deadline: float, number: int) -> bytes:
    read_so_far = b""
    while len(read_so_far) < number:
        if (left := deadline - time.monotonic()) <= 0:
            raise TimeoutError("the PROXY header took too long")
        connection.settimeout(left)
        piece = connection.recv(number - len(read_so_far))
        if not piece:
            raise Permanent("proxy_protocol", "the connection ended within the PROXY header")
        read_so_far += piece
    return read_so_far
