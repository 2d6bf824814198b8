"""Starts the servers that some peers need, each fresh, on loopback, for one measurement.

Redis appends every write to a file and flushes it each second, so up to a second of accepted tasks is lost in a power
cut: its usual durable setting, and a weaker promise than ours. PostgreSQL keeps its defaults: every commit is flushed.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.children import Child, ChildFailed, answers, free_port

START = 30.0  # seconds a server gets until it accepts connections


def missing(kind: str) -> str | None:
    """Why a server of this kind cannot be started here, or None."""
    if kind == "redis" and shutil.which("redis-server") is None:
        return "redis-server is not installed"
    if kind == "postgres":
        if _postgres("initdb") is None:
            return "PostgreSQL's initdb and postgres are not installed"
        if os.geteuid() == 0 and _unprivileged() is None:
            return "PostgreSQL refuses to run as root and there is no user named postgres"
    return None


@contextmanager
def started(kind: str, folder: Path) -> Iterator[str]:
    """A fresh server of that kind with its data in `folder`; yields its address. "" needs none and yields ""."""
    if kind == "":
        yield ""
    elif kind == "redis":
        with _redis(folder) as address:
            yield address
    else:
        with _postgresql(folder) as address:
            yield address


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "everysec"]
    with Child(command, environment={}, log=folder / "redis.log") as server:
        server.until(lambda: answers(port), within=START, what="accepting connections")
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    initdb, postgres = _postgres("initdb"), _postgres("postgres")
    if initdb is None or postgres is None:
        raise ChildFailed("PostgreSQL is not installed: install it, or leave its peers out")
    user = _unprivileged() if os.geteuid() == 0 else None
    data = folder / "postgres"
    data.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(data, user)
        for parent in (folder, folder.parent):
            parent.chmod(0o711)
    options = ["-D", str(data), "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale"]
    subprocess.run([initdb, *options], check=True, capture_output=True, user=user, cwd="/")
    port = free_port()
    settings = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    command = [postgres, "-D", str(data), *settings]
    with Child(command, environment={}, log=folder / "postgres.log", user=user) as server:
        server.until(lambda: answers(port), within=START, what="accepting connections")
        yield f"postgresql://bench@127.0.0.1:{port}/postgres"


def _postgres(program: str) -> str | None:
    """A program of the newest PostgreSQL here. Debian keeps them beside the search path."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: int(path.parts[4]))
    return str(debian[-1]) if debian else shutil.which(program)


def _unprivileged() -> str | None:
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None
