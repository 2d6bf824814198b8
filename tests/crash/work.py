"""What the crashed servers do, and the ledger in which their handlers say so.

A line is one write with O_APPEND: it survives the death of its process, and lines of several do not mix.
"""

import asyncio
import hashlib
import os
import time
from pathlib import Path

from fastapi import UploadFile

from afterwards import output, workdir

LEDGER = Path(os.environ["CRASH_LEDGER"]) if "CRASH_LEDGER" in os.environ else None


def tell(*words: object) -> None:
    assert LEDGER is not None
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    os.close(descriptor)


def digest(key: str, content: bytes) -> str:
    return hashlib.sha256(key.encode() + content).hexdigest()


def plain(key: str, pause: float) -> str:
    tell("start", key, os.getpid())
    time.sleep(pause)
    found = digest(key, b"")
    tell("end", key, os.getpid(), found)
    return found


async def coroutine(key: str, pause: float) -> str:
    tell("start", key, os.getpid())
    await asyncio.sleep(pause)
    found = digest(key, b"")
    tell("end", key, os.getpid(), found)
    return found


def received(key: str, file: UploadFile) -> str:
    tell("start", key, os.getpid())
    found = digest(key, file.file.read())
    tell("end", key, os.getpid(), found)
    return found


LARGE = 900_000  # bytes


def make(key: str) -> str:
    """Write files in every way: two that are large, one that is small, and some that nobody keeps."""
    tell("start", key, os.getpid())
    assert list(workdir().iterdir()) == []
    (workdir() / "left").write_bytes(b"over" * 100_000)
    output("small").write(key.encode())
    for name in ("one", "two"):
        with output(name) as file:
            for _ in range(9):
                file.write(key.encode().ljust(LARGE // 9, b"."))
    found = digest(key, b"")
    tell("end", key, os.getpid(), found)
    return found


async def make_async(key: str) -> str:
    await asyncio.sleep(0)
    return make(key)


def poison(key: str) -> None:
    tell("start", key, os.getpid())
    os._exit(9)


def hold(key: str, gate: str) -> str:
    """Last until a file appears."""
    tell("start", key, os.getpid())
    wait_for(gate)
    found = digest(key, b"")
    tell("end", key, os.getpid(), found)
    return found


def wait_for(gate: str) -> None:
    while not os.path.exists(gate):
        time.sleep(0.01)
