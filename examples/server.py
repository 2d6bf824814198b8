"""The example application: it takes files, answers at once, and looks into them afterwards.

Run it with `afterwards run examples.server:app`, or with any other server: it has `Afterwards(app)` of its own.
"""

import hashlib
import os
import time

from fastapi import FastAPI, UploadFile

from afterwards import Afterwards, BackgroundTasks, current_task, progress, task

app = FastAPI(title="Files, looked into")
afterwards = Afterwards(app)

CHUNK = 1 << 20  # bytes
PACE = float(os.environ.get("EXAMPLE_PACE", "0.1"))  # seconds a step takes: it stands for real work on the file
STEPS = 5


def look_into(file: UploadFile) -> dict[str, str | int | None]:
    """A plain `def`: it runs on a thread of its own and may take as long as it wants."""
    digest = hashlib.sha256()
    size = lines = 0
    while chunk := file.file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        lines += chunk.count(b"\n")
    for _ in progress.track(range(STEPS), message="looking into it", unit="steps"):
        time.sleep(PACE)
    return {"name": file.filename, "bytes": size, "lines": lines, "sha256": digest.hexdigest()}


@task(retries=3, backoff=0.2, timeout=30)
async def send_receipt(address: str, name: str) -> str:
    """An `async def` with retries: what it talks to is busy the first time."""
    running = current_task()
    if running is not None and running.attempt == 1:
        raise ConnectionError("the mail server is busy")
    return f"to {address}: we have received {name}"


@app.post("/files", status_code=202)
async def take_file(file: UploadFile, background_tasks: BackgroundTasks, address: str | None = None) -> dict[str, str]:
    """The answer leaves when the file and its task are on the disk, and not before."""
    looking = background_tasks.add_task(look_into, file)
    if address is not None:
        background_tasks.add_task(send_receipt, address, file.filename or "a file")
    return {"message": "it is being looked into", "task": looking.id, "status": looking.url}
