"""Draining a body, by both ways: to whoever writes it, with every end it can come to."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.requests import Request

from afterwards._domain.pace import Pace
from afterwards._server import taking
from afterwards._server.lending import Threads
from afterwards._web.bodies import drain
from afterwards.errors import BodyTooLarge, BodyTooSlow, ClientLeft, TakenOver
from support.server import serving
from support.site import until, until_async
from support.wire import WAYS, head, wire

RAW = b"application/octet-stream"


class Draining:
    """An application that drains each body into memory and says how that ended."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.blocks: list[bytes] = []
        self.threads: set[str] = set()
        self.kinds: set[type] = set()
        self.ends: list[object] = []
        self.begun = threading.Event()
        self.request = Request

    def write(self, block: Any) -> None:
        self.threads.add(threading.current_thread().name)
        self.kinds.add(type(block))
        self.blocks.append(bytes(block))
        self.begun.set()

    @property
    def content(self) -> bytes:
        return b"".join(self.blocks)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        end: object
        try:
            end = await drain(self.request(scope, receive, send), self.write, **self.options)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            end = error
        self.ends.append(end)
        body = repr(end).encode()
        status = 200 if isinstance(end, int) else 400
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


Serve = Callable[[Draining], Any]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def serve(way: str) -> Serve:
    @contextmanager
    def start(app: Draining) -> Iterator[int]:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        with serving(application, lifespan="off", **WAYS[way]) as port:
            yield port

    return start


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, 4_000_001])
def test_a_body_is_handed_over_as_it_came(serve: Serve, way: str, size: int):
    """By the way that is meant: otherwise both would be the same one, and nobody noticed."""
    app, content = Draining(), os.urandom(size)
    with serve(app) as port, wire(port) as client:
        for _ in range(2):
            assert client.send(head("/", size, kind=RAW) + content).answer().body == b"%d" % size

    assert app.content == content * 2
    assert all(name.startswith("afterwards-") for name in app.threads)
    assert bool(app.kinds - {bytes}) == (way != "portable" and size > 262_144)


def test_a_small_body_needs_no_thread_where_none_is_asked_for(serve: Serve):
    app = Draining(inline=262_144)
    with serve(app) as port, wire(port) as client:
        client.send(head("/", 262_144, kind=RAW) + b"x" * 262_144).answer()

    assert len(app.content) == 262_144
    assert not any(name.startswith("afterwards-") for name in app.threads)


def test_whoever_wants_to_see_the_bytes_sees_them(serve: Serve):
    """A `Request` class of the program's own may unpack them; a middleware may count them."""

    class Doubling(Request):
        async def stream(self) -> Any:
            async for chunk in super().stream():
                yield chunk + chunk

    app = Draining()
    app.request = Doubling
    with serve(app) as port, wire(port) as client:
        client.send(head("/", 1_000_000, kind=RAW) + b"x" * 1_000_000).answer()
    assert len(app.content) == 2_000_000

    app, counted = Draining(), []

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def counting() -> Any:
            message = await receive()
            counted.append(len(message["body"]))
            return message

        await app(scope, counting, send)

    with serve(middleware) as port, wire(port) as client:  # type: ignore[arg-type]
        client.send(head("/", 1_000_000, kind=RAW) + b"x" * 1_000_000).answer()
    assert sum(counted) == len(app.content) == 1_000_000


def test_a_declared_length_above_the_limit_is_refused_unread(serve: Serve):
    app = Draining(limit=1_000)
    with serve(app) as port, wire(port) as client:
        client.send(head("/", 1 << 30, kind=RAW)).answer()

    (end,) = app.ends
    assert isinstance(end, BodyTooLarge)
    assert app.blocks == []


def test_an_undeclared_length_above_the_limit_is_refused_when_passed(serve: Serve):
    app = Draining(limit=1_000_000)
    start = head("/", 0, kind=RAW).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with serve(app) as port, wire(port) as client:
        client.send(start)
        try:
            for _ in range(100):
                client.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        except OSError:
            pass  # refused in the middle
        client.answer()

    assert isinstance(app.ends[0], BodyTooLarge)
    assert len(app.content) <= 1_000_000


