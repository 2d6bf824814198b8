"""The servers of the file figures: `python -m benchmarks.receivers SIDE PORT`.

fast       afterwards on its own protocol class: digest and fsync before the answer, a no-op queued with the file
portable   the same on uvicorn's own protocol
plain      FastAPI's `UploadFile` and `shutil.copyfileobj`, as its users write it: neither digest nor fsync
"""

import itertools
import shutil
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile

from benchmarks.app_data import data_of
from benchmarks.task import directory


def plain() -> FastAPI:
    app = FastAPI()
    numbers = itertools.count()
    folder = directory()

    @app.post("/upload")
    def upload(file: UploadFile) -> int | None:
        with open(folder / f"{next(numbers)}", "wb") as target:
            shutil.copyfileobj(file.file, target)
        return file.size

    return app


def ours() -> FastAPI:
    from afterwards import Afterwards, BackgroundTasks

    app = FastAPI()
    Afterwards(app, data=str(data_of(directory())))

    @app.post("/upload")
    async def upload(file: UploadFile, background_tasks: BackgroundTasks) -> int | None:
        background_tasks.add_task(nothing, file)
        return file.size

    return app


def nothing(file: UploadFile) -> None:
    """The task, whose work is no part of the figures."""


def main() -> None:
    side, port = sys.argv[1:]
    app = plain() if side == "plain" else ours()

    @app.get("/ping")
    async def ping() -> str:
        return "pong"

    protocol: Any = "auto"
    if side == "fast":
        from afterwards.server import HttpProtocol

        protocol = HttpProtocol
    uvicorn.run(app, host="127.0.0.1", port=int(port), http=protocol, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
