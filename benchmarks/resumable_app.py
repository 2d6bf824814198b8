"""The servers of the figures of resumable uploads: `python -m benchmarks.resumable_app serve|plain PORT`.

serve: ours, under our protocol for uvicorn. plain: what FastAPI's documentation does, an `UploadFile` that is copied to
where it is wanted; nothing is synced and no digest is made.
"""

import shutil
import sys

import uvicorn
from fastapi import FastAPI, UploadFile

from benchmarks.task import directory


def ours() -> FastAPI:
    from afterwards import Afterwards
    from benchmarks.app_data import data_of

    app = FastAPI()
    Afterwards(app, data=str(data_of(directory())))
    return app


def plain() -> FastAPI:
    app = FastAPI()

    @app.post("/upload", status_code=201)
    def upload(file: UploadFile) -> dict[str, int | None]:
        with (directory() / "copy").open("wb") as target:
            shutil.copyfileobj(file.file, target)
        return {"size": file.size}

    return app


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        from afterwards.server import HttpProtocol

        uvicorn.run(ours(), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", http=HttpProtocol)
    else:
        uvicorn.run(plain(), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
