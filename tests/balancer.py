"""HAProxy with the configuration of deploy/, in front of receivers on loopback."""

import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dicom_peers import free_port, program, wait_until

CONFIGURATION = Path(__file__).resolve().parents[1] / "deploy" / "haproxy.cfg"


@contextmanager
def balanced(folder: Path, ports: Sequence[int]) -> Iterator[tuple[int, Callable[[], list[int]]]]:
    """Run the balancer; yields its port, and what counts the connections that each receiver got so far."""
    haproxy, port, statistics = program("haproxy"), free_port(), folder / "haproxy.sock"
    servers = "\n".join(f"    server receiver-{n} 127.0.0.1:{p}" for n, p in enumerate(ports))
    text, templates = re.subn(r"^    server-template .*$", servers, CONFIGURATION.read_text(), flags=re.MULTILINE)
    text, binds = re.subn(r"bind :\d+", f"bind 127.0.0.1:{port}", text)
    assert templates == binds == 1
    path = folder / "haproxy.cfg"
    path.write_text(text.replace("global\n", f"global\n    stats socket {statistics}\n", 1))
    with (folder / "haproxy.log").open("ab") as log:
        process = subprocess.Popen([haproxy, "-db", "-f", str(path)], stdout=log, stderr=log)
    try:
        wait_until(statistics.exists)
        wait_until(lambda: all(row["status"] == "UP" for row in _servers(statistics)), 300)
        yield port, lambda: [int(row["stot"]) for row in _servers(statistics)]
    finally:
        process.terminate()
        process.wait(30)


def _servers(statistics: Path) -> list[dict[str, str]]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(statistics))
        connection.sendall(b"show stat\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    names, *lines = (line.strip("# ").split(",") for line in answer.splitlines() if line)
    rows = [dict(zip(names, line, strict=False)) for line in lines]
    return [row for row in rows if row["svname"].startswith("receiver-")]
