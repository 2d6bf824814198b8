"""The one task body that every system here runs, and how its traces are read back.

The body appends one 24-byte record with O_APPEND: the task's number, when it was handed over, when it began. So the
harness counts what ran without asking the system under test, and a task that ran twice leaves two records. Times are
CLOCK_MONOTONIC in nanoseconds, the same clock in every process of the machine.
"""

import asyncio
import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

DIRECTORY = "AFTERWARDS_BENCH_DIRECTORY"  # where one measurement keeps its database and its log
SERVER = "AFTERWARDS_BENCH_SERVER"  # address of the Redis or PostgreSQL started for it, if it needs one

_RECORD = struct.Struct("=qqq")
_log = -1


class Trace(NamedTuple):
    """One run of the body."""

    number: int
    sent: int  # ns, as the producer read the clock before it called the system
    began: int  # ns, first line of the body


def directory() -> Path:
    """The folder of this measurement, named by the harness."""
    return Path(os.environ[DIRECTORY])


def log_file(folder: Path) -> Path:
    """Where the bodies of one measurement leave their records."""
    return folder / "runs.log"


def note(number: int, sent: int) -> None:
    """The no-op: one record, one system call, nothing else."""
    global _log
    began = time.monotonic_ns()
    if _log < 0:
        _log = os.open(log_file(directory()), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_log, _RECORD.pack(number, sent, began))


async def note_async(number: int, sent: int) -> None:
    """The same no-op for systems and figures that run coroutines."""
    note(number, sent)


async def note_and_linger(number: int, sent: int, seconds: float) -> None:
    """The no-op, then a pause: work that a killed process leaves half done."""
    note(number, sent)
    await asyncio.sleep(seconds)


def traces(folder: Path) -> list[Trace]:
    """Every record in the order it was written. A record is one write, so none is ever half there."""
    try:
        content = log_file(folder).read_bytes()
    except FileNotFoundError:
        return []
    return [Trace(*record) for record in _RECORD.iter_unpack(content)]


def runs(folder: Path) -> int:
    """How many bodies have begun, cheaply enough to ask often."""
    try:
        return log_file(folder).stat().st_size // _RECORD.size
    except FileNotFoundError:
        return 0
