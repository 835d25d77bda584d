"""A real audit record repository for tests (rsyslog over TLS), and the schema of PS3.15 A.5."""

import re
import socket
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_peers import program
from node_harness import wait_for
from tls_files import Authority

SCHEMA = Path(__file__).parent / "peers" / "audit-message.rng"
_HEADER = re.compile(rb"^<85>1 \S+ \S+ ovcf-node - DICOM\+RFC3881 - \xef\xbb\xbf(?=<\?xml )")


@dataclass(frozen=True)
class Repository:
    """What a collector has received, a line a message."""

    file: Path
    port: int

    def messages(self) -> list[bytes]:
        """Return the XML of every message; fails where one is not a syslog message as RFC 5424 and PS3.15 A.6 want it."""
        lines = self.file.read_bytes().splitlines() if self.file.exists() else []
        assert all(_HEADER.match(line) for line in lines), lines
        return [_HEADER.sub(b"", line) for line in lines]

    def events(self) -> list[str]:
        """Return event and type of every message, as "110104" or "110114/110122"."""
        return [event_of(message) for message in self.messages()]


def event_of(message: bytes) -> str:
    identification = ET.fromstring(message).find("EventIdentification")
    return "/".join(identification.find(tag).get("csd-code") for tag in ("EventID", "EventTypeCode")
                    if identification.find(tag) is not None)


def violations(message: bytes, folder: Path) -> str:
    """Return what xmllint has against a message; empty when it follows the schema."""
    path = folder / "message.xml"
    path.write_bytes(message)
    done = subprocess.run(
        [program("xmllint"), "--noout", "--relaxng", SCHEMA, path], capture_output=True, text=True, timeout=60,
    )
    return "" if done.returncode == 0 else done.stderr


@contextmanager
def repository(folder: Path, authority: Authority, port: int, name: str = "audit") -> Iterator[Repository]:
    """Run rsyslog as a collector on loopback; what it received before, in the same folder, is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    if not certificate.exists():
        for made, copy in zip(authority.issue(name), (certificate, key), strict=True):
            copy.write_bytes(made.read_bytes())
    found = Repository(folder / "messages", port)
    configuration = folder / "rsyslog.conf"
    configuration.write_text(f"""
global(workDirectory="{folder}" maxMessageSize="256k" defaultNetstreamDriverCAFile="{authority.certificate}"
       defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}"
       parser.escapeControlCharactersOnReceive="off")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="imtcp" address="127.0.0.1" port="{port}" supportOctetCountedFraming="on" ruleset="audit")
ruleset(name="audit") {{ action(type="omfile" file="{found.file}" template="raw") }}
""")
    server = subprocess.Popen(
        [program("rsyslogd"), "-n", "-f", configuration, "-i", folder / "rsyslog.pid"], stdout=subprocess.DEVNULL,
        stderr=(folder / "rsyslog.log").open("ab"),
    )
    try:
        wait_for(lambda: _listens(port), 30, "rsyslog listens")
        yield found
    finally:
        server.terminate()
        server.wait(30)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
