"""Our side of every figure: one FastAPI program as a user would write it, on the data directory of the measurement."""

import itertools
import time
import zlib

from fastapi import FastAPI, UploadFile

from afterwards import Afterwards, BackgroundTasks
from benchmarks.app_data import data_of
from benchmarks.task import directory, note, note_and_linger, note_async

CHUNK = 1 << 20  # bytes the upload's task reads at a time

app = FastAPI()
afterwards = Afterwards(app, data=str(data_of(directory())))
numbers = itertools.count()


@app.post("/none", status_code=202)
async def none() -> dict[str, int]:
    return {"number": next(numbers)}


@app.post("/task", status_code=202)
async def task(background_tasks: BackgroundTasks) -> dict[str, int]:
    number = next(numbers)
    background_tasks.add_task(note_async, number, time.monotonic_ns())
    return {"number": number}


@app.post("/thread", status_code=202)
async def thread(background_tasks: BackgroundTasks) -> dict[str, int]:
    number = next(numbers)
    background_tasks.add_task(note, number, time.monotonic_ns())
    return {"number": number}


@app.post("/enqueue", status_code=202)
async def enqueue() -> dict[str, int | str]:
    """Outside the request's own background tasks."""
    number = next(numbers)
    queued = await afterwards.enqueue(note_async, number, time.monotonic_ns())
    return {"number": number, "id": queued.id}


@app.post("/linger/{number}", status_code=202)
async def linger(number: int, background_tasks: BackgroundTasks) -> dict[str, str]:
    """A task that a kill often meets half done: 20 ms, named by the client."""
    queued = background_tasks.add_task(note_and_linger, number, time.monotonic_ns(), 0.02)
    return {"id": queued.id}


@app.post("/upload", status_code=202)
async def upload(file: UploadFile, background_tasks: BackgroundTasks) -> dict[str, str]:
    queued = background_tasks.add_task(read_through, file)
    return {"id": queued.id}


def read_through(file: UploadFile) -> dict[str, int]:
    """Read the whole upload once, and return what proves it."""
    size, sum_of_all = 0, 0
    while chunk := file.file.read(CHUNK):
        size += len(chunk)
        sum_of_all = zlib.crc32(chunk, sum_of_all)
    return {"size": size, "crc32": sum_of_all}
