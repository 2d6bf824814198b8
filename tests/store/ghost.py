"""A program whose disk fails in the middle of a commit, and which is then killed. Run by test_disk.py.

`python ghost.py DATABASE MODE`: stores "kept", lets the log's sync fail for "refused", and ends by SIGKILL: with
MODE "at-once" before anything else is written, with "reopened" after the store has recovered, with "written" after
it has stored one more.
"""

import os
import signal
import sys
import threading
from pathlib import Path

import apsw

from afterwards._store.contract import Accept, CallbackReply, ask_blocking
from afterwards._store.sqlite import writer
from afterwards._store.sqlite.store import SqliteStore
from contract.hand import new_task
from store.faults import FaultyDisk, disk_error


def main(path: Path, mode: str) -> None:
    writer.REOPEN = 0.01
    disk = FaultyDisk()
    store = SqliteStore(path, vfs=disk.name)
    ask_blocking(store, Accept(tasks=(new_task(id="kept", arguments="1" * 20_000),)))
    refused = threading.Event()

    def hear(answer: object) -> None:
        print(type(answer).__name__, flush=True)
        if mode == "at-once":
            die()
        disk.plan.clear()
        refused.set()

    disk.plan["sync", "-wal"] = disk_error(apsw.SQLITE_IOERR_FSYNC)
    store.submit(Accept(tasks=(new_task(id="refused", arguments="2" * 20_000),)), CallbackReply(hear))
    assert refused.wait(30)
    back = threading.Event()
    while store.health() is not None and not back.wait(0.01):
        pass
    if mode == "written":
        ask_blocking(store, Accept(tasks=(new_task(id="written"),)))
    die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
