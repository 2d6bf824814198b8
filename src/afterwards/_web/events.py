"""The event stream of one task: its durable log from any position on, then what is added, until it ends.

`id:` is the position in the log, so a client that comes back with `Last-Event-ID`, to whichever process, misses nothing
and sees nothing twice. The last `state` carries no id: whoever loses the connection between it and `done` gets both
again. After `done` there is nothing left, and 204 tells browsers to stay away.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from afterwards._domain.documents import hidden, moment
from afterwards._domain.tasks import FINAL, Event
from afterwards._engine.engine import Engine
from afterwards._engine.hub import Listener
from afterwards._web.finding import Source, View
from afterwards._web.leaving import is_stopping, while_wanted
from afterwards._web.problems import NOSNIFF
from afterwards.errors import InvalidRequest, UnknownTask

BATCH = 500  # events read at once
RETRY = 1_000  # milliseconds after which a client comes back
BEAT = 15.0  # seconds between comments, so that no proxy takes the connection for dead
LOOK = 0.1  # seconds between looks at a task that makes no commits
LONGEST_PAUSE = 0.25  # seconds, where everything that is committed is about other tasks
HEADERS = {**NOSNIFF, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

# No line breaks by the standard, but many clients split lines at them; in JSON they can only be inside of strings.
_SEPARATORS = [(mark.encode(), b"\\u%04x" % ord(mark)) for mark in ("\x85", "\u2028", "\u2029")]
_TRACES = ("\nTraceback (most recent call last):", "\nStack (most recent call last):")


class EventStream(StreamingResponse):
    """A stream that ends when its client leaves or the server stops, on every ASGI server."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes, None], engine: Engine) -> None:
        super().__init__(frames, headers=HEADERS)
        self._frames = frames
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what comes, and end properly in every case, so that the client knows that it may come back."""
        started = False

        async def stream() -> None:
            nonlocal started
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            started = True
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    await send({"type": "http.response.body", "body": frame, "more_body": True})

        try:
            await while_wanted(stream(), receive, self._engine)
            if started:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            pass  # how some servers say that the client has left
        if self.background is not None:
            await self.background()


async def stream(source: Source, engine: Engine, view: View, last: str | None) -> Response:
    """Answer a request for the events after the one that the client saw last.

    Raises:
        UnknownTask: There is no such task.
        InvalidRequest: `last` is no position.
    """
    found = await source.find()
    position = await source.reach(_position(last))
    if position and found.row.state in FINAL and not await source.events(position, 1):
        return Response(status_code=204, headers={**NOSNIFF, "Cache-Control": "no-store"})
    return EventStream(_frames(source, engine, view, position), engine)


def _position(text: str | None) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise InvalidRequest("Last-Event-ID is not a position of this log. Send the newest `id` you saw, or none.")
    return int(text)


async def _frames(source: Source, engine: Engine, view: View, position: int) -> AsyncGenerator[bytes, None]:
    yield b"retry: %d\n\n" % RETRY
    state: str | None = None
    pause = 0.0
    beat = time.monotonic()
    with engine.hub.listen() if source.tells else nullcontext() as listener:
        while not is_stopping(engine):
            events = await source.events(position, BATCH)
            for event in events:
                position = event.position
                if event.kind == "state":
                    state = event.data["state"]
                yield _frame(event, view)
            if len(events) == BATCH:
                continue
            late = time.monotonic() - beat >= BEAT
            if state in FINAL or late:
                try:
                    found = await source.find()
                except UnknownTask:
                    return  # deleted meanwhile; the client will hear so when it comes back
                # Final, and nothing more in the log: if there is, somebody has run it again.
                if found.row.state in FINAL and state in FINAL and not await source.events(position, 1):
                    yield _text("done", msgspec.json.encode(found.document(view)), position)
                    return
            if events or late:
                beat = time.monotonic()
            if late:
                yield b":\n\n"
            pause = 0.0 if events else min(LONGEST_PAUSE, pause + 0.02)
            await news(listener, BEAT, pause)


async def news(listener: Listener | None, seconds: float, pause: float) -> None:
    """Wait for a commit of anybody, but let some time pass where the last ones were about other tasks."""
    if listener is None:
        await asyncio.sleep(LOOK)
        return
    await asyncio.sleep(pause)
    await listener.wait(seconds)


def _frame(event: Event, view: View) -> bytes:
    data: dict[str, Any] = {**event.data, "at": moment(event.at)}
    if event.kind == "log":
        data["message"] = _shown(str(data["message"]), view)
    last = event.kind == "state" and event.data["state"] in FINAL
    return _text(event.kind, msgspec.json.encode(data), None if last else event.position)


def _shown(message: str, view: View) -> str:
    """A log line as this reader may see it: without the traceback that logging has put below it."""
    if view.traceback:
        return message
    for trace in _TRACES:
        message = message.partition(trace)[0]
    return hidden(message, view.hide)


def _text(kind: str, data: bytes, position: int | None) -> bytes:
    """One event. JSON as it is written here has no line breaks, so one `data:` line carries it."""
    for separator, escaped in _SEPARATORS:
        data = data.replace(separator, escaped)
    place = b"" if position is None else b"id: %d\n" % position
    return b"event: %s\n%sdata: %s\n\n" % (kind.encode(), place, data)