@pytest.mark.parametrize("sent", [1, 200_000, 2_000_000])
def test_what_came_before_a_client_left_is_kept(serve: Serve, way: str, sent: int):
    """A resumable upload goes on from there."""
    app = Draining()
    content = os.urandom(sent)
    with serve(app) as port:
        with wire(port) as client:
            client.send(head("/", 5_000_000, kind=RAW) + content)
            if way != "portable":  # uvicorn's own forgets what it had not handed out when the client left
                until(lambda: len(app.content) == sent, lambda: len(app.content))
        until(lambda: bool(app.ends))

    (end,) = app.ends
    assert isinstance(end, ClientLeft)
    assert content.startswith(app.content)
    assert end.received == len(app.content)


@pytest.mark.parametrize("sent", [10, 2_000_000])
def test_a_client_that_is_too_slow_is_given_up(serve: Serve, sent: int):
    app = Draining(pace=Pace(stall=0.3))
    with serve(app) as port, wire(port) as client:
        answer = client.send(head("/", 5_000_000, kind=RAW) + b"x" * sent).answer()

    (end,) = app.ends
    assert isinstance(end, BodyTooSlow)
    assert (end.received, len(app.content), answer.status) == (sent, sent, 400)


@pytest.mark.parametrize("sent", [10, 2_000_000])
def test_another_request_can_take_over(serve: Serve, sent: int):
    stop = threading.Event()
    app = Draining(stop=stop)
    with serve(app) as port, wire(port) as client:
        client.send(head("/", 5_000_000, kind=RAW) + b"x" * sent)
        if sent > 10:
            assert app.begun.wait(20)
        stop.set()
        client.answer()

    (end,) = app.ends
    assert isinstance(end, TakenOver)
    assert end.received == len(app.content)


def test_a_steady_client_leaves_room_for_another(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    """One that never pauses takes turns with others, or as many of them as there are threads would stop the rest."""
    monkeypatch.setattr(taking, "_threads", Threads("taking", 1))

    class Steady(Draining):
        def write(self, block: Any) -> None:
            super().write(block)
            if block[0] == ord("x"):
                steady.send(b"x" * len(block))  # there is more as soon as it asks

    app = Steady()
    with serve(app) as port, wire(port) as steady:
        steady.send(head("/", 1 << 40, kind=RAW) + b"x" * 2_000_000)
        assert app.begun.wait(20)
        with wire(port) as other:
            assert other.send(head("/", 1_000_000, kind=RAW) + b"y" * 1_000_000).answer().body == b"1000000"
        assert app.ends == [1_000_000]

    assert app.content.count(b"y") == 1_000_000


def test_a_body_for_which_there_is_no_descriptor_comes_the_ordinary_way(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    def refusing(descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "dup", refusing)
    app, content = Draining(), os.urandom(3_000_000)
    with serve(app) as port, wire(port) as client:
        for _ in range(2):
            assert client.send(head("/", len(content), kind=RAW) + content).answer().body == b"3000000"

    assert app.content == content * 2
    assert app.kinds == {bytes}


def test_what_writing_raises_ends_it(serve: Serve):
    class Failing(Draining):
        def write(self, block: Any) -> None:
            super().write(block)
            raise OSError(28, "full")

    app = Failing()
    with serve(app) as port, wire(port) as client:
        try:
            client.send(head("/", 50_000_000, kind=RAW) + b"x" * 50_000_000)
        except OSError:
            pass  # refused in the middle
        assert client.answer().status == 400

    assert isinstance(app.ends[0], OSError)
    assert len(app.blocks) == 1


def test_a_cancelled_draining_has_ended_when_it_says_so(serve: Serve):
    """Whoever cancels closes the file next."""
    writing, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    class Slow(Draining):
        def write(self, block: Any) -> None:
            writing.set()
            assert go_on.wait(20)
            order.append("written")

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            draining = asyncio.ensure_future(drain(Request(scope, receive, send), self.write))
            await until_async(writing.is_set)
            draining.cancel()
            asyncio.get_running_loop().call_later(0.1, go_on.set)
            with pytest.raises(asyncio.CancelledError):
                await draining
            order.append("cancelled")
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    with serve(Slow()) as port, wire(port) as client:
        try:
            client.send(head("/", 5_000_000, kind=RAW) + b"x" * 3_000_000)
        except OSError:
            pass
        assert client.answer().status == 200

    assert order == ["written", "cancelled"]
