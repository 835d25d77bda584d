"""A private PostgreSQL cluster for tests: a socket in its own folder, a user that is not root, ended with the tests."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from absent import absent


def found(name: str) -> str | None:
    """Return the path of a server program, which Debian keeps off the PATH."""
    return shutil.which(name) or next((str(p) for p in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)


def program(name: str) -> str:
    """Return the path of a server program; skip without it, fail under CI."""
    path = found(name)
    if path is None:
        absent("PostgreSQL is not installed (Debian package postgresql)")
    return path


@contextmanager
def cluster(*, durable: bool = False) -> Iterator[str]:
    """Run a cluster; yields the folder of its socket, which `database` takes. Tests need no `durable` commits."""
    initdb, postgres = program("initdb"), program("postgres")
    folder = Path(tempfile.mkdtemp(prefix="ovcf-pg-"))
    account = {}
    if os.getuid() == 0:  # the server refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        account = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    data = folder / "data"
    # Another collation than C, as in hospitals: the catalogue must not depend on it.
    options = ["--auth=trust", "--username=ovcf", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    server = None
    try:
        subprocess.run([initdb, *options, str(data)], check=True, stdout=subprocess.DEVNULL, cwd=folder, **account)
        server = subprocess.Popen(
            [postgres, "-D", str(data), "-k", str(folder), "-c", "listen_addresses=", "-c", f"fsync={durable}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **account,
        )
        _wait(server, str(folder))
        yield str(folder)
    finally:
        if server is not None:
            server.terminate()
            server.wait(30)
        shutil.rmtree(folder)


@contextmanager
def database(socket_folder: str) -> Iterator[str]:
    """Create an empty database; yields its SQLAlchemy URL."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with _connect(socket_folder) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"postgresql+psycopg://ovcf@/{name}?host={socket_folder}"
    with _connect(socket_folder) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _connect(socket_folder: str) -> psycopg.Connection:
    return psycopg.connect(host=socket_folder, user="ovcf", dbname="postgres", autocommit=True)


def _wait(server: subprocess.Popen, socket_folder: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            _connect(socket_folder).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None and time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.1)
