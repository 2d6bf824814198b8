"""Another request takes an upload over: at once, without stopping anybody else, and without a byte in a wrong place."""

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from afterwards._files.parts import Part
from support.server import program
from support.site import until, until_async
from support.talking import request, wire
from support.uploads import BODY, TUS, UPLOADS

CONTENT = os.urandom(3_000_000)


def size_on_disk(data: Path, where: str) -> int:
    part = data / "uploads" / f"{where[-43:]}.part"
    return part.stat().st_size if part.exists() else 0


def stall(server, where, sent):
    """Begin to send all of the content, stop in the middle, and keep the connection."""
    one = wire(server.port)
    connection = one.__enter__()
    connection.start("PATCH", where, {**BODY, "Upload-Offset": 0}, len(CONTENT))
    connection.send(CONTENT[:sent])
    until(lambda: size_on_disk(server.site.data, where) > 0)
    return one, connection


def test_who_asks_for_the_offset_ends_a_request_that_stands_still(server):
    """A phone changed its network: the server still waits on the dead connection, and the client is back."""
    where = server.create(len(CONTENT))
    one, stalled = stall(server, where, 2_000_000)
    begin = time.monotonic()

    kept = server.offset(where)

    assert 0 < kept <= 2_000_000
    answer = stalled.answer("PATCH")
    assert answer.status == 409
    assert int(answer.get("upload-offset") or kept) == kept
    one.__exit__(None, None, None)
    assert time.monotonic() - begin < 10  # not a figure: it did not wait for the deadline of the stalled request
    assert server.patch(where, kept, CONTENT[kept:]).status == 204
    assert server.content(where) == CONTENT


def test_others_are_answered_while_one_takes_over(server):
    """The rival server that was measured hung as a whole here."""
    where = server.create(len(CONTENT))
    one, _ = stall(server, where, 2_000_000)
    statuses: list[int] = []
    taking = threading.Thread(target=lambda: statuses.append(server.patch(where, 0, CONTENT).status))
    taking.start()
    assert server.ask("GET", "/afterwards/health").status == 200
    assert server.offset(server.create(5)) == 0
    taking.join(20)
    assert statuses == [409]  # the offset is not 0 any more
    one.__exit__(None, None, None)


def test_of_many_who_send_the_same_bytes_the_file_comes_out_whole(server):
    """Eight clients that all believe the upload is theirs."""
    where = server.create(len(CONTENT))

    def send() -> None:
        while (answer := server.ask("HEAD", where, TUS)).status == 204:
            at = int(answer["upload-offset"])
            if at == len(CONTENT):
                return
            server.patch(where, at, CONTENT[at : at + 400_000])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert server.content(where) == CONTENT


def test_an_upload_is_ended_while_it_is_written(server):
    where = server.create(len(CONTENT))
    one, stalled = stall(server, where, 2_000_000)
    assert server.ask("DELETE", where, TUS).status == 204
    assert stalled.answer("PATCH").status == 410
    one.__exit__(None, None, None)
    until(lambda: not server.is_written(where))
    assert not list((server.site.data / "uploads").iterdir())
    assert server.ask("HEAD", where, TUS).status == 410


async def test_who_is_cancelled_while_a_thread_opens_the_file_leaves_it_closed(server, monkeypatch):
    """A thread cannot be stopped, so there is a file although nobody waits for it any more."""
    where = server.create(len(CONTENT))
    begun, go_on = threading.Event(), threading.Event()
    opened: list[Part] = []
    closed: list[Part] = []
    really_open, really_close = Part.open, Part.close

    def slowly(*args: Any, **options: Any) -> Part | None:
        begun.set()
        assert go_on.wait(20)
        part = really_open(*args, **options)
        assert part is not None
        opened.append(part)
        return part

    def close(part: Part) -> None:
        closed.append(part)
        really_close(part)

    monkeypatch.setattr(Part, "open", slowly)
    monkeypatch.setattr(Part, "close", close)

    async def hold() -> None:
        async with server.site.afterwards._system.uploading.holding.hold(where[-43:], create=True):
            raise AssertionError("it was cancelled")

    holding = asyncio.ensure_future(hold())
    await until_async(begun.is_set)
    holding.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await holding

    assert len(opened) == 1
    assert closed == opened


def test_looking_at_an_upload_does_not_end_who_writes_it(server):
    where = server.create(len(CONTENT))
    one, stalled = stall(server, where, 2_000_000)
    assert server.ask("GET", where).status == 200
    stalled.send(CONTENT[2_000_000:])
    assert stalled.answer("PATCH").status == 204
    one.__exit__(None, None, None)
    assert server.content(where) == CONTENT


PROGRAM = """
from fastapi import FastAPI
import afterwards

app = FastAPI()
afterwards.Afterwards(app)
"""


@pytest.fixture
def two_programs(tmp_path: Path):
    (tmp_path / "main.py").write_text(PROGRAM)
    run = ("uvicorn", "main:app", "--port", "0", "--log-level", "info", "--http", "afterwards.server:HttpProtocol")
    with (
        program(*run, folder=tmp_path, data=tmp_path / "data") as first,
        program(*run, folder=tmp_path, data=tmp_path / "data") as second,
    ):
        yield first, second


def test_another_process_takes_over(two_programs, tmp_path):
    """Two workers of one server: the fence in the row reaches the other, and the kernel's lock keeps them apart."""
    first, second = (one.port for one in two_programs)
    where = request(first, "POST", UPLOADS, {**TUS, "Upload-Length": len(CONTENT)})["location"]
    with wire(first) as stalled:
        stalled.start("PATCH", where, {**BODY, "Upload-Offset": 0}, len(CONTENT))
        stalled.send(CONTENT[:2_000_000])
        until(lambda: size_on_disk(tmp_path / "data", where) > 0)

        answer = request(second, "HEAD", where, TUS)

        kept = int(answer["upload-offset"])
        assert 0 < kept <= 2_000_000
        assert stalled.answer("PATCH").status == 409
    rest = {**BODY, "Upload-Offset": kept}
    assert request(second, "PATCH", where, rest, CONTENT[kept:]).status == 204
    for port in (first, second):
        assert request(port, "HEAD", where, TUS)["upload-offset"] == str(len(CONTENT))


def test_a_killed_process_holds_nothing_up(two_programs, tmp_path):
    first, second = two_programs
    where = request(first.port, "POST", UPLOADS, {**TUS, "Upload-Length": len(CONTENT)})["location"]
    with wire(first.port) as stalled:
        stalled.start("PATCH", where, {**BODY, "Upload-Offset": 0}, len(CONTENT))
        stalled.send(CONTENT[:2_000_000])
        until(lambda: size_on_disk(tmp_path / "data", where) > 0)
        first.kill()
    kept = int(request(second.port, "HEAD", where, TUS)["upload-offset"])
    assert kept <= 2_000_000
    answer = request(second.port, "PATCH", where, {**BODY, "Upload-Offset": kept}, CONTENT[kept:])
    assert answer.status == 204
