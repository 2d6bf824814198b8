"""Requests that fail leave nothing; once the answer says yes, everything stays and runs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import apsw
import pytest
from fastapi import Depends, HTTPException, Response, UploadFile
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask

from afterwards import BackgroundTasks
from afterwards.errors import UnstorableFunction, WrongArguments
from support import work
from support.server import Program
from support.site import Site, until, until_async

BIG = 300_000  # bytes: a file of its own, not part of a row


class Broken(Exception):
    """Something a program raises."""


def _raise(kind: str) -> None:
    match kind:
        case "exception":
            raise Broken
        case "HTTPException":
            raise HTTPException(409, "taken")


@pytest.mark.parametrize("kind", ["exception", "HTTPException"])
@pytest.mark.parametrize("place", ["endpoint", "def endpoint", "dependency", "function exit", "sync function exit"])
def test_what_raises_drops_the_tasks_and_their_files(site: Site, kind: str, place: str):
    """An error must not have effects. That is FastAPI's rule, and it holds for the upload too."""
    Tasks = site.Tasks

    async def dependency(tasks: Tasks) -> AsyncIterator[None]:
        tasks.add_task(work.note, "dependency")
        yield
        if place == "function exit":
            _raise(kind)

    def sync_dependency() -> Iterator[None]:
        yield
        if place == "sync function exit":
            _raise(kind)

    async def late_dependency() -> None:
        if place == "dependency":
            _raise(kind)

    One = Annotated[None, Depends(dependency, scope="function")]
    Two = Annotated[None, Depends(sync_dependency, scope="function")]
    Three = Annotated[None, Depends(late_dependency)]

    if place == "def endpoint":

        @site.app.post("/")
        def endpoint_on_thread(file: UploadFile, background_tasks: Tasks, one: One, two: Two, three: Three):
            background_tasks.add_task(work.read_upload, file)
            _raise(kind)
    else:

        @site.app.post("/")
        async def endpoint(file: UploadFile, background_tasks: Tasks, one: One, two: Two, three: Three):
            background_tasks.add_task(work.read_upload, file)
            if place == "endpoint":
                _raise(kind)

    with site.client(raise_server_exceptions=False) as client:
        answer = client.post("/", files={"file": b"x" * BIG})
        until(lambda: site.files() == [], site.files)

    assert answer.status_code == (409 if kind == "HTTPException" else 500)
    assert "link" not in answer.headers
    assert site.rows() == []
    assert site.at_start == [[]]
    assert work.journal == []


def test_an_answer_that_does_not_fit_its_model_drops_the_tasks(site: Site):
    """The client is told 500, so nothing was promised."""
    Tasks = site.Tasks

    @site.app.post("/", response_model=int)
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        return "not a number"

    with site.client() as client, pytest.raises(ResponseValidationError):
        client.post("/")

    assert site.rows() == []
    assert work.journal == []


def test_a_request_that_does_not_validate_drops_what_dependencies_added(site: Site):
    """FastAPI solves every dependency before it answers 422."""
    Tasks = site.Tasks

    async def dependency(file: UploadFile, tasks: Tasks):
        tasks.add_task(work.read_upload, file)

    @site.app.post("/", dependencies=[Depends(dependency)])
    async def endpoint(number: int):
        raise AssertionError("not reached")

    with site.client() as client:
        answer = client.post("/", params={"number": "x"}, files={"file": b"x" * BIG})
        until(lambda: site.files() == [], site.files)

    assert answer.status_code == 422
    assert site.rows() == []


def test_an_endpoint_that_catches_its_own_error_keeps_its_tasks(site: Site):
    """It answered, so it is an answer."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        try:
            background_tasks.add_task(work.note, "x")
            raise Broken
        except Broken:
            return JSONResponse({"detail": "broken"}, 500)

    with site.client() as client:
        assert client.post("/").status_code == 500

    assert work.journal == ["x"]


def test_what_raises_after_the_answer_drops_nothing(site: Site):
    """The client has its 200: a request-scoped exit that fails then must not undo it."""
    Tasks = site.Tasks

    async def dependency() -> AsyncIterator[None]:
        yield
        raise Broken

    @site.app.post("/", dependencies=[Depends(dependency)])
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")

    with site.client(raise_server_exceptions=False) as client:
        assert client.post("/").status_code == 200
        site.settled(1)

    assert work.journal == ["x"]


class FailsLater(BackgroundTask):
    """A response's own background work, which is nobody's but its own."""

    def __init__(self) -> None:
        super().__init__(work.note)

    async def __call__(self) -> None:
        raise Broken


def test_a_responses_own_background_that_raises_drops_nothing(site: Site):
    """Whatever a program of somebody's own class does after the answer."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        return Response(background=FailsLater())

    with site.client(raise_server_exceptions=False) as client:
        assert client.post("/").status_code == 200
        site.settled(1)

    assert work.journal == ["x"]


class CannotBeSent(Response):
    """A response that fails before its first byte, when the tasks are stored already."""

    async def __call__(self, *asgi: Any) -> None:
        raise Broken


