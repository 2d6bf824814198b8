"""What our protocol adds to uvicorn: limits on slow clients, refusal without reading, interim answers."""

import asyncio
import gc
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from websockets.sync.client import connect

from afterwards._domain.pace import Pace
from afterwards._server import exchange
from afterwards._web.bodies import drain
from afterwards.server import HttpProtocol
from support.server import serving
from support.site import until, until_async
from support.wire import descriptors, head, wire

LOOPS = ["uvloop", "asyncio"]
READS: list[int] = []


class Watched(HttpProtocol):
    """The real one, noting how much it reads, and less patient than a real client deserves."""

    header_timeout = 0.3
    pace = Pace(stall=0.2, rate=1_000_000.0, grace=0.5)
    linger = 0.5

    def buffer_updated(self, nbytes: int) -> None:
        READS.append(nbytes)
        super().buffer_updated(nbytes)


Serve = Callable[[Any], Any]


@pytest.fixture(params=LOOPS)
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Serve:
    READS.clear()
    monkeypatch.setattr(exchange, "TICK", 0.05)
    monkeypatch.setattr(exchange, "MARGIN", 0.0)

    @contextmanager
    def start(app: Any) -> Iterator[int]:
        async def without_lifespan(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        with serving(without_lifespan, http=Watched, loop=request.param, lifespan="off") as port:
            yield port

    return start


async def answer(send: Any, status: int = 200, body: bytes = b"done") -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_all(receive: Any) -> int:
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError(f"left after {size} bytes")
        size += len(message["body"])
        if not message["more_body"]:
            return size


async def counting(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, body=b"%d" % await read_all(receive))


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, 413, b"too large")


GIB = 1 << 30


def keep_sending(line: socket.socket) -> int:
    """Send until nobody takes it any more."""
    line.settimeout(0.2)
    sent = 0
    try:
        while True:
            sent += line.send(b"x" * 65_536)
    except OSError:
        return sent
    finally:
        line.settimeout(20)


def test_of_a_refused_body_no_more_is_read_than_came_with_its_head(serve: Serve):
    """At most 64 KiB, and the client sees the answer although it goes on sending for a while."""
    with serve(refusing) as port, wire(port) as client:
        client.send(head("/", GIB) + b"x" * 60_000)
        keep_sending(client.socket)
        refused = client.answer()

        assert (refused.status, refused.body, refused.headers["connection"]) == (413, b"too large", "close")
        assert client.end() == b""
    assert 0 < sum(READS) <= 65_536


