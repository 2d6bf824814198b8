"""Hands the body of a request to a function that may block, without the event loop carrying it where the server can.

Fast: `afterwards/_server` gives the application a way to have a thread read the socket. Portable, on any server: what
the event loop receives is collected to 1 MiB and handed over on a thread, while the next MiB arrives. Both hand over
the same bytes and raise the same errors; which one it is depends only on the server and on what stands before us: a
middleware or a `Request` class of the program's own that may want to see the bytes gets to see them.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing, suppress
from typing import Any, Protocol

from starlette.requests import ClientDisconnect, Request

from afterwards._domain.pace import Pace
from afterwards._files.pools import Pool, ended
from afterwards.errors import BodyTooLarge, BodyTooSlow, ClientLeft, TakenOver

Block = bytes | bytearray | memoryview
Write = Callable[[Any], object]  # is given a Block, which is its own only until it returns

INLINE = 262_144  # bytes up to which a body is better off without a thread: each change of threads costs up to 5 ms
COLLECT = 1 << 20  # bytes that are handed over together
LOOK = 0.2  # seconds between looks at whether another request takes over
THREADS = 16

_threads = Pool("body", THREADS)
_PACE = Pace()


class TakeBody(Protocol):
    """What a server offers as `scope["extensions"]["afterwards.take_body"]`."""

    receive: Any  # the server's own `receive`; with any other, somebody else wants to see the body
    left: int  # bytes of the body that the application has not been given

    async def __call__(self, write: Write, *, pace: Pace, stop: threading.Event | None) -> int | None:
        """Do what `drain` promises, or nothing, and return None."""
        ...


async def drain(
    request: Request,
    write: Write,
    *,
    limit: int | None = None,
    pace: Pace = _PACE,
    stop: threading.Event | None = None,
    inline: int = 0,
) -> int:
    """Hand the rest of a request's body to `write`, block by block and in order; return how many bytes there were.

    Whatever ends it, `write` is not running any more when this returns or raises.

    Args:
        request: What has been read of its body before is not handed over again.
        write: Takes bytes, a bytearray or a memoryview, of any length, which it must not keep: the memory is used
            again. It is called on one thread at a time, not always the same, and may block. What it raises ends the
            draining and is raised here.
        limit: The most bytes to take.
        pace: The slowest sending to put up with.
        stop: Set by another request that takes over; noticed within half a second.
        inline: Hand over bodies of up to so many bytes on the event loop's own thread. For a `write` that only works
            in memory.

    Raises:
        BodyTooLarge: The declared length is above the limit, and then nothing was read; or more than that came.
        BodyTooSlow: The client was too slow. All that came has been handed over.
        ClientLeft: The connection ended before the body did. The same.
        TakenOver: `stop` was set. The same.
    """
    declared = content_length(request.scope)
    try:
        if limit is not None and declared is not None and declared > limit:
            raise BodyTooLarge(limit=limit, declared=declared)
        take = _fast(request, inline)
        if take is not None:
            request._stream_consumed = True
            if (received := await take(write, pace=pace, stop=stop)) is not None:
                return received
            request._stream_consumed = False
        return await _Portable(request.stream(), write, limit, pace, stop, inline).run()
    except (BodyTooLarge, BodyTooSlow, TakenOver):
        if (refuse := _extension(request, "afterwards.refuse")) is not None:
            refuse()
        raise


def content_length(scope: Any) -> int | None:
    """Return the length that a request declares for its body, if it does."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def _extension(request: Request, name: str) -> Any:
    return (request.scope.get("extensions") or {}).get(name)


def _fast(request: Request, inline: int) -> TakeBody | None:
    """Return the server's way to hand over a body, where there is one and nobody else wants to see the bytes."""
    take: TakeBody | None = _extension(request, "afterwards.take_body")
    kind = type(request)
    plain = kind.stream is Request.stream and kind.receive is Request.receive
    if take is None or not plain or request._stream_consumed or hasattr(request, "_body"):
        return None
    return take if request.receive == take.receive and take.left > max(inline, INLINE) else None


class _Portable:
    """One draining by way of the event loop."""

    def __init__(
        self,
        stream: AsyncGenerator[bytes, None],
        write: Write,
        limit: int | None,
        pace: Pace,
        stop: threading.Event | None,
        inline: int,
    ) -> None:
        self._stream = stream
        self._write = write
        self._limit = limit
        self._pace = pace
        self._stop = stop
        self._inline = inline
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []  # received and not handed over
        self._collected = 0  # bytes in them
        self._received = 0
        self._waited = 0.0
        self._writing: Future[None] | None = None

    async def run(self) -> int:
        """Drain; see `drain`."""
        try:
            async with asyncio.timeout(None) as timeout:
                await self._receive(timeout)
        except TimeoutError:
            if not timeout.expired():
                raise  # the program's own
            await self._finish()
            if self._is_stopped():
                raise TakenOver(received=self._received) from None
            raise BodyTooSlow(received=self._received, waited=self._waited) from None
        except ClientDisconnect:
            await self._finish()
            raise ClientLeft(received=self._received) from None
        finally:
            await self._rest()
        await self._finish()
        return self._received

    async def _receive(self, timeout: asyncio.Timeout) -> None:
        looking = None
        if self._stop is not None:
            looking = self._loop.create_task(self._look(timeout))
        try:
            async with aclosing(self._stream) as stream:
                await self._read(stream, timeout)
        finally:
            if looking is not None:
                looking.cancel()

    async def _read(self, stream: AsyncGenerator[bytes, None], timeout: asyncio.Timeout) -> None:
        loop = self._loop
        while True:
            begin = loop.time()
            timeout.reschedule(begin + self._pace.patience(self._received, self._waited))
            try:
                chunk = await anext(stream, None)
            finally:
                self._waited += loop.time() - begin
            timeout.reschedule(None)
            if chunk is None:
                return
            self._received += len(chunk)
            if self._limit is not None and self._received > self._limit:
                raise BodyTooLarge(limit=self._limit)
            if chunk:
                self._parts.append(chunk)
                self._collected += len(chunk)
            if self._collected >= COLLECT:
                await self._hand_over()

    async def _look(self, timeout: asyncio.Timeout) -> None:
        """End the reading when another request takes over."""
        while not timeout.expired():
            if self._is_stopped():
                timeout.reschedule(self._loop.time())
            await asyncio.sleep(LOOK)

    def _is_stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    async def _hand_over(self) -> None:
        """Let a thread write what has been collected, as soon as it is done with what it was given before."""
        await self._written()
        parts, self._parts, self._collected = self._parts, [], 0
        self._writing = _threads.submit(_write_all, self._write, parts)

    async def _written(self) -> None:
        """Wait for the thread, and raise what its writing raised."""
        if self._writing is not None:
            await ended(self._writing)
            self._writing = None

    async def _finish(self) -> None:
        """Hand over all that was received."""
        if self._writing is None and self._received <= self._inline:
            parts, self._parts = self._parts, []
            _write_all(self._write, parts)
            return
        if self._parts:
            await self._hand_over()
        await self._written()

    async def _rest(self) -> None:
        """Wait for a thread that still writes, also when cancelled: whoever asked may close the file next."""
        if self._writing is not None:
            with suppress(Exception):  # it is raised by whoever hands over the rest, if anybody does
                await ended(self._writing)


def _write_all(write: Write, parts: list[bytes]) -> None:
    if parts:
        write(parts[0] if len(parts) == 1 else b"".join(parts))
