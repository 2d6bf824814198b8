"""tuspyserver as its documentation shows it: `python -m benchmarks.peers.tuspyserver serve PORT`."""

import sys

import tuspyserver
import uvicorn
from fastapi import FastAPI

from benchmarks.peers.command import run
from benchmarks.task import directory

app = FastAPI()
app.include_router(tuspyserver.create_tus_router(prefix="files", files_dir=str(directory())))

if __name__ == "__main__":
    run(uvicorn, app, int(sys.argv[2]))
