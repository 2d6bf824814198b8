"""One request and its answer, and what the application is offered for it beyond ASGI.

In `scope["extensions"]`, on plain HTTP/1.1 connections:
`afterwards.take_body` hands the body over on a thread, where its length is known (see `taking.py`);
`await interim(status, headers)`, as `afterwards.interim`, sends an informational answer before the final one;
`refuse()`, as `afterwards.refuse`, reads no more of the body: the answer is the last one on this connection.
`afterwards.send_file` says that a stored file may be handed over to be sent (see `sending.py`).
"""

import asyncio
import os
import re
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from afterwards._files.disk import USED_UP
from afterwards._server.taking import Taking

if TYPE_CHECKING:
    from afterwards._server.protocol import Connection

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

SPARE = 65_536  # bytes of a body that are read and thrown away after an answer, to keep the connection
CRUMB = 256  # bytes of a chunk, on average, below which parsing keeps others waiting
TICK = 1.0  # seconds between looks at a body that trickles
MARGIN = 1.0  # seconds later than the application itself would give up, which can say more


class Exchange:
    """What a connection knows of its newest request."""

    def __init__(
        self, connection: "Connection", cycle: RequestResponseCycle, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.connection = connection
        self.cycle = cycle
        self.declared: int | None = 0  # bytes of the body; None: chunked
        self.got = 0  # of them, what the parser has seen
        self.pieces = 0  # in which the parser has seen them
        self.taken = 0  # of them, what a thread has read
        self.asked = False  # the application has begun to read
        self.refused = False
        self._tick: asyncio.TimerHandle | None = None
        self._offered: dict[str, Any] = {}
        for name, value in headers:
            if name == b"content-length":
                self.declared = int(value)
            elif name == b"transfer-encoding":
                self.declared = None
                break
        self.is_large = self.declared is None or self.declared > SPARE

    def offers(self) -> dict[str, Any]:
        """Return the extensions."""
        self._offered = {"afterwards.interim": self.interim, "afterwards.refuse": self.refuse}
        if self.is_large and self.declared is not None:
            self._offered["afterwards.take_body"] = Taking(self)
        return self._offered

    def end(self) -> None:
        """Let go of what would keep this and the request alive for each other until a garbage collection."""
        self._offered.clear()
        vars(self.cycle).pop("send", None)
        if self.is_large:
            vars(self.cycle).pop("receive", None)

    def step_between(self) -> None:
        """Stand between the application and uvicorn for this request, by attributes of its own cycle only."""
        self.cycle.receive = self.receive  # type: ignore[method-assign]
        self.cycle.send = self.send  # type: ignore[method-assign]

    @property
    def crumbles(self) -> bool:
        """Whether the body comes in chunks so small that only a few bytes should be read at a time."""
        return self.declared is None and self.got <= CRUMB * self.pieces

    @property
    def unread(self) -> float:
        """How many bytes of the body have not left the socket; infinitely many while a chunked one goes on."""
        if self.declared is None:
            return float("inf") if self.cycle.more_body else 0
        return self.declared - self.got - self.taken

    # -- ASGI

    async def receive(self) -> Any:
        """Do what uvicorn does, but give away what came before a client left, and read on only when asked."""
        cycle = self.cycle
        if not self.refused and not self.taken:
            self.asked = True
            self.go_on()
        if not cycle.disconnected and not cycle.response_complete:
            if not self.refused and not self.taken:
                cycle.flow.resume_reading()
            await cycle.message_event.wait()
            cycle.message_event.clear()
        if cycle.response_complete or (cycle.disconnected and not cycle.body):
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self.pop_body(), "more_body": cycle.more_body}

    async def send(self, message: Any) -> None:
        """Do what uvicorn does, but let a connection whose body was not read end with the answer."""
        cycle = self.cycle
        send = type(cycle).send
        if message["type"] == "http.response.start":
            if self.unread > SPARE:
                self.refuse()
            if self.refused:
                headers = [(name, value) for name, value in message.get("headers", ()) if name.lower() != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
        elif self.refused and not message.get("more_body", False):
            cycle.keep_alive = True  # not to be closed by uvicorn, which would take the answer back
            self.connection.lingers = True
        await send(cycle, message)

    def pop_body(self) -> bytes:
        """Take what has been parsed."""
        body = bytes(self.cycle.body)
        self.cycle.body = type(self.cycle.body)()
        return body

    def go_on(self) -> None:
        """Tell a client that waits for it to send the body."""
        cycle = self.cycle
        if cycle.waiting_for_100_continue and not cycle.transport.is_closing():
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False

    # -- beyond ASGI

    def refuse(self) -> None:
        """Read no more of the body. The answer, once sent, ends the connection."""
        if self.is_large and not self.cycle.response_complete and (self.unread or self.taken):
            self.refused = True
            self.connection.flow.pause_reading()

    async def interim(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send an informational answer, from 100 to 199 but not 101, unless the final one has begun."""
        cycle = self.cycle
        if not 100 <= status <= 199 or status == 101:
            raise ValueError(f"an informational answer has a status from 100 to 199, not {status}")
        if cycle.response_started or cycle.disconnected or cycle.transport.is_closing():
            return
        lines = [f"HTTP/1.1 {status} {_phrase(status)}".encode()]
        for name, value in headers:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"the header {name!r}: {value!r} has characters that no header may have")
            lines.append(name + b": " + value)
        if status == 100:
            cycle.waiting_for_100_continue = False
        cycle.transport.write(b"\r\n".join([*lines, b"", b""]))
        await cycle.flow.drain()

    async def flushed(self) -> None:
        """Wait until all that was sent so far has left this process, so that a thread may write what follows."""
        transport = self.cycle.transport
        transport.set_write_buffer_limits(high=0)
        try:
            await self.cycle.flow.drain()
        finally:
            transport.set_write_buffer_limits()

    def duplicate(self) -> socket.socket | None:
        """Return the connection's socket under a descriptor of its own, which does not block; the caller closes it.

        None where no descriptor is left: then the bytes go the ordinary way.
        """
        try:
            descriptor = os.dup(self.cycle.transport.get_extra_info("socket").fileno())
        except OSError as error:
            if error.errno not in USED_UP:
                raise
            return None
        try:
            duplicate = socket.socket(fileno=descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        duplicate.setblocking(False)
        return duplicate

    # -- slow clients

    def watch(self) -> None:
        """Begin to watch how fast the body comes, unless it is here or watched already."""
        if self._tick is None and self.cycle.more_body and not self.taken:
            self._seen, self._idle, self._waited = self.got, 0.0, 0.0
            self._tick = self.connection.loop.call_later(TICK, self._look)

    def _look(self) -> None:
        connection, cycle = self.connection, self.cycle
        self._tick = None
        if not cycle.more_body or self.taken or self.refused or cycle.disconnected or cycle.response_complete:
            return
        if not connection.flow.read_paused:  # else it is not the client that we wait for
            self._waited += TICK
            self._idle = self._idle + TICK if self.got == self._seen else 0.0
            pace = connection.settings.pace
            if self._idle > pace.stall + MARGIN or pace.patience(self.got, self._waited) < -MARGIN:
                connection.give_up()
                return
        self._seen = self.got
        self._tick = connection.loop.call_later(TICK, self._look)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Upload Resumption Supported" if status == 104 else ""
