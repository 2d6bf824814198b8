"""A process whose descriptors are used up: whatever needs one is refused for a moment, with the reason.

The program tells the system how many it may have, so that what is open stays and nothing else can be opened. All is
asked on connections that were there before.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.server import Program, program
from support.talking import Answer, Wire, request, wire
from support.uploads import BODY, TUS, UPLOADS

LARGE = os.urandom(400_000)
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + LARGE + b"\r\n--b--\r\n"
PROGRAM = """
import os, resource
from fastapi import FastAPI, UploadFile
import afterwards

app = FastAPI()
afterwards.Afterwards(app)
START = resource.getrlimit(resource.RLIMIT_NOFILE)

@app.post("/form")
async def form(file: UploadFile, tasks: afterwards.BackgroundTasks) -> int:
    tasks.add_task(read, file)
    return file.size

def read(file: UploadFile) -> int:
    return len(file.file.read())

@app.post("/none")
async def none() -> None:
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, START[1]))

@app.post("/enough")
async def enough() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, START)
"""


@pytest.fixture(params=["uvicorn", "ours"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    (tmp_path / "main.py").write_text(PROGRAM)
    ours = ("--http", "afterwards.server:HttpProtocol") if request.param == "ours" else ()
    run = ("uvicorn", "main:app", "--port", "0", "--log-level", "info", *ours)
    with program(*run, folder=tmp_path, data=tmp_path / "data") as running:
        yield running


def ask(one: Wire, method: str, path: str, headers: dict[str, Any], body: bytes = b"") -> Answer:
    one.start(method, path, headers, len(body))
    try:
        one.send(body)
    except OSError:
        pass  # refused before it was read: the answer is there
    return one.answer(method)


def everything(wires: list[Wire], where: str, file: str) -> dict[str, Answer]:
    """Ask for each thing that opens a file, each on a connection of its own."""
    form, patch, get, plain = wires
    return {
        "form": ask(form, "POST", "/form", {"Content-Type": "multipart/form-data; boundary=b"}, FORM),
        "patch": ask(patch, "PATCH", where, {**BODY, "Upload-Offset": 0}, LARGE),
        "get": ask(get, "GET", f"/afterwards/files/{file}", {}),
        "plain": ask(plain, "POST", UPLOADS, {"Content-Type": "text/plain"}, LARGE),
    }


def test_what_needs_a_descriptor_is_refused_with_the_reason_and_works_again(served: Program):
    """503 and a time, not a 400 that blames the client, nor a 500 that says nothing."""
    port = served.port
    where = request(port, "POST", UPLOADS, {**TUS, "Upload-Length": len(LARGE)})["location"]
    file = request(port, "POST", UPLOADS, {"Content-Type": "text/plain"}, LARGE)["location"][-43:]
    with ExitStack() as stack:
        control, *wires = [stack.enter_context(wire(port)) for _ in range(5)]
        for one in (control, *wires):
            assert ask(one, "GET", "/afterwards/health", {}).status == 200

        assert ask(control, "POST", "/none", {}).status == 200
        refused = everything(wires, where, file)
        assert ask(control, "POST", "/enough", {}).status == 200

        again = everything([stack.enter_context(wire(port)) for _ in range(4)], where, file)
    for what, answer in refused.items():
        assert (what, answer.status) == (what, 503)
        assert msgspec.json.decode(answer.body)["code"] == "too_many_open_files"
        assert int(answer["retry-after"]) > 0
    assert {what: answer.status for what, answer in again.items()} == {
        "form": 200,
        "patch": 204,
        "get": 200,
        "plain": 201,
    }
    assert "Traceback" not in served.text
