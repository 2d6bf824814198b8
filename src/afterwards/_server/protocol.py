"""uvicorn's HTTP protocol with what ASGI lacks: limits on slow clients, refusal without reading, and a socket to take.

A front with a small buffer of its own stands before uvicorn's `HttpToolsProtocol`, so that of a body nobody has asked
for no more is read than came with its headers. What the application is offered beyond ASGI is in `exchange.py`.
"""

import asyncio
import contextvars
import copy
import threading
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl
from uvicorn.server import ServerState

from afterwards._domain.pace import Pace
from afterwards._server import sending
from afterwards._server.exchange import Exchange

READ = 65_536  # bytes of one read; of a refused request no more is ever read
READ_BODY = 262_144  # the same while the application reads a large body
READ_CRUMBS = 4_096  # the same while that body comes in small chunks, each of which takes as long as a large one


class _Buffers(threading.local):
    """What is read into, and copied from at once: one for all connections of an event loop, so of its thread."""

    def __init__(self) -> None:
        self.small = memoryview(bytearray(READ))
        self.large = memoryview(bytearray(READ_BODY))
        self.tiny = self.small[:READ_CRUMBS]


_buffers = _Buffers()


class HttpProtocol(asyncio.BufferedProtocol):
    """The class to give to uvicorn as `http`; a subclass may change the limits."""

    # Seconds from the connection, or the first byte of a later request, to the end of its head; and of a WebSocket's
    # handshake until the application is called.
    header_timeout = 10.0
    header_bytes = 65_536  # of a head that goes on after so many
    pace = Pace()  # how slowly a body may come
    linger = 2.0  # seconds for which a client that was refused, and still sends, can read why

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._http = http = Connection(config, server_state, app_state, _loop)
        http.settings = self
        # The transport calls these by name: bound here, each call goes straight to the connection.
        self.connection_lost = http.connection_lost  # type: ignore[method-assign]
        self.eof_received = http.eof_received  # type: ignore[method-assign]
        self.pause_writing = http.pause_writing  # type: ignore[method-assign]
        self.resume_writing = http.resume_writing  # type: ignore[method-assign]
        self._view = _buffers.small

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._http.connection_made(transport)  # type: ignore[arg-type]  # uvicorn's wants the kind that servers have

    def get_buffer(self, sizehint: int) -> memoryview:
        exchange = self._http.exchange
        if exchange is None or not exchange.asked:
            self._view = _buffers.small
        else:
            self._view = _buffers.tiny if exchange.crumbles else _buffers.large
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._http.data_received(bytes(self._view[:nbytes]))


