"""Target: connections to the TLS port of a running receiver, with an honest sender over TLS beside.

Garbage and plain PDUs where a ClientHello belongs; one that is changed, cut, said twice; records of impossible lengths;
strangers' certificates and none; after a handshake garbage, changed PDUs, damaged records, and a new handshake in the clear;
peers that shake hands a byte at a time, or shake hands and say no more.
"""

import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_peers import free_port, receiving
from fuzz import connections, recorded
from fuzz.mutating import Mutator
from fuzz.siege import besiege, leave, length_of_a_beginning, speak, trickle
from fuzz.tallies import Tally, fast_folder
from ovcf_node.config import Tls
from ovcf_node.network import tls
from ovcf_node.network.associate import Remote
from tls_files import Authority, authority

_HANDSHAKE_S = 30.0


def run(seed: int, going: Callable[[int], bool]) -> Tally:
    """Open connections while `going(tried)`."""
    tally = Tally("handshakes")
    port = free_port()
    with TemporaryDirectory(dir=fast_folder()) as name:
        folder = Path(name)
        hospital = authority(folder / "hospital")
        peers = Peers.made(folder, hospital)
        certificate, key = hospital.issue("node")
        tls.install(Tls(certificate=certificate, key=key, ca=hospital.certificate, crl=hospital.revoke()))
        with receiving(folder, plain=False, tls_port=port, network_timeout_s=connections.SILENCE_S):
            scanner = Remote(
                "127.0.0.1", port, "OVCF_NODE", "SCANNER", timeout_s=30, encrypted=True, expected_name="localhost",
            )
            besiege(
                tally, seed, [peers.hello, *recorded.pdus()], going, talk=lambda changes: talk(port, peers, changes),
                linger=lambda changes: linger(port, peers, changes), honest=connections.honest_sender(folder, scanner),
            )
    return tally


@dataclass(frozen=True)
class Peers:
    """TLS contexts of who connects, and the ClientHello of one that is welcome."""

    welcome: tuple[ssl.SSLContext, ...]
    strangers: tuple[ssl.SSLContext, ...]
    hello: bytes

    @classmethod
    def made(cls, folder: Path, hospital: Authority) -> "Peers":
        """Make a scanner of TLS 1.3 and one of 1.2; somebody without a certificate, and one of another authority."""
        ct, foreign = hospital.issue("ct1"), authority(folder / "other").issue("ct1")
        older = _context(hospital, ct)
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        welcome = _context(hospital, ct), older
        return cls(welcome, (_context(hospital, None), _context(hospital, foreign)), _hello(welcome[0]))


def talk(port: int, peers: Peers, changes: Mutator) -> tuple[str, bytes]:
    """Hold one hostile conversation."""
    chance = changes.random
    end = chance.choice(("close", "reset", "half", "half"))
    kind = chance.randrange(9)
    if kind < 6:
        data = _instead_of_a_handshake(kind, peers, changes)
        ended, _ = speak(port, data, end=end)
        return f"before: {ended}", data
    if kind == 6:
        chosen, data = chance.choice(peers.strangers), b""
    else:
        chosen, data = chance.choice(peers.welcome), connections.input_of(changes)
    ended = _after_a_handshake(port, chosen, data, changes, end)
    return f"{'stranger' if kind == 6 else 'after'}: {ended}", data


def linger(port: int, peers: Peers, changes: Mutator) -> tuple[str, bytes]:
    """Shake hands slowly, or quickly and then dawdle."""
    chance = changes.random
    if chance.random() < 0.3:
        return trickle(port, b"", 0, wrap=chance.choice(peers.welcome))
    return trickle(port, peers.hello, length_of_a_beginning(chance, peers.hello))


def _instead_of_a_handshake(kind: int, peers: Peers, changes: Mutator) -> bytes:
    chance, hello = changes.random, peers.hello
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 600))
    if kind == 1:
        return hello[:chance.randrange(1, len(hello))]
    if kind == 2:  # records of any type, version and length
        return b"".join(
            struct.pack(">BHH", chance.randrange(18, 26), chance.choice((0x0300, 0x0301, 0x0303, 0x0304, 0xFEFF)),
                        chance.choice((0, 1, 0x4000, 0x4001, 0xFFFF))) + chance.randbytes(chance.randrange(0, 80))
            for _ in range(chance.randrange(1, 5))
        )
    if kind == 3:  # one handshake begun twice
        return hello + chance.choice((hello, changes.one()))
    if kind == 4:
        return connections.input_of(changes)
    changed = Mutator(chance.getrandbits(32), (hello,)).one()
    # With right lengths most get as far as the parser of what is in them.
    return changed if chance.random() < 0.3 else b"\x16\x03\x01" + struct.pack(">H", len(changed) - 5 & 0xFFFF) + changed[5:]


def _after_a_handshake(port: int, context: ssl.SSLContext, data: bytes, changes: Mutator, end: str) -> str:
    """Shake hands, then say something: encrypted, damaged on the way, or a new handshake in the clear."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tunnel = context.wrap_bio(received, sent, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.settimeout(_HANDSHAKE_S)
        try:
            _shake_hands(connection, tunnel, received, sent)
            tunnel.write(data or b"\x00")
        except TimeoutError:
            return "kept"
        except OSError:  # ssl.SSLError is one
            return "refused"
        said = sent.read()
        way = changes.random.randrange(4)
        if way == 0:
            said = Mutator(changes.random.getrandbits(32), (said,)).one()
        elif way == 1:
            said += _hello(context)
        return leave(connection, said, end=end)[0]


def _shake_hands(connection: socket.socket, tunnel: ssl.SSLObject, received: ssl.MemoryBIO, sent: ssl.MemoryBIO) -> None:
    while True:
        try:
            tunnel.do_handshake()
            return
        except ssl.SSLWantReadError:
            connection.sendall(sent.read())
            piece = connection.recv(65536)
            if not piece:
                raise ConnectionError("hung up") from None
            received.write(piece)


def _context(hospital: Authority, own: tuple[Path, Path] | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(hospital.certificate))
    if own is not None:
        context.load_cert_chain(*own)
    return context


def _hello(context: ssl.SSLContext) -> bytes:
    sent = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError("a handshake without an answer")
