"""Our app in a process that also notes when each of its commits had ended: `python -m benchmarks.commits serve PORT`.

SQLite itself says when, through apsw: it reports a statement that is over, and the one that carries out a batch is a
transaction of its own. The clock is read as soon as the writer's thread has the interpreter lock again, which in an
idle process nobody else holds.
"""

import os
import struct
import time
from pathlib import Path
from typing import Any

import apsw

from benchmarks import ours
from benchmarks.task import directory

_RECORD = struct.Struct("=q")
_BATCH = "INSERT INTO batch"


def commits_file(folder: Path) -> Path:
    """Where the times are noted."""
    return folder / "commits.log"


def commits(folder: Path) -> list[int]:
    """When each commit had ended, in ns of CLOCK_MONOTONIC, in order."""
    return [at for (at,) in _RECORD.iter_unpack(commits_file(folder).read_bytes())]


def main() -> None:
    log = os.open(commits_file(directory()), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(event: dict[str, Any]) -> None:
        if _BATCH in event["sql"]:
            os.write(log, _RECORD.pack(time.monotonic_ns()))

    apsw.connection_hooks.append(lambda connection: connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, note))
    ours.main()


if __name__ == "__main__":
    main()
