"""Answers that take a while, and WebSockets: a stream's tasks start after its end, a WebSocket's at once."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

import fastapi
import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from afterwards import BackgroundTasks
from support import work
from support.server import serving
from support.site import Site, until

FIRST = ("note", '[["first"],{}]')
SECOND = ("note", '[["second"],{}]')

needs_generators = pytest.mark.skipif(
    tuple(int(part) for part in fastapi.__version__.split(".")[:2]) < (0, 135),
    reason="endpoints that are generators came with FastAPI 0.135",
)


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_task_starts_when_the_stream_has_ended(site: Site, kind: str):
    """It is stored before the first byte, and it does not run while the client still reads."""
    Tasks = site.Tasks
    journals = []

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        journals.append((site.states(), list(work.journal)))
        yield b"two"

    def sync_chunks() -> Iterator[bytes]:
        yield b"one"
        journals.append((site.states(), list(work.journal)))
        yield b"two"

    @site.app.get("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "first")
        return StreamingResponse(chunks() if kind == "async" else sync_chunks())

    with site.client() as client:
        assert client.get("/").content == b"onetwo"
        assert work.journal == ["first"]

    assert site.at_start == [[FIRST]]
    assert journals == [(["waiting"], [])]
    assert site.states() == ["succeeded"]


def test_a_stream_that_waits_for_its_own_task_gets_its_result(site: Site):
    """Held back until the end of the stream, the task would wait for the stream and the stream for the task."""
    Tasks = site.Tasks

    @site.app.get("/")
    async def endpoint(background_tasks: Tasks):
        handle = background_tasks.add_task(work.note, "first")

        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            await handle.result(timeout=work.DEADLINE)
            yield "".join(work.journal).encode()

        return StreamingResponse(chunks())

    with site.client() as client:
        assert client.get("/").content == b"onefirst"

    assert site.at_start == [[FIRST]]
    assert site.states() == ["succeeded"]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_task_added_while_streaming_is_stored_at_once_and_keeps_its_place(site: Site, kind: str, before: bool):
    """The next chunk already rests on it; it runs after the stream and after what was added before."""
    Tasks = site.Tasks
    seen = []

    def look() -> None:
        seen.append((site.names(), list(work.journal)))

    @site.app.get("/")
    async def endpoint(background_tasks: Tasks):
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            background_tasks.add_task(work.note, "second")
            look()
            yield b"two"

        def sync_chunks() -> Iterator[bytes]:
            yield b"one"
            background_tasks.add_task(work.note, "second")
            look()
            yield b"two"

        if before:
            background_tasks.add_task(work.note, "first")
        return StreamingResponse(chunks() if kind == "async" else sync_chunks())

    with site.client() as client:
        client.get("/")
        assert work.journal == (["first", "second"] if before else ["second"])

    assert seen == [([FIRST, SECOND] if before else [SECOND], [])]
    assert site.states() == ["succeeded"] * (1 + before)


def test_a_stream_that_fails_half_way_keeps_its_tasks(site: Site):
    """The client has its 200 and the first chunk: what was stored runs."""
    Tasks = site.Tasks

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        raise RuntimeError("no more")

    @site.app.get("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "first")
        return StreamingResponse(chunks())

    with site.client(raise_server_exceptions=False) as client:
        client.get("/")
        site.settled(1)

    assert work.journal == ["first"]


def _leave_in_the_middle(port: int, path: str, sign: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=work.DEADLINE) as client:
        client.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: site\r\n\r\n")
        received = b""
        while sign not in received:
            chunk = client.recv(65_536)
            assert chunk, received
            received += chunk


def test_a_client_that_leaves_in_the_middle_of_a_stream_takes_no_task_along(site: Site):
    """Stored and answered with 200: a closed laptop does not undo it."""
    Tasks = site.Tasks
    left = threading.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.to_thread(left.wait, work.DEADLINE)
        for _ in range(100):
            yield b"x" * 10_000

    @site.app.get("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "first")
        return StreamingResponse(chunks())

    with serving(site) as port:
        _leave_in_the_middle(port, "/", b"one")
        left.set()
        site.settled(1)

    assert work.journal == ["first"]


async def test_a_server_that_reports_the_disconnect_takes_no_task_along(site: Site):
    """By ASGI 2.4 `send` raises, Starlette drops the response's background, and the tasks with it. Not ours."""
    Tasks = site.Tasks

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    @site.app.get("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "first")
        return StreamingResponse(chunks())

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "root_path": "",
        "headers": [],
    }
    bodies = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            bodies.append(message["body"])
            raise OSError("the client has gone")

    with pytest.raises(Exception):  # noqa: B017, PT011 - Starlette's ClientDisconnect, wrapped by whatever is in between
        await site(scope, receive, send)
    await asyncio.to_thread(site.settled, 1)

    assert bodies == [b"one"]
    assert work.journal == ["first"]


