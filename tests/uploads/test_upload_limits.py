"""Resumable uploads keep to what `Uploads(...)` says: before a byte is read, and in the transactions that store."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import Depends, Header, HTTPException, UploadFile

from afterwards import BackgroundTasks, Uploads
from afterwards._domain.limits import NOTHING, Usage
from afterwards._files import incoming
from afterwards._files.disk import Disk
from support import work
from support.raw import FORM, form, head
from support.server import Program
from support.site import until
from support.talking import Answer, Wire, request, wire
from support.uploads import BODY, TUS, UPLOADS, UploadServer, upload_server

MB = 1_000_000
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + bytes(5_000)


CHUNKED = {"Transfer-Encoding": "chunked"}


def chunk(one: Wire, data: bytes) -> None:
    one.send(b"%x\r\n%s\r\n" % (len(data), data))


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, msgspec.json.decode(answer.body)["code"]


@pytest.fixture(params=["uvicorn", "ours"])
def serving(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Starts a server with these settings, by either protocol."""
    open_ones: list[Any] = []

    def start(**settings: Any) -> UploadServer:
        one = upload_server(tmp_path / "data", ours=request.param == "ours", uploads=Uploads(**settings))
        open_ones.append(one)
        return one.__enter__()

    yield start
    for one in open_ones:
        one.__exit__(None, None, None)


def usage(server: UploadServer, name: str = "") -> Usage:
    return server.site.reads.stored([name]).get(name, NOTHING)


def promised(server: UploadServer) -> Usage:
    ledger = server.site.afterwards._system.admitting.ledger
    assert ledger is not None
    return ledger.promised


def open_with_size(server: UploadServer, size: int, **headers: str) -> Answer:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.ask("POST", UPLOADS, {**TUS, "Upload-Length": size, **more})


def refused_before_the_body(server: UploadServer, method: str, path: str, headers: dict[str, Any], size: int) -> Answer:
    """Begin a request, send nothing of its body, and return the answer that comes all the same."""
    with wire(server.port) as one:
        one.start(method, path, headers, size)
        return one.answer(method)


def test_one_that_is_too_large_is_refused_before_its_body(serving):
    server = serving(max_file=MB)

    by_length = open_with_size(server, MB + 1)
    headers = {"Content-Type": "video/mp4"}
    plain = refused_before_the_body(server, "POST", UPLOADS, headers, MB + 1)
    deferred = server.ask("POST", UPLOADS, {**TUS, "Upload-Defer-Length": "1"})["location"]
    late = refused_before_the_body(server, "PATCH", deferred, {**BODY, "Upload-Offset": 0, "Upload-Length": MB + 1}, 10)
    unsaid = refused_before_the_body(server, "PATCH", deferred, {**BODY, "Upload-Offset": 0}, MB + 1)

    for answer in (by_length, plain, late, unsaid):
        assert code(answer) == (413, "upload_too_large")
        assert "max_file" in msgspec.json.decode(answer.body)["detail"]
        assert answer["upload-limit"] == f"max-size={MB}"
        assert answer["connection"] == "close"
    assert open_with_size(server, MB).status == 201
    assert server.ask("OPTIONS", UPLOADS)["tus-max-size"] == str(MB)
    assert server.ask("HEAD", deferred, TUS)["upload-limit"].startswith(f"max-size={MB},")
    assert not list(server.site.data.glob("uploads/*"))