def test_a_refused_chunked_body_is_not_read_either(serve: Serve):
    with serve(refusing) as port, wire(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        refused = client.answer()
        client.socket.settimeout(0.2)
        try:
            for _ in range(10_000):
                client.socket.send(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        except OSError:
            pass

    assert (refused.status, refused.headers["connection"]) == (413, "close")
    assert sum(READS) <= 65_536


@pytest.mark.parametrize("size", [1, 100_000])
def test_of_a_body_in_crumbs_little_is_read_at_a_time(serve: Serve, size: int):
    """Each chunk takes as long as a large one, and others wait: 256 KiB of one-byte chunks were 0.1 s."""
    number = 600_000 // size
    with serve(counting) as port, wire(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send((b"%x\r\n" % size + b"x" * size + b"\r\n") * number + b"0\r\n\r\n")
        assert client.answer().body == b"%d" % (size * number)

    # The first has the head and what came with it.
    assert (max(READS[1:]) <= 4096) == (size == 1)


def test_a_client_that_never_leaves_is_left(serve: Serve):
    """The unread connection stays for the moment that a client needs to read why, and no longer."""
    with serve(refusing) as port:
        before = descriptors()
        with wire(port) as client:
            client.send(head("/", GIB)).answer()
            until(lambda: descriptors() <= before + 1)  # the client's own end


def test_a_small_rest_is_read_and_the_connection_goes_on(serve: Serve):
    """A body that fits into the buffers costs less than a new connection."""
    with serve(refusing) as port, wire(port) as client:
        for _ in range(3):
            assert client.send(head("/", 60_000) + b"x" * 60_000).answer().status == 413


def test_a_client_that_was_not_told_to_go_on_is_answered_at_once(serve: Serve):
    with serve(refusing) as port, wire(port) as client:
        assert client.send(head("/", GIB, b"Expect: 100-continue")).answer().status == 413
        assert client.end() == b""


def test_an_early_answer_after_part_of_the_body_ends_the_connection(serve: Serve):
    async def tired(scope: Any, receive: Any, send: Any) -> None:
        size = 0
        while size < 1_000_000:
            size += len((await receive())["body"])
        await answer(send, 413, b"x" * 3_000_000)  # more than the socket takes at once

    with serve(tired) as port, wire(port) as client:
        client.send(head("/", GIB) + b"x" * 1_000_000)
        refused = client.answer()

    assert (refused.status, len(refused.body), refused.headers["connection"]) == (413, 3_000_000, "close")
    assert sum(READS) < 3_000_000


@pytest.mark.parametrize("start", [b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_head_that_does_not_end_is_408(serve: Serve, start: bytes):
    with serve(counting) as port, wire(port) as client:
        given_up = client.send(start).answer()

        assert (given_up.status, given_up.headers["connection"]) == (408, "close")
        assert client.end() == b""


def test_a_head_that_grows_too_long_is_431(serve: Serve):
    """It may come fast enough, and would fill the memory."""
    with serve(counting) as port, wire(port) as client:
        try:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 500_000)
        except OSError:
            pass  # refused in the middle
        given_up = client.answer()

        assert (given_up.status, given_up.headers["connection"]) == (431, "close")
    assert sum(READS) <= 3 * 65_536


def test_a_head_of_many_fields_is_taken(serve: Serve):
    with serve(counting) as port, wire(port) as client:
        line = b"X: " + b"y" * 500 + b"\r\n"
        assert client.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + line * 100 + b"\r\n").answer().status == 200


def test_a_websocket_is_not_held_to_the_limits_of_a_request(serve: Serve):
    """It lives for hours, long after its head."""
    begun = time.monotonic()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": "pong"})

    with serve(app) as port, connect(f"ws://127.0.0.1:{port}/") as client:
        while time.monotonic() - begun < 3 * Watched.header_timeout:
            client.send("ping")
            assert client.recv(timeout=20) == "pong"


def test_a_connection_without_a_request_is_closed(serve: Serve):
    with serve(counting) as port, wire(port) as client:
        assert client.end() == b""


def test_a_later_head_has_the_same_time(serve: Serve):
    """Also one of which only line ends come, which are allowed before it."""
    with serve(counting) as port:
        for start in (b"GET", b"\r\n\r\n"):
            with wire(port) as client:
                assert client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 200
                rest = client.send(start).end()
            assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("length", [100, 300_000])
def test_a_body_that_stops_is_408(serve: Serve, length: int):
    with serve(counting) as port, wire(port) as client:
        given_up = client.send(head("/", length) + b"x" * 50).answer()

        assert (given_up.status, given_up.headers["connection"]) == (408, "close")
        assert client.end() == b""


def test_a_body_that_trickles_is_408(serve: Serve):
    """It never stops, and would take days."""
    with serve(counting) as port, wire(port) as client:
        client.send(head("/", 300_000))
        ended = threading.Event()

        def trickle() -> None:
            while not ended.wait(0.02):
                try:
                    client.send(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert client.answer().status == 408
        finally:
            ended.set()
            thread.join()


def test_an_application_that_does_not_read_is_not_the_clients_fault(serve: Serve):
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(1.0)  # five times what a client that stalls would get
        await counting(scope, receive, send)

    with serve(slow) as port, wire(port) as client:
        assert client.send(head("/", 1_000_000) + b"x" * 1_000_000).answer().body == b"1000000"


def test_interim_answers_come_before_the_final_one(serve: Serve):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        interim = scope["extensions"]["afterwards.interim"]
        await interim(104, [(b"location", b"/files/1")])
        await interim(103, [(b"link", b"</a.css>; rel=preload")])
        await counting(scope, receive, send)
        await interim(103)  # too late to be sent, and no error

    with serve(app) as port, wire(port) as client:
        client.send(head("/", 5) + b"hello")
        answers = [client.answer() for _ in range(3)]

        assert [one.status for one in answers] == [104, 103, 200]
        assert (answers[0].headers["location"], answers[2].body) == ("/files/1", b"5")
        assert client.send(head("/", 2) + b"hi").answer().status == 104


@pytest.mark.parametrize(
    ("status", "headers"), [(200, []), (101, []), (103, [(b"a\r\nb", b"c")]), (103, [(b"a", b"b\r\nc: d")])]
)
def test_an_interim_answer_that_is_none_is_refused(serve: Serve, status: int, headers: list[tuple[bytes, bytes]]):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(ValueError, match=r"informational|no header may have"):
            await scope["extensions"]["afterwards.interim"](status, headers)
        await answer(send)

    with serve(app) as port, wire(port) as client:
        assert client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").answer().body == b"done"


def test_refusing_in_the_middle_reads_no_more(serve: Serve):
    """Even where something waits for the client to leave, which asks for the body otherwise."""

    refused, sent = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope["extensions"]["afterwards.refuse"]()
        refused.set()
        waiting = asyncio.ensure_future(read_all(receive))
        await until_async(sent.is_set)
        await answer(send, 413)
        with pytest.raises(ConnectionError):
            await waiting

    with serve(app) as port, wire(port) as client:
        client.send(head("/", GIB) + b"x")
        assert refused.wait(20)
        keep_sending(client.socket)
        sent.set()
        assert client.answer().status == 413
    assert sum(READS) <= 65_536 + 262_144  # what the application asked for, once


def test_older_http_gets_no_more_than_it_knows(serve: Serve):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, body=b"%d" % len(scope.get("extensions", {})))

    with serve(app) as port, wire(port) as client:
        assert client.send(b"GET / HTTP/1.0\r\n\r\n").answer().body == b"0"


def test_without_httptools_uvicorns_own_protocol_serves(tmp_path: Path):
    """Slower, but as correct; and the log says so."""
    code = (
        "import sys; sys.modules['httptools'] = None; from afterwards.server import HttpProtocol; print(HttpProtocol)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)

    assert "H11Protocol" in found.stdout
    assert found.stderr.count("httptools is not installed") == 1


UPGRADE = b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 400000\r\n\r\nabc",
        b"POST / HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 100000\r\n\r\nabc",
        b"GET / HTTP/1.1\r\n" + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.0\r\n" + UPGRADE + b"\r\n",
        b"HEAD / HTTP/1.1\r\n" + UPGRADE + b"\r\n",
    ],
    ids=str,
)
def test_an_upgrade_that_is_none_is_refused(serve: Serve, request_: bytes):
    """Nobody would go on with it, and nobody would close it."""
    with serve(counting) as port, wire(port) as client:
        refused = client.send(request_).answer()

        assert (refused.status, refused.headers["connection"]) == (400, "close")
        assert b"WebSocket" in refused.body
        assert client.end() == b""


@pytest.mark.parametrize("more", [b"", b"X: " + b"a" * 20_000 + b"\r\n"], ids=["no key", "long header"])
def test_a_websocket_whose_handshake_comes_to_nothing_is_closed(serve: Serve, more: bytes):
    with serve(counting) as port:
        before = descriptors()
        with wire(port) as client:
            client.send(b"GET / HTTP/1.1\r\n" + UPGRADE + more + b"\r\n").end()
            until(lambda: descriptors() <= before + 1)  # the client's own end


def test_an_application_may_think_before_it_accepts_a_websocket(serve: Serve):
    """It has the whole handshake, so it is not the client that is waited for."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3 * Watched.header_timeout)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "at last"})
        await receive()
        await receive()

    with serve(app) as port, connect(f"ws://127.0.0.1:{port}/") as client:
        assert client.recv(timeout=20) == "at last"


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: chunked", b"identity, chunked"])
def test_a_body_in_another_coding_is_501(serve: Serve, coding: bytes):
    """Its bytes would be taken for those of the file."""
    with serve(counting) as port, wire(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: " + coding + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        refused = client.answer()

        assert (refused.status, refused.headers["connection"]) == (501, "close")
        assert client.end() == b""


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b" chunked "])
def test_a_chunked_body_is_taken(serve: Serve, coding: bytes):
    with serve(counting) as port, wire(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: " + coding + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        assert client.answer().body == b"5"


@pytest.mark.parametrize("length", [5, 300_000])
def test_older_http_is_not_told_to_go_on(serve: Serve, length: int):
    """RFC 9110, section 10.1.1: an HTTP/1.0 client takes 100 for the answer."""
    with serve(counting) as port, wire(port) as client:
        start = head("/", length, b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
        assert client.send(start + b"x" * length).answer().body == b"%d" % length


@pytest.mark.parametrize("size", [1_000, 100_000, 1_000_000])
def test_nothing_of_a_request_is_left_for_the_garbage_collector(size: int):
    """What a request had hangs together in circles; thousands of them between two collections are much memory."""
    cycles: list[weakref.ref[Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        cycles.append(weakref.ref(receive.__self__))
        await answer(send, body=b"%d" % await drain(Request(scope, receive), bytes))

    gc.disable()
    try:
        with serving(app, http=HttpProtocol, lifespan="off") as port, wire(port) as client:
            for _ in range(3):
                assert client.send(head("/", size) + b"x" * size).answer().body == b"%d" % size
            until(lambda: [one() for one in cycles[:-1]] == [None, None])
    finally:
        gc.enable()
