"""Send syslog messages (RFC 5424) over TLS with octet counting (RFC 5425), and know that the collector's machine has them.

Syslog has no acknowledgement. What its machine's TCP has acknowledged is as much as can be known from here; what has not
been when the connection breaks is sent again, so a message may come twice, and none is lost on the way.
"""

import fcntl
import socket
import ssl
import struct
import termios
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from ovcf_node.errors import Transient
from ovcf_node.network import tls

_PRIORITY = 10 * 8 + 5  # facility security/authorization, severity notice (PS3.15 A.6)
_MESSAGE_ID = "DICOM+RFC3881"
_BOM = b"\xef\xbb\xbf"
_TIMEOUT_S = 10.0
_LOOK_S = 0.02


class Collector:
    """A connection to an audit record repository; opened when needed, closed after an error."""

    def __init__(self, host: str, port: int, *, encrypted: bool, expected_name: str | None = None):
        self._host, self._port = host, port
        self._encrypted, self._name = encrypted, expected_name or host
        self._connection: socket.socket | None = None

    def send(self, messages: Sequence[bytes]) -> None:
        """Send and wait until TCP has acknowledged it. Raises Transient (`audit_collector`) or Permanent (`tls`)."""
        try:
            if self._connection is None or _ended(self._connection):
                self._open()
            self._connection.sendall(b"".join(_frame(message) for message in messages))
            _acknowledged(self._connection)
        except OSError as error:  # ssl.SSLError and TimeoutError are OSErrors
            self.close()
            words = getattr(error, "verify_message", None) or error.strerror or str(error)
            raise Transient("audit_collector", f"{self._host}:{self._port}: {words}") from error

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> None:
        self.close()
        plain = socket.create_connection((self._host, self._port), _TIMEOUT_S)
        self._connection = plain
        if self._encrypted:
            self._connection = tls.certificates().client().wrap_socket(plain, server_hostname=self._name)


def _frame(message: bytes) -> bytes:
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    header = f"<{_PRIORITY}>1 {moment} {socket.gethostname()} ovcf-node - {_MESSAGE_ID} - ".encode()
    body = header + _BOM + message
    return f"{len(body)} ".encode() + body


def _ended(connection: socket.socket) -> bool:
    """Say whether the collector has hung up since the last message: what is sent now would be lost."""
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_TIMEOUT_S)


def _acknowledged(connection: socket.socket) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    unsent = bytearray(4)
    while True:
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, unsent)
        if struct.unpack("i", unsent)[0] == 0:
            return
        if time.monotonic() > deadline:
            raise TimeoutError("the collector does not take what is sent")
        time.sleep(_LOOK_S)
