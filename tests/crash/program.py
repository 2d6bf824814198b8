"""The server that is killed. What is set in CRASH_* makes it die at a named point, or lose its lease sooner."""

import asyncio
import os
import signal
from typing import Any

from fastapi import FastAPI, UploadFile

from afterwards import Afterwards, BackgroundTasks
from afterwards._domain.options import task
from afterwards._engine import engine, renewer, rescuer
from afterwards._files.disk import Disk
from afterwards._store.sqlite.store import SqliteStore
from crash import work

POINT = os.environ.get("CRASH_POINT", "")

if "CRASH_LEASE" in os.environ:
    engine.LEASE = renewer.LEASE = float(os.environ["CRASH_LEASE"])  # type: ignore[attr-defined]
    renewer.ROUND = renewer.LEASE / 3
    rescuer.GRACE = 200
    rescuer.DOUBT = 1000

app = FastAPI()
afterwards = Afterwards(app, drain=float(os.environ.get("CRASH_DRAIN", "10")))

for function in (work.plain, work.coroutine, work.received, work.hold, work.make, work.make_async):
    task(max_interruptions=1000)(function)  # killed as often as we please


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(name: str, *, before: bool) -> Any:
    call = getattr(Disk, name)

    def dies(self: Disk, *args: Any) -> Any:
        if before:
            die()
        call(self, *args)
        die()

    return dies


if POINT == "before the bytes are synced":
    Disk.sync_file = dying("sync_file", before=True)
elif POINT == "between sync and rename":
    Disk.rename = dying("rename", before=True)
elif POINT == "between rename and commit":
    Disk.rename = dying("rename", before=False)
elif POINT == "just before the commit":
    Disk.sync_folder = dying("sync_folder", before=False)
elif POINT == "between commit and answer":
    _committed = SqliteStore._committed

    def committed(self: SqliteStore, work: bool) -> None:
        """Called on the store's thread after each commit, before anybody hears of it."""
        if self.counts():
            die()
        _committed(self, work)

    SqliteStore._committed = committed  # type: ignore[method-assign]
elif POINT == "while the work folder is removed":
    _rmdir = os.rmdir

    def rmdir(*args: Any, **options: Any) -> None:
        die()

    os.rmdir = rmdir
elif POINT == "after the files were committed":
    _told = SqliteStore._committed

    def told(self: SqliteStore, work: bool) -> None:
        if self.counts().get("succeeded"):
            die()
        _told(self, work)

    SqliteStore._committed = told  # type: ignore[method-assign]


@app.post("/plain", status_code=202)
async def plain(key: str, pause: float, tasks: BackgroundTasks) -> str:
    return tasks.add_task(work.plain, key, pause).id


@app.post("/coroutine", status_code=202)
async def coroutine(key: str, pause: float, tasks: BackgroundTasks) -> str:
    return tasks.add_task(work.coroutine, key, pause).id


@app.post("/upload", status_code=202)
async def upload(key: str, file: UploadFile, tasks: BackgroundTasks) -> str:
    return tasks.add_task(work.received, key, file).id


@app.post("/make", status_code=202)
async def make(key: str, tasks: BackgroundTasks) -> str:
    return tasks.add_task(work.make, key).id


@app.post("/make_async", status_code=202)
async def make_async(key: str, tasks: BackgroundTasks) -> str:
    return tasks.add_task(work.make_async, key).id


@app.post("/poison", status_code=202)
async def poison(key: str, tasks: BackgroundTasks) -> str:
    return tasks.add_task(work.poison, key).id


@app.post("/hold", status_code=202)
async def hold(key: str, gate: str, tasks: BackgroundTasks) -> str:
    return tasks.add_task(work.hold, key, gate).id


@app.post("/gated", status_code=202)
async def gated(key: str, gate: str, tasks: BackgroundTasks) -> str:
    """Take until a file appears to be answered."""
    work.tell("entered", key, os.getpid())
    await asyncio.to_thread(work.wait_for, gate)
    return tasks.add_task(work.plain, key, 0.0).id
