"""Resumable uploads meet the rest: the scanner, idempotency keys, what is kept, and what is removed by hand."""

import contextlib
import os
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import UploadFile

from afterwards import BackgroundTasks, Keep, Uploads
from afterwards._cli.purge import Wanted, purged
from afterwards._domain.attempts import SECOND
from afterwards._domain.files import FileKind, Verdict
from afterwards._domain.tasks import TaskState
from afterwards._domain.uploads import UploadState
from afterwards._engine import scanning
from afterwards._store.contract import ask_blocking
from afterwards._store.upkeep import Prune
from support import work
from support.data import Data, until
from support.server import Program
from support.talking import Answer, request, wire
from support.uploads import BODY, TUS, UPLOADS, UploadServer, upload_server

MARK = b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE"
SMALL, LARGE = 100, 400_000
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
HOUR = 3600 * SECOND


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Any]:
    open_ones: list[Any] = []

    def start(**settings: Any) -> UploadServer:
        one = upload_server(tmp_path / "data", ours=True, **settings)
        open_ones.append(one)
        server: UploadServer = one.__enter__()

        @server.site.app.post("/use", status_code=202)
        async def use(file: UploadFile, background_tasks: BackgroundTasks) -> None:
            background_tasks.add_task(work.read_upload, file)

        return server

    yield start
    for one in open_ones:
        one.__exit__(None, None, None)