def test_a_response_that_cannot_be_sent_leaves_nothing_in_limbo(site: Site):
    """Stored before the failure, so it runs: at the end of the request, not when somebody collects garbage."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        return CannotBeSent()

    with site.client(raise_server_exceptions=False) as client:
        assert client.post("/").status_code == 500
        site.settled(1)

    assert work.journal == ["x"]


@pytest.mark.parametrize(
    ("add", "error"),
    [
        (lambda tasks: tasks.add_task(work.note, "x", "one too many"), WrongArguments),
        (lambda tasks: tasks.add_task(work.read_upload), WrongArguments),
        (lambda tasks: tasks.add_task(work.Printer("laser").note, "x"), UnstorableFunction),
        (lambda tasks: tasks.add_task(work.note("called")), UnstorableFunction),
    ],
)
def test_a_call_that_could_not_run_is_refused_while_the_client_listens(new_site: Any, add: Any, error: type[Exception]):
    """And what was added before it goes with it: the request failed."""
    site = new_site("a")

    @site.app.post("/")
    async def endpoint(background_tasks: BackgroundTasks):
        background_tasks.add_task(work.note, "x")
        add(background_tasks)

    with site.client() as client, pytest.raises(error):
        client.post("/")

    assert site.rows() == []


@contextmanager
def _full_disk(site: Site) -> Iterator[None]:
    """Let the database's file grow no further: SQLite then reports what it reports when the disk is full."""
    connection = site.afterwards._system.store._writer._session._connection
    before = connection.pragma("max_page_count")
    connection.pragma("max_page_count", connection.pragma("page_count"))
    try:
        yield
    finally:
        connection.pragma("max_page_count", before)


def test_a_full_disk_is_told_to_the_client_and_nothing_runs(site: Site):
    """507 instead of a promise that cannot be kept; when there is room again, it goes on."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: Tasks):
        background_tasks.add_task(work.note, "x" * 200_000)
        background_tasks.add_task(work.read_upload, file)

    with site.client(raise_server_exceptions=False) as client:
        with _full_disk(site):
            answer = client.post("/", files={"file": b"x" * BIG})
            rows, files = site.rows(), site.files()
            assert work.journal == []
        again = client.post("/", files={"file": b"x" * BIG})

    assert answer.status_code == 507
    assert answer.headers["retry-after"] == "10"
    assert "no room left" in answer.json()["detail"]
    assert (rows, files) == ([], [])
    assert again.status_code == 200
    assert site.states() == ["succeeded", "succeeded"]


def test_a_program_that_stops_takes_no_more_tasks(site: Site):
    """503 while it drains: the client sends it again to whoever serves next."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")

    with site.client(raise_server_exceptions=False) as client:
        client.post("/")
        site.afterwards._system.engine.stopping = True
        answer = client.post("/")
        site.afterwards._system.engine.stopping = False

    assert answer.status_code == 503
    assert "stopping" in answer.json()["detail"]
    assert len(site.rows()) == 1


@contextmanager
def _held_lock(site: Site) -> Iterator[None]:
    """Be another program that writes to the database: no commit can end meanwhile."""
    connection = apsw.Connection(str(site.data / "afterwards.db"))
    connection.set_busy_timeout(10_000)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


BODY = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * BIG + b"\r\n--b--\r\n"


async def _unanswered(site: Site, path: str) -> None:
    """Send an upload as a server does that will cancel the request before its answer."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "POST",
        "path": path,
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"multipart/form-data; boundary=b")],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Any) -> None:
        raise AssertionError(f"{message} was sent before the request was cancelled")

    await site(scope, receive, send)


@pytest.mark.parametrize("moment", ["at once", "with its file", "with its rows"])
@pytest.mark.parametrize("path", ["/plain", "/upload"])
async def test_a_request_cancelled_while_it_commits_leaves_nothing_in_limbo(site: Site, path: str, moment: str):
    """Nobody heard an answer, so either fate is right: stored and run, or gone with its file."""
    Tasks = site.Tasks
    returned = asyncio.Event()

    @site.app.post("/plain")
    async def plain(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        returned.set()

    @site.app.post("/upload")
    async def with_file(file: UploadFile, background_tasks: Tasks):
        background_tasks.add_task(work.read_upload, file)
        returned.set()

    await site.afterwards.start()
    system = site.afterwards._system
    with _held_lock(site):
        request = asyncio.create_task(_unanswered(site, path))
        async with asyncio.timeout(work.DEADLINE):
            await returned.wait()
        if path == "/upload" and moment != "at once":
            await until_async(lambda: any(file.is_file() for file in (site.data / "files").rglob("*")))
        for _ in range(20 if moment == "with its rows" else 0):  # turns of the loop: the rows are handed over
            await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    await until_async(lambda: system.engine.lanes.busy() == 0)
    if site.rows():
        await until_async(lambda: site.states() == ["succeeded"], site.states)
    assert len(work.journal) == len(site.rows())
    kept = len(site.rows()) if path == "/upload" else 0
    await until_async(lambda: len(site.files()) == kept, site.files)


async def test_a_request_cancelled_in_its_endpoint_leaves_nothing(site: Site):
    """A server that gives up on a client cancels the request."""
    Tasks = site.Tasks
    added = asyncio.Event()

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: Tasks):
        background_tasks.add_task(work.read_upload, file)
        added.set()
        await asyncio.Event().wait()

    request = asyncio.create_task(_unanswered(site, "/"))
    async with asyncio.timeout(work.DEADLINE):
        await added.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request

    await until_async(lambda: site.files() == [], site.files)
    assert site.rows() == []
    lanes = site.afterwards._system.engine.lanes
    await until_async(lambda: lanes.busy() == 0, lanes.busy)  # a claim holds all free places for a moment


def test_a_start_that_is_refused_is_one_sentence_in_the_servers_log(tmp_path):
    """Whoever reads it named a wrong folder, and has no use for the way through our code to that place."""
    (tmp_path / "data").write_text("a file")
    (tmp_path / "refused.py").write_text(
        "from fastapi import FastAPI\nfrom afterwards import Afterwards\napp = FastAPI()\nAfterwards(app)\n"
    )

    server = Program("uvicorn", "refused:app", "--port", "0", folder=tmp_path, data=tmp_path / "data")

    server.wait_for(r"afterwards: the data directory .*/data is a file\. Choose a folder")
    server.wait_for("Application startup failed")
    assert server.end() == 3
    assert not [line for line in server.lines if "Traceback" in line]
