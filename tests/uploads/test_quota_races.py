"""Uploads that come at the same time keep to a quota together: in one process exactly, and in several."""

import json
import socket
import threading
from pathlib import Path

import httpx
import pytest
from fastapi import UploadFile

from afterwards import BackgroundTasks, Uploads
from afterwards._domain.limits import NOTHING, Usage
from support import work
from support.data import Data, until
from support.raw import FORM, form, head
from support.server import Program, serving
from support.site import Site
from support.work import DEADLINE

pytestmark = pytest.mark.fastapi

MB = 1_000_000
BODY = form(("file", "a", b"x" * MB))


def begin(port: int) -> socket.socket:
    """Begin an upload of a megabyte, and send no more than its head."""
    client = socket.create_connection(("127.0.0.1", port), DEADLINE)
    client.sendall(head("/", FORM, f"Content-Length: {len(BODY)}", "Connection: close"))
    return client


def answer_of(client: socket.socket) -> tuple[int, str]:
    raw = b""
    while more := client.recv(65_536):
        raw += more
    client.close()
    return int(raw[9:12]), raw.partition(b"\r\n\r\n")[2].decode()


def promised(site: Site) -> Usage:
    ledger = site.afterwards._system.admitting.ledger
    return NOTHING if ledger is None else ledger.promised


def test_uploads_under_way_leave_no_room_for_more(new_site):
    """What has been promised to one is not promised to another; who comes too early may come again, and is told so."""
    site = new_site(uploads=Uploads(max_owner=3 * MB + 100_000, owner=lambda request: "ann"))

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(work.read_upload, file)

    with serving(site) as port:
        under_way = [begin(port) for _ in range(3)]
        until(lambda: promised(site).bytes == 3 * len(BODY))
        status, text = answer_of(begin(port))
        for client in under_way:
            client.sendall(BODY)
        taken = [answer_of(client)[0] for client in under_way]
        late = answer_of(begin(port))
        until(lambda: promised(site) == NOTHING)

    assert (status, json.loads(text)["code"]) == (429, "uploads_under_way")
    assert taken == [200] * 3
    assert (late[0], json.loads(late[1])["code"]) == (413, "quota_exceeded")
    assert site.reads.stored(["ann"])["ann"].bytes == 3 * MB


def test_a_client_that_leaves_gives_its_promise_back(new_site):
    """A thousand uploads that were given up would otherwise shut everybody out."""
    site = new_site(uploads=Uploads(max_total=2 * MB))

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(work.read_upload, file)

    with serving(site) as port:
        for _ in range(5):
            client = begin(port)
            until(lambda: promised(site) != NOTHING)
            client.sendall(BODY[: MB // 2])
            client.close()
            until(lambda: promised(site) == NOTHING)
        client = begin(port)
        client.sendall(BODY)
        status, _ = answer_of(client)

    assert status == 200
    assert site.reads.stored([""])[""].bytes == MB


PROGRAM = """
from fastapi import FastAPI, UploadFile
from afterwards import Afterwards, BackgroundTasks, Uploads

app = FastAPI()
Afterwards(app, uploads=Uploads(max_total=3_000_000))

def use(file: UploadFile) -> None: ...

@app.post("/")
async def endpoint(file: UploadFile, background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(use, file)
"""


def test_two_processes_together_keep_to_a_quota(tmp_path: Path):
    """Neither knows what the other has promised; the transaction that stores decides, and nothing else is kept."""
    (tmp_path / "quota_program.py").write_text(PROGRAM)
    data = Data(tmp_path / "data")
    arguments = ("uvicorn", "quota_program:app", "--port", "0")
    programs = [Program(*arguments, folder=tmp_path, data=data.data) for _ in range(2)]
    statuses: list[int] = []

    def upload(port: int) -> None:
        answer = httpx.post(f"http://127.0.0.1:{port}/", files={"file": ("a", b"x" * MB)}, timeout=DEADLINE)
        statuses.append(answer.status_code)

    try:
        ports = [program.port for program in programs]
        threads = [threading.Thread(target=upload, args=(ports[place % 2],)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        data.settled(1)
        until(lambda: len(data.files()) == data.reads.stored([""])[""].files, data.files)
        stored, rows = data.reads.stored([""])[""], len(data.rows())
    finally:
        for program in programs:
            program.stop()
        data.close()

    assert set(statuses) <= {200, 413, 429}
    assert statuses.count(200) == stored.files == rows >= 1
    assert stored.bytes <= 3 * MB