class Connection(HttpToolsProtocol):
    """One connection. What uvicorn decides stays uvicorn's; this adds when reading stops, and for how long it waits."""

    settings: HttpProtocol

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.exchange: Exchange | None = None  # of the newest request
        self._in_head = False
        self._head_bytes = 0
        self._upgraded = False
        self._refusal: bytes | None = None  # why a head is not taken
        self._timer: asyncio.TimerHandle | None = None
        self._offers = False
        self.lingers = False

    @property
    def _is_idle(self) -> bool:
        """Whether nothing is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    # -- what the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._offers = not is_ssl(transport) and transport.get_extra_info("socket") is not None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._upgraded:
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.settings.header_bytes:
                self._end_with(_TOO_LONG)
                return
        if self._timer is None and (self._in_head or self._is_idle):
            self._await_head()
        elif self.exchange is not None:
            self.exchange.watch()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; until the application is called, it can still be a head that nobody can use."""
        self._upgraded = True
        self._await_head()
        app = self.app

        async def called(*args: Any) -> None:
            self._stop_timer()
            await app(*args)

        self.config = copy.copy(self.config)
        self.config.loaded_app = called
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        if self._refusal is None:
            super().send_400_response(msg)
        else:
            self._end_with(self._refusal)

    # -- what the parser calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._refusal = self._find_fault()
        if self._refusal is not None:
            self._in_head = False
            raise ValueError("this head is refused")  # which ends the parsing; `send_400_response` answers
        if self.parser.get_http_version() != "1.1":
            self.expect_100_continue = False  # RFC 9110, section 10.1.1: older clients know no interim answers
        before = self.cycle
        super().on_headers_complete()
        self._in_head = False
        self._stop_timer()
        cycle = self.cycle
        if cycle is before:
            return  # an upgrade
        self.exchange = exchange = Exchange(self, cycle, self.headers)
        if self._offers and self.scope["http_version"] == "1.1":
            self.scope["extensions"] = offers = exchange.offers()
            if self.scope["method"] == "GET" and not exchange.is_large:
                offers.update(sending.offer(exchange))
        if exchange.is_large:
            exchange.step_between()
            self.flow.pause_reading()  # until the application asks

    def _find_fault(self) -> bytes | None:
        """Return the answer to a head that cannot be taken as it is."""
        codings = b",".join(value for name, value in self.headers if name == b"transfer-encoding")
        if codings and codings.strip().lower() != b"chunked":
            return _UNKNOWN_CODING
        if self.parser.should_upgrade() and self._should_upgrade():
            has_body = codings or any(name == b"content-length" and value != b"0" for name, value in self.headers)
            if has_body or self.parser.get_method() != b"GET" or self.parser.get_http_version() != "1.1":
                return _NO_UPGRADE
        return None

    def on_body(self, body: bytes) -> None:
        if self.exchange is not None:
            self.exchange.got += len(body)
            self.exchange.pieces += 1
        super().on_body(body)

    def on_response_complete(self) -> None:
        exchange = self.exchange
        if exchange is not None and exchange.cycle.response_complete:
            exchange.end()
        if self.lingers:
            self.server_state.total_requests += 1
            self._linger()
            return
        super().on_response_complete()
        if exchange is not None and exchange.is_large and not exchange.asked and not exchange.cycle.response_complete:
            self.flow.pause_reading()  # a pipelined request whose turn it is, and whose body nobody has asked for

    # -- ends

    def refresh_parser(self) -> None:
        """Begin to parse at the next request: the body of this one did not come through the parser."""
        self.parser = httptools.HttpRequestParser(self)
        if hasattr(self.parser, "set_dangerous_leniencies"):
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def give_up(self) -> None:
        """Answer 408 to a client that is too slow, where an answer can still be given, and close."""
        if self._in_head or not self._is_idle:
            self._end_with(_TOO_SLOW)
        else:
            self.transport.close()

    def _end_with(self, answer: bytes) -> None:
        if self.transport.is_closing():
            return
        if not self._is_idle and self.cycle.response_started:
            self.transport.abort()  # in the middle of another answer
            return
        self._stop_timer()
        if not self._is_idle:  # for the application, the client is gone
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(answer)
        self._linger()

    def _linger(self) -> None:
        """Close the sending half, and the connection a little later: closing it at once would take back the answer."""
        transport = self.transport
        if transport.is_closing():
            return
        self.flow.pause_reading()
        if transport.can_write_eof():
            transport.write_eof()
        self._after_answer()

    def _after_answer(self) -> None:
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():  # the answer is long, and its reader slow
            self._timer = self.loop.call_later(0.25, self._after_answer)
        else:
            self._timer = self.loop.call_later(self.settings.linger, self.transport.abort)

    def _await_head(self) -> None:
        if not self.transport.is_closing():
            # The request starts in a context of its own; a timer need not keep this one.
            self._timer = self.loop.call_later(self.settings.header_timeout, self._no_head, context=_EMPTY)

    def _no_head(self) -> None:
        self._timer = None
        if self._upgraded:
            self.transport.abort()  # what is to be said would have been said
        elif self._is_idle:
            self.give_up()
        elif self._in_head:
            self._await_head()  # the request before it is still being answered

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_EMPTY = contextvars.Context()


def _last_answer(status: bytes, text: bytes) -> bytes:
    length = b"%d" % len(text)
    head = [b"HTTP/1.1 " + status, b"content-type: text/plain; charset=utf-8", b"content-length: " + length]
    return b"\r\n".join([*head, b"connection: close", b"", text])


_TOO_LONG = _last_answer(b"431 Request Header Fields Too Large", b"The head of the request is too long; send less.")
_TOO_SLOW = _last_answer(b"408 Request Timeout", b"The request came too slowly; try again.")
_UNKNOWN_CODING = _last_answer(
    b"501 Not Implemented", b"The only Transfer-Encoding known here is chunked; send the body in no other."
)
_NO_UPGRADE = _last_answer(
    b"400 Bad Request", b"A WebSocket begins with a GET of HTTP/1.1 without a body; send one, or leave out Upgrade."
)