def test_one_of_unknown_length_ends_where_it_becomes_too_large(serving):
    server = serving(max_file=MB)
    where = server.ask("POST", UPLOADS, {**TUS, "Upload-Defer-Length": "1"})["location"]

    with wire(server.port) as one:
        one.start("PATCH", where, {**BODY, **CHUNKED, "Upload-Offset": 0})
        for _ in range(3):
            chunk(one, os.urandom(MB // 2))
        answer = one.answer("PATCH")

    assert code(answer) == (413, "upload_too_large")
    assert server.ask("HEAD", where, TUS).status == 410
    assert usage(server) == Usage()


def test_one_that_becomes_too_large_is_closed_after_its_last_sync(serving, monkeypatch):
    """A descriptor that is closed while a thread syncs it may be another file's by then."""
    monkeypatch.setattr(incoming, "SYNC_BYTES", MB)
    begun, refused = threading.Event(), threading.Event()
    files: list[int] = []
    sync = Disk.sync_data

    def slow(disk: Disk, fd: int) -> None:
        files.append(os.fstat(fd).st_ino)
        begun.set()
        refused.wait(0.5)  # it would come sooner if nobody waited for us
        files.append(os.fstat(fd).st_ino)
        sync(disk, fd)

    monkeypatch.setattr(Disk, "sync_data", slow)
    server = serving(max_file=4 * MB)
    where = server.ask("POST", UPLOADS, {**TUS, "Upload-Defer-Length": "1"})["location"]
    with wire(server.port) as one:
        one.start("PATCH", where, {**BODY, **CHUNKED, "Upload-Offset": 0})
        chunk(one, os.urandom(2 * MB))
        assert begun.wait(20)
        chunk(one, os.urandom(3 * MB))
        assert one.answer("PATCH").status == 413
        refused.set()

    assert len(files) == 2
    assert files[0] == files[1]


def test_before_and_owner_run_before_the_body_and_say_who(serving):
    """With every request that brings bytes; the owner is who created it."""
    ran: list[str] = []

    def user(authorization: str = Header("")) -> str:
        ran.append(authorization)
        if not authorization:
            raise HTTPException(401, "Who are you?")
        return authorization

    server = serving(before=[Depends(user)], owner=Depends(user), max_owner=MB)

    stranger = refused_before_the_body(server, "POST", UPLOADS, {**BODY, "Upload-Length": MB}, MB)
    where = open_with_size(server, 600_000, Authorization="ann")["location"]
    nobody = refused_before_the_body(server, "PATCH", where, {**BODY, "Upload-Offset": 0}, 600_000)
    done = server.patch(where, 0, b"x" * 600_000, Authorization="ann")

    assert (stranger.status, nobody.status, done.status) == (401, 401, 204)
    assert stranger["connection"] == nobody["connection"] == "close"
    assert ran == ["", "ann", "", "ann"], "once for each request"
    assert server.site.reads.file(where[-43:]).owner == "ann"
    assert usage(server, "ann") == Usage(bytes=600_000, files=1)
    assert code(open_with_size(server, 400_001, Authorization="ann")) == (413, "quota_exceeded")
    assert open_with_size(server, 400_001, Authorization="bob").status == 201


def test_open_uploads_count_from_their_creation_until_they_end(serving):
    server = serving(max_total=3 * MB, max_total_files=3)

    where = [open_with_size(server, MB)["location"] for _ in range(3)]
    too_many = refused_before_the_body(server, "POST", UPLOADS, {**BODY, "Upload-Length": 10}, 10)
    assert usage(server) == Usage(bytes=3 * MB, files=3)
    assert server.ask("DELETE", where[0], TUS).status == 204
    assert usage(server) == Usage(bytes=2 * MB, files=2)
    again = open_with_size(server, MB)
    finished = server.patch(where[1], 0, os.urandom(MB))

    assert code(too_many) == (413, "quota_exceeded")
    assert (again.status, finished.status) == (201, 204)
    assert usage(server) == Usage(bytes=3 * MB, files=3)
    assert promised(server) == NOTHING


def test_what_forms_have_been_promised_is_not_given_to_an_upload(serving):
    server = serving(max_total=3 * MB)

    @server.site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(work.read_upload, file)

    content = form(("file", "a", b"x" * (2 * MB)))
    client = socket.create_connection(("127.0.0.1", server.port), work.DEADLINE)
    client.sendall(head("/", FORM, f"Content-Length: {len(content)}", "Connection: close"))
    until(lambda: promised(server).bytes == len(content))

    busy = open_with_size(server, 2 * MB)
    client.close()
    until(lambda: promised(server) == NOTHING)

    assert code(busy) == (429, "uploads_under_way")
    assert busy["retry-after"] == "5"
    assert open_with_size(server, 2 * MB).status == 201


def test_one_of_unknown_length_is_counted_as_it_grows(serving):
    """What no longer fits is forgotten; what is stored of it stays, and it goes on when there is room."""
    server = serving(max_total=2 * MB)
    other = open_with_size(server, MB)["location"]
    where = server.ask("POST", UPLOADS, {**TUS, "Upload-Defer-Length": "1"})["location"]
    first = os.urandom(600_000)

    assert server.patch(where, 0, first).status == 204
    assert usage(server) == Usage(bytes=MB + 600_000, files=2)
    declared = refused_before_the_body(server, "PATCH", where, {**BODY, "Upload-Offset": 600_000}, 600_000)
    told = {**BODY, "Upload-Offset": 600_000, "Upload-Length": 1_200_000}
    length = refused_before_the_body(server, "PATCH", where, told, 10)
    with wire(server.port) as one:
        one.start("PATCH", where, {**BODY, **CHUNKED, "Upload-Offset": 600_000})
        chunk(one, os.urandom(600_000))
        chunk(one, b"")
        grown = one.answer("PATCH")

    for answer in (declared, length, grown):
        assert code(answer) == (413, "quota_exceeded")
    assert server.offset(where) == 600_000
    assert usage(server) == Usage(bytes=MB + 600_000, files=2)
    server.ask("DELETE", other, TUS)
    rest = os.urandom(600_000)
    assert server.patch(where, 600_000, rest, Upload_Length="1200000").status == 204
    assert server.content(where) == first + rest


def test_what_a_dead_process_left_counts_as_far_as_there_is_room(serving):
    """It had written more than the row knows of: that counts where it fits, and else is cut off."""
    server = serving(max_total=1000)
    where = server.ask("POST", UPLOADS, {**TUS, "Upload-Defer-Length": "1"})["location"]
    content = os.urandom(1000)
    assert server.patch(where, 0, content[:500]).status == 204
    part = server.site.data / "uploads" / f"{where[-43:]}.part"

    with part.open("ab") as file:
        file.write(content[500:900])
    assert server.offset(where) == 900
    with part.open("ab") as file:
        file.write(bytes(200))
    assert server.offset(where) == 900
    assert part.stat().st_size == 900
    assert server.patch(where, 900, content[900:], Upload_Length="1000").status == 204
    assert server.content(where) == content


@pytest.mark.parametrize("size", [10, 600_000])
def test_a_plain_upload_of_unknown_length_is_counted_and_leaves_nothing_when_it_does_not_fit(serving, size):
    server = serving(max_total=size - 1)
    for _ in range(2):
        with wire(server.port) as one:
            one.start("POST", UPLOADS, {**CHUNKED, "Content-Type": "text/plain"})
            chunk(one, b"x" * size)
            chunk(one, b"")
            answer = one.answer("POST")
        assert code(answer) == (413, "quota_exceeded")
        assert usage(server) == Usage()
    assert not list(server.site.data.glob("uploads/*"))


def test_creations_at_the_same_time_are_let_in_as_far_as_there_is_room(serving):
    server = serving(max_total=10 * MB)
    statuses: list[int] = []
    begin = threading.Barrier(8)

    def create() -> None:
        begin.wait()
        for _ in range(4):
            statuses.append(open_with_size(server, MB).status)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(work.DEADLINE)

    assert set(statuses) <= {201, 413, 429}
    while open_with_size(server, MB).status == 201:  # those told to come again may
        statuses.append(201)
    assert statuses.count(201) == 10
    assert usage(server) == Usage(bytes=10 * MB, files=10)


PROGRAM = """
from fastapi import FastAPI
from afterwards import Afterwards, Uploads

app = FastAPI()
Afterwards(app, uploads=Uploads(max_total=10_000_000))
"""


def test_creations_in_two_processes_never_exceed_a_quota(tmp_path: Path):
    """Neither knows what the other has promised: the transaction decides."""
    (tmp_path / "counted.py").write_text(PROGRAM)
    programs = [
        Program("uvicorn", "counted:app", "--port", "0", folder=tmp_path, data=tmp_path / "data") for _ in range(2)
    ]
    statuses: list[int] = []
    begin = threading.Barrier(8)

    def create(port: int) -> None:
        begin.wait()
        for _ in range(5):
            statuses.append(request(port, "POST", UPLOADS, {**TUS, "Upload-Length": MB}).status)

    try:
        threads = [threading.Thread(target=create, args=(programs[place % 2].port,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(work.DEADLINE)
        while request(programs[0].port, "POST", UPLOADS, {**TUS, "Upload-Length": MB}).status == 201:
            statuses.append(201)
    finally:
        for program in programs:
            program.stop()

    assert set(statuses) <= {201, 413, 429}
    assert statuses.count(201) == 10


def test_the_reserve_of_the_disk_is_left_free(serving):
    server = serving(reserve=1 << 62)
    created = refused_before_the_body(server, "POST", UPLOADS, {**BODY, "Upload-Length": MB}, MB)
    assert code(created) == (507, "storage_full")
    assert created["retry-after"] == "10"
    assert "no room left" in msgspec.json.decode(created.body)["detail"], "how full the disk is, is in the log"


def test_the_reserve_is_looked_at_with_every_request(serving):
    """Somebody else has filled the disk since the creation."""
    server = serving()
    where = open_with_size(server, MB)["location"]
    server.site.afterwards._system.admitting.ledger._reserve = 1 << 62

    more = refused_before_the_body(server, "PATCH", where, {**BODY, "Upload-Offset": 0}, MB)

    assert code(more) == (507, "storage_full")
    server.site.afterwards._system.admitting.ledger._reserve = 0
    assert server.patch(where, 0, bytes(MB)).status == 204


def test_a_type_that_is_not_taken_ends_the_upload_as_soon_as_it_is_known(serving):
    server = serving(accept=["image/png"])
    where = open_with_size(server, MB)["location"]
    assert server.patch(where, 0, b"%PDF-1.7 ").status == 204

    with wire(server.port) as one:
        one.start("PATCH", where, {**BODY, "Upload-Offset": 9}, MB - 9)
        one.send(b"x" * (MB // 2))
        if server.ours:
            answer = one.answer("PATCH")
        else:
            one.send(b"x" * (MB - 9 - MB // 2))
            answer = one.answer("PATCH")

    assert code(answer) == (415, "type_refused")
    assert "application/pdf" in msgspec.json.decode(answer.body)["detail"]
    assert server.ask("HEAD", where, TUS).status == 410
    assert usage(server) == Usage()
    assert not list((server.site.data / "uploads").iterdir())


@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize("way", ["created", "appended", "resumed", "plain"])
def test_a_type_is_judged_by_whichever_way_the_bytes_come(serving, size, way):
    server = serving(accept=["image/png"])
    for content, good in ((PNG + bytes(size), True), (b"MZ\x90\x00" + bytes(size), False)):
        if way == "plain":
            answer = server.ask("POST", UPLOADS, {"Content-Type": "application/octet-stream"}, content)
        elif way == "created":
            answer = server.ask("POST", UPLOADS, {**BODY, "Upload-Length": len(content)}, content)
        else:
            where = open_with_size(server, len(content))["location"]
            at = 50 if way == "resumed" else 0
            assert not at or server.patch(where, 0, content[:at]).status == 204
            answer = server.patch(where, at, content[at:])
        if good:
            assert answer.status in (201, 204)
            where = where if way in ("appended", "resumed") else answer["location"]
            assert server.site.reads.file(where[-43:]).type == "image/png"
        else:
            assert code(answer) == (415, "type_refused")
    assert usage(server).files == 1


def test_a_type_that_is_declared_and_not_taken_is_refused_at_the_creation(serving):
    server = serving(deny=["text/html"])
    metadata = "filename eC5odG1s,filetype dGV4dC9odG1s"
    assert code(open_with_size(server, 10, Upload_Metadata=metadata)) == (415, "type_refused")
    html = refused_before_the_body(server, "POST", UPLOADS, {"Content-Type": "text/html"}, MB)
    assert code(html) == (415, "type_refused")


def test_parts_may_be_joined_where_there_is_room_for_nothing_more(serving):
    """They are counted already. The room of a stranger's parts has to be the joiner's own, though."""
    server = serving(max_total_files=2, max_total=20, max_owner=15, owner=lambda request: request.headers["x-user"])
    parts = [server.create(10, b"0123456789", Upload_Concat="partial", X_User=user) for user in ("ann", "bob")]
    final = {**TUS, "Upload-Concat": f"final;{' '.join(parts)}"}

    assert code(server.ask("POST", UPLOADS, {**final, "X-User": "bob"})) == (413, "quota_exceeded")
    assert [server.offset(part) for part in parts] == [10, 10]
    joined = server.ask("POST", UPLOADS, {**TUS, "Upload-Concat": f"final;{parts[0]}", "X-User": "ann"})

    assert joined.status == 201
    assert usage(server) == Usage(bytes=20, files=2)
    assert usage(server, "ann") == Usage(bytes=10, files=1)


def test_what_parts_make_together_is_judged_when_they_are_joined(serving):
    server = serving(accept=["image/png"], max_file=100_000)
    parts = [server.create(len(one), one, Upload_Concat="partial") for one in (PNG, b"MZ" + bytes(60_000))]

    def join(*which: int) -> Answer:
        named = " ".join(parts[place] for place in which)
        return server.ask("POST", UPLOADS, {**TUS, "Upload-Concat": f"final;{named}"})

    assert code(join(1, 0)) == (415, "type_refused")
    assert code(join(0, 1, 1)) == (413, "upload_too_large")
    good = join(0, 1)
    assert good.status == 201
    assert server.content(good["location"]) == PNG + b"MZ" + bytes(60_000)
    assert usage(server) == Usage(bytes=len(PNG) + 60_002, files=1)
