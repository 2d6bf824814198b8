"""What FastAPI does without us: the references of the HTTP figures. `python -m benchmarks.memory serve PORT`.

POST /none answers at once; POST /task runs the no-op as an in-memory background task, lost if the process dies;
POST /upload takes a file the way FastAPI does, spooled by its form parser.
"""

import itertools
import sys
import time

import uvicorn
from fastapi import BackgroundTasks, FastAPI, UploadFile

from benchmarks.peers.command import run
from benchmarks.task import note_async

app = FastAPI()
numbers = itertools.count()


@app.post("/none", status_code=202)
async def none() -> dict[str, int]:
    return {"number": next(numbers)}


@app.post("/task", status_code=202)
async def task(background_tasks: BackgroundTasks) -> dict[str, int]:
    number = next(numbers)
    background_tasks.add_task(note_async, number, time.monotonic_ns())
    return {"number": number}


@app.post("/upload", status_code=202)
async def upload(file: UploadFile) -> dict[str, int | None]:
    return {"size": file.size}


if __name__ == "__main__":
    run(uvicorn, app, int(sys.argv[2]))