@needs_generators
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_an_endpoint_that_is_a_generator_stores_at_once(site: Site, kind: str):
    """JSON lines: each one may rest on a task that was added for it."""
    Tasks = site.Tasks
    seen = []

    if kind == "async":

        @site.app.get("/")
        async def endpoint(background_tasks: Tasks) -> AsyncIterable[int]:
            background_tasks.add_task(work.note, "first")
            yield 1
            background_tasks.add_task(work.note, "second")
            seen.append((site.names(), list(work.journal)))
            yield 2
    else:

        @site.app.get("/")
        def sync_endpoint(background_tasks: Tasks) -> Iterable[int]:
            background_tasks.add_task(work.note, "first")
            yield 1
            background_tasks.add_task(work.note, "second")
            seen.append((site.names(), list(work.journal)))
            yield 2

    with site.client() as client:
        lines = client.get("/").text.split()
        site.settled(2)

    assert [json.loads(line) for line in lines] == [1, 2]
    assert seen == [([FIRST, SECOND], [])]
    assert work.journal == ["first", "second"]


@needs_generators
def test_server_sent_events_store_at_once(site: Site):
    """The same with FastAPI's response class for them."""
    from fastapi.sse import EventSourceResponse

    Tasks = site.Tasks

    @site.app.get("/", response_class=EventSourceResponse)
    async def endpoint(background_tasks: Tasks) -> AsyncIterable[int]:
        background_tasks.add_task(work.note, "first")
        yield 1
        background_tasks.add_task(work.note, "second")
        yield 2

    with site.client() as client:
        text = client.get("/").text
        site.settled(2)

    assert [line for line in text.splitlines() if line.startswith("data:")] == ["data: 1", "data: 2"]
    assert site.names() == [FIRST, SECOND]
    assert work.journal == ["first", "second"]


def test_a_websockets_tasks_are_stored_when_added_and_run(site: Site):
    """FastAPI injects the object and never runs what is added. There is no answer to wait for, so it is at once."""
    Tasks = site.Tasks

    @site.app.websocket("/")
    async def endpoint(websocket: WebSocket, background_tasks: Tasks):
        await websocket.accept()
        for what in ("first", "second"):
            await websocket.receive_text()
            background_tasks.add_task(work.note, what)
            await websocket.send_json(site.names())
        await websocket.close()

    with site.client() as client, client.websocket_connect("/") as websocket:
        websocket.send_text("go")
        assert websocket.receive_json() == [list(FIRST)]
        until(lambda: work.journal == ["first"])  # the session goes on meanwhile
        websocket.send_text("go")
        assert websocket.receive_json() == [list(FIRST), list(SECOND)]
        until(lambda: work.journal == ["first", "second"])  # before the program stops

    assert len(site.rows()) == 2


def test_a_websockets_dependencies_too(site: Site):
    """Also from a router, also before the connection is accepted."""
    Tasks = site.Tasks
    router = fastapi.APIRouter()

    def dependency(tasks: Tasks):
        tasks.add_task(work.note, "first")

    @router.websocket("/live")
    async def endpoint(websocket: WebSocket, needed: None = Depends(dependency)):
        await websocket.accept()
        await websocket.close()

    site.app.include_router(router, prefix="/sub")
    with site.client() as client:
        with client.websocket_connect("/sub/live"):
            pass
        site.settled(1)

    assert work.journal == ["first"]


def test_a_websocket_that_fails_keeps_what_it_stored(site: Site):
    """Stored is stored: nobody can tell how much of it the other side has heard."""
    Tasks = site.Tasks

    @site.app.websocket("/")
    async def endpoint(websocket: WebSocket, background_tasks: Tasks):
        await websocket.accept()
        background_tasks.add_task(work.note, "first")
        raise RuntimeError("broken")

    with site.client() as client:
        with pytest.raises(RuntimeError), client.websocket_connect("/") as websocket:
            websocket.receive_text()
        site.settled(1)

    assert work.journal == ["first"]


def test_a_websocket_of_a_foreign_app_is_left_alone(new_site: Any):
    """An app without Afterwards gets what it always got: the object, and nothing that runs."""
    new_site("b")
    other = FastAPI()
    seen = []

    @other.websocket("/")
    async def endpoint(websocket: WebSocket, background_tasks: fastapi.BackgroundTasks):
        await websocket.accept()
        background_tasks.add_task(work.note, "never")
        seen.append(type(background_tasks))
        await websocket.close()

    with TestClient(other) as client, client.websocket_connect("/"):
        pass

    assert seen == [fastapi.BackgroundTasks]
    assert not isinstance(seen[0], BackgroundTasks)
    assert work.journal == []