def document(server: UploadServer, where: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(server.ask("GET", where).body)
    return found


def use(server: UploadServer, where: str) -> Answer:
    return server.ask("POST", "/use", FORM, f"file={where[-43:]}".encode())


def row(server: UploadServer, where: str) -> Any:
    return server.site.reads.upload(where[-43:])


# -- the scanner


class Scanner:
    """Says what it finds as soon as it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.begun = threading.Event()
        self.seen: list[str | None] = []

    def __call__(self, file: UploadFile) -> bool | str:
        self.begun.set()
        assert self.may.wait(work.DEADLINE)
        self.seen.append(file.filename)
        return "EICAR found" if MARK in file.file.read() else True


def ways(server: UploadServer, content: bytes) -> list[str]:
    """Upload the same bytes by every way there is; return where the files are."""
    whole = server.create(len(content), content)
    empty = server.create(len(content))
    assert server.patch(empty, 0, content).status == 204
    halves = server.create(len(content))
    half = len(content) // 2
    assert server.patch(halves, 0, content[:half]).status == 204
    assert server.patch(halves, half, content[half:]).status == 204
    plain = server.ask("POST", UPLOADS, {"Content-Type": "application/octet-stream"}, content)["location"]
    parts = [
        server.create(len(one), one, Upload_Concat="partial") for one in (content[:half], content[half:]) if len(one)
    ]
    joined = server.ask("POST", UPLOADS, {**TUS, "Upload-Concat": f"final;{' '.join(parts)}"})["location"]
    return [whole, empty, halves, plain, joined]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_every_finished_upload_is_held_until_it_is_scanned(serving, size):
    """Whichever way it came; and no task is given one in which something was found."""
    scan = Scanner()
    server = serving(uploads=Uploads(scan=scan))

    where = ways(server, b"c" * size)
    for one in where:
        found = document(server, one)
        assert (found["state"], found["file"]["verdict"]) == ("finished", "held")
        assert use(server, one).status == 409
        assert server.ask("GET", found["file"]["href"]).status == 409
    assert [name for name, _ in server.site.names()] == [scanning.NAME] * len(where), "stored with each"
    infected = server.create(size + len(MARK), MARK + b"i" * size)
    scan.may.set()
    server.site.settled(len(where) + 1)

    assert [document(server, one)["file"]["verdict"] for one in where] == ["clean"] * len(where)
    assert use(server, where[0]).status == 202
    assert use(server, infected).status == 422
    assert document(server, infected)["file"]["verdict"] == "infected"
    assert server.ask("GET", document(server, infected)["file"]["href"]).status == 403
    server.site.settled(len(where) + 2)
    assert work.journal[-1][1] == b"c" * size
    assert len(scan.seen) == len(where) + 1, "once each, and not again for the task"


PROGRAM = """
import os, signal
from fastapi import FastAPI
from afterwards import Afterwards, Uploads

def scan(file):
    if not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return True

app = FastAPI()
Afterwards(app, uploads=Uploads(scan=scan))
"""


def test_a_scan_whose_process_died_is_made_by_the_next(tmp_path):
    """The scan is a task like any other: it is there if the file is there."""
    (tmp_path / "scanned.py").write_text(PROGRAM)

    def start() -> Program:
        return Program("uvicorn", "scanned:app", "--port", "0", folder=tmp_path, data=tmp_path / "data")

    first = start()
    where = request(first.port, "POST", UPLOADS, {**TUS, "Upload-Length": LARGE})["location"]
    with contextlib.suppress(ConnectionResetError):  # the scan may be quicker than the answer
        request(first.port, "PATCH", where, {**BODY, "Upload-Offset": 0}, bytes(LARGE))
    first.process.wait(work.DEADLINE)
    second = start()
    try:
        data = Data(tmp_path / "data")
        until(lambda: (file := data.reads.file(where[-43:])) is not None and file.verdict is Verdict.CLEAN)
        data.close()
        assert msgspec.json.decode(request(second.port, "GET", where).body)["file"]["verdict"] == "clean"
    finally:
        second.stop()


def test_without_a_scanner_nothing_is_held(serving):
    server = serving()
    where = server.create(SMALL, bytes(SMALL))
    assert document(server, where)["file"]["verdict"] is None
    assert server.site.names() == []


# -- idempotency keys


KEY = {"Idempotency-Key": '"8e03978e-40d5"'}


def creations() -> list[tuple[dict[str, Any], bytes | None]]:
    large = os.urandom(LARGE)
    return [
        ({**TUS, "Upload-Length": LARGE}, None),
        ({**TUS, "Upload-Defer-Length": "1"}, None),
        ({**TUS, "Upload-Length": 0}, None),
        ({**BODY, "Upload-Length": SMALL}, large[:SMALL]),
        ({**BODY, "Upload-Length": LARGE}, large),
        ({"Upload-Complete": "?0", "Upload-Length": LARGE}, large[:1000]),
        ({"Content-Type": "text/plain"}, large[:SMALL]),
        ({"Content-Type": "text/plain"}, large),
    ]


@pytest.mark.parametrize("place", range(8))
def test_a_creation_that_is_sent_again_is_the_same_upload(serving, place):
    headers, body = creations()[place]
    server = serving()

    first = server.ask("POST", UPLOADS, {**headers, **KEY}, body)
    again = [server.ask("POST", UPLOADS, {**headers, **KEY}, body) for _ in range(2)]
    other = server.ask("POST", UPLOADS, {**headers, "Idempotency-Key": "another"}, body)

    assert first.status == 201
    assert first.get("idempotent-replayed") is None
    for one in again:
        assert (one.status, one["location"]) == (201, first["location"])
        assert one["idempotent-replayed"] == "true"
    assert other["location"] != first["location"]
    assert server.site.reads.stored([""])[""].files == 2


def test_a_key_of_another_creation_is_refused(serving):
    server = serving()
    assert server.ask("POST", UPLOADS, {**TUS, **KEY, "Upload-Length": 5}).status == 201

    answer = server.ask("POST", UPLOADS, {**TUS, **KEY, "Upload-Length": 6})

    assert answer.status == 422
    assert msgspec.json.decode(answer.body)["code"] == "idempotency_key_reused"


def test_a_refused_creation_leaves_its_key_free(serving):
    server = serving(uploads=Uploads(max_total=10))
    other = server.create(10)
    assert server.ask("POST", UPLOADS, {**TUS, **KEY, "Upload-Length": 5}).status == 413
    server.ask("DELETE", other, TUS)

    answer = server.ask("POST", UPLOADS, {**TUS, **KEY, "Upload-Length": 5})

    assert answer.status == 201
    assert answer.get("idempotent-replayed") is None


def test_a_creation_whose_body_was_cut_off_goes_on_at_the_address_that_its_key_tells(serving):
    """The client never heard where its upload is."""
    server = serving()
    content = os.urandom(LARGE)
    headers = {**BODY, **KEY, "Upload-Length": LARGE}
    with wire(server.port) as one:
        one.start("POST", UPLOADS, headers, LARGE)
        one.send(content[:300_000])
        until(lambda: server.site.reads.stored([""])[""].files == 1)

    answer = server.ask("POST", UPLOADS, headers, content)
    where = answer["location"]
    at = server.offset(where)

    assert answer["idempotent-replayed"] == "true"
    assert at <= 300_000
    assert server.patch(where, at, content[at:]).status == 204
    assert server.content(where) == content
    assert server.site.reads.stored([""])[""].files == 1


def test_a_plain_upload_that_was_cut_off_is_made_anew_with_the_same_key(serving):
    """Its client can only send it again as a whole."""
    server = serving()
    content = os.urandom(LARGE)
    with wire(server.port) as one:
        one.start("POST", UPLOADS, {**KEY, "Content-Type": "text/plain"}, LARGE)
        one.send(content[:300_000])
        until(lambda: server.site.reads.stored([""])[""].files == 1)
    until(lambda: server.site.reads.stored([""])[""].files == 0)

    def sent() -> Answer:
        return server.ask("POST", UPLOADS, {**KEY, "Content-Type": "text/plain"}, content)

    until(lambda: (answer := sent()).status == 201 and server.content(answer["location"]) == content)
    assert server.site.reads.stored([""])[""].files == 1


def test_the_key_of_a_creation_belongs_to_its_owner(serving):
    server = serving(uploads=Uploads(owner=lambda request: request.headers["x-user"]))
    found = [
        server.ask("POST", UPLOADS, {**TUS, **KEY, "Upload-Length": 5, "X-User": user, "Authorization": token})
        for user, token in (("ann", "1"), ("bob", "1"), ("ann", "2"))
    ]
    assert found[0]["location"] == found[2]["location"] != found[1]["location"]


def test_a_form_that_names_an_upload_is_known_by_its_digest_without_reading_it_again(serving):
    """The bytes are gone from the disk: the digest in the row is enough to know the form again."""
    server = serving()
    where = server.create(LARGE, os.urandom(LARGE))
    form = {**FORM, **KEY}
    first = server.ask("POST", "/use", form, f"file={where[-43:]}".encode())
    server.site.settled(1)
    path = server.site.data / "files" / where[-2:] / where[-43:]
    path.write_bytes(os.urandom(LARGE))  # had it been read, it would be another form

    again = server.ask("POST", "/use", form, f"file={where[-43:]}".encode())

    assert (first.status, again.status) == (202, 202)
    assert again["idempotent-replayed"] == "true"
    assert len(server.site.names()) == 1


# -- what is kept


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_uploads_stay_as_long_as_keep_says(serving, size):
    server = serving(keep=Keep(uploads=timedelta(hours=3)))
    where = server.create(size)
    upload = row(server, where)
    assert upload.expires_at - upload.created_at == 3 * HOUR
    assert server.patch(where, 0, bytes(size // 2)).status == 204
    upload = row(server, where)
    assert upload.expires_at - upload.changed_at == 3 * HOUR
    assert server.patch(where, size // 2, bytes(size - size // 2)).status == 204
    stored = server.site.reads.file(where[-43:])
    assert 3 * HOUR <= stored.kept_until - upload.changed_at < 4 * HOUR
    shown = datetime.fromisoformat(document(server, where)["expires_at"])
    assert abs(shown.timestamp() * 1e6 - stored.kept_until) < 1000
    assert server.ask("HEAD", where)["upload-expires"] == format_datetime(shown.replace(microsecond=0), usegmt=True)

    use(server, where)  # from here on it goes with the task
    server.site.settled(1)

    assert document(server, where)["expires_at"] is None
    assert "upload-expires" not in server.ask("HEAD", where).headers


def test_an_upload_is_over_when_its_file_is_purged(serving):
    """Whoever asks for it is told so, by the upload's address and by a form."""
    server = serving()
    gone, taken = server.create(LARGE, bytes(LARGE)), server.create(LARGE, bytes(LARGE))
    assert use(server, taken).status == 202
    server.site.settled(1)

    wanted = Wanted(tasks=False, files=False, uploads=True, older_than=timedelta(microseconds=1), state=None)
    list(purged(server.site.data, wanted, dry_run=False, ask=None, as_json=False))

    assert row(server, gone).state is UploadState.EXPIRED
    assert server.ask("GET", gone).status == 410
    assert use(server, gone).status == 410
    assert row(server, taken).state is UploadState.FINISHED


def test_an_upload_is_over_when_its_file_is_pruned(serving):
    server = serving(keep=Keep(uploads=timedelta(microseconds=1)))
    where = server.ask("POST", UPLOADS, {"Content-Type": "text/plain"}, b"hello")["location"]
    store = server.site.afterwards._system.store
    later = row(server, where).created_at + HOUR

    pruned = ask_blocking(store, Prune(before=0, now=later, limit=10))

    assert pruned.files == (where[-43:],)
    assert row(server, where).state is UploadState.EXPIRED
    assert server.ask("GET", where).status == 410
    assert server.site.reads.stored([""])[""].files == 0


def test_the_file_of_an_upload_says_what_it_is(serving):
    server = serving()
    found = server.site.reads.file(server.create(LARGE, b"%PDF-1.7" + bytes(LARGE - 8))[-43:])
    assert (found.kind, found.type) == (FileKind.UPLOAD, "application/pdf")
    assert TaskState.QUEUED not in server.site.reads.counts()
