"""Has a thread read a request's body from the socket, with nothing between the kernel and whoever wants the bytes.

Each thread reads into one buffer of its own, which stays in the processor's cache while it is read, hashed and
written. A thread is given back when no data has come for a moment; then the event loop waits for more. It is also
given back when others have waited for it long enough. So any number of clients, slow or steady, share a few threads.
Afterwards the connection is served as ever.
"""

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from afterwards._domain.pace import Pace
from afterwards._server.lending import LOOK, TURN, Threads
from afterwards.errors import BodyTooSlow, ClientLeft, TakenOver

if TYPE_CHECKING:
    from afterwards._server.exchange import Exchange

SIZE = 262_144  # bytes handed over together: a fourth of a core's cache on small servers
THREADS = 16
PATIENCE = 0.1  # seconds without data after which a thread is given back

_threads = Threads("taking", THREADS)


class _Buffer(threading.local):
    def __init__(self) -> None:
        self.bytes = bytearray(SIZE)
        self.view = memoryview(self.bytes)


_buffer = _Buffer()


class Outcome(Enum):
    """Why a thread came back."""

    DONE = "all is handed over"
    TURN = "others wait for the thread"
    IDLE = "no data came for a moment"
    LEFT = "the client closed the connection"
    STOPPED = "it was told to"


class Taking:
    """What the application calls to be handed the body: `scope["extensions"]["afterwards.take_body"]`."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange

    @property
    def receive(self) -> Any:
        """The server's own `receive`."""
        return self._exchange.receive

    @property
    def left(self) -> int:
        """How many bytes of the body the application has not been given; 0 when they cannot be taken."""
        exchange = self._exchange
        if exchange.connection.exchange is not exchange or exchange.taken or exchange.refused:
            return 0
        return int(exchange.unread) + len(exchange.cycle.body)

    async def __call__(self, write: Callable[[Any], object], *, pace: Pace, stop: threading.Event | None) -> int | None:
        """Hand the rest of the body to `write`, on one thread at a time; return how many bytes there were.

        None where there is no descriptor for that: then nothing has been read, and the body can be received.

        Raises:
            BodyTooSlow, ClientLeft: All that had come has been handed over before.
            TakenOver: The same, unless the body had to wait for a thread.
        """
        exchange, cycle = self._exchange, self._exchange.cycle
        if not self.left:
            raise RuntimeError("the body of this request has been read, or refused")
        source = exchange.duplicate()
        if source is None:
            return None
        cycle.flow.pause_reading()
        exchange.go_on()
        try:
            reading = _Reading(source, exchange.pop_body(), int(exchange.unread), write, stop)
            exchange.taken = took = reading.left
            try:
                outcome = await _until_end(reading, pace, stop)
            except BaseException:
                exchange.refuse()
                raise
            finally:
                exchange.taken -= reading.left
        finally:
            source.close()
        if outcome is Outcome.DONE:
            cycle.message_event.clear()
            if took:
                cycle.more_body = False
                exchange.connection.refresh_parser()
            cycle.flow.resume_reading()
            return reading.received
        if outcome is Outcome.LEFT:
            cycle.disconnected = True
            cycle.message_event.set()
            cycle.transport.abort()
            raise ClientLeft(received=reading.received)
        exchange.refuse()
        if outcome is Outcome.STOPPED:
            raise TakenOver(received=reading.received)
        raise BodyTooSlow(received=reading.received, waited=reading.waited)


class _Reading:
    """The part of a body that is still to be read from a socket."""

    def __init__(
        self,
        source: socket.socket,
        start: bytes,
        left: int,
        write: Callable[[Any], object],
        stop: threading.Event | None,
    ) -> None:
        self.left = left
        self.received = 0
        self.waited = 0.0  # seconds without data
        self.abandoned = False  # the request was cancelled
        self._source = source
        self._start = start
        self._write = write
        self._stop = stop
        self._fast = True  # else a thread is given back as soon as nothing is there
        self._poll = select.poll()
        self._poll.register(source, select.POLLIN)

    def fileno(self) -> int:
        """What to wait on."""
        return self._source.fileno()

    def run(self) -> Outcome:
        """Hand over what comes, on a thread."""
        if self._start:
            start, self._start = self._start, b""
            self.received += len(start)
            self._write(start)
        return self._read(_buffer.bytes, _buffer.view)

    def _read(self, whole: bytearray, view: memoryview) -> Outcome:
        filled = 0
        idle = 0.0  # since the buffer was empty
        full = False  # it has been, in this round
        until = time.monotonic() + TURN
        while self.left and not self.is_stopped():
            if _threads.are_short and time.monotonic() > until:
                self._hand_over(view[:filled])
                return Outcome.TURN
            try:
                count = self._source.recv_into(view[filled:], min(SIZE - filled, self.left))
            except BlockingIOError:
                if idle > PATIENCE or not self._fast or _threads.are_short:
                    break
                begin = time.monotonic()
                ready = self._poll.poll(PATIENCE * 1000)
                passed = time.monotonic() - begin
                idle += passed
                self.waited += passed
                if not ready:
                    break
                continue
            except OSError:  # reset, timed out: the reason makes no difference
                count = 0
            if count == 0:
                self._hand_over(view[:filled])
                return Outcome.LEFT
            filled += count
            self.left -= count
            if filled == SIZE:
                self._hand_over(whole)
                filled, idle, full = 0, 0.0, True
        self._hand_over(view[:filled])
        self._fast = full
        if not self.left:
            return Outcome.DONE
        return Outcome.STOPPED if self.is_stopped() else Outcome.IDLE

    def _hand_over(self, block: bytearray | memoryview) -> None:
        if block:
            self.received += len(block)
            self._write(block)

    def is_stopped(self) -> bool:
        """Tell whether no more is wanted."""
        return self.abandoned or (self._stop is not None and self._stop.is_set())


async def _until_end(reading: _Reading, pace: Pace, stop: threading.Event | None) -> Outcome:
    """Run it on threads, waiting for data in between without one."""
    while (outcome := await _threads.lend(reading, stop)) in (Outcome.TURN, Outcome.IDLE):
        if outcome is Outcome.IDLE and not await _data(reading, pace, stop):
            return Outcome.STOPPED if reading.is_stopped() else Outcome.IDLE
    return outcome or Outcome.STOPPED


async def _data(reading: _Reading, pace: Pace, stop: threading.Event | None) -> bool:
    """Wait until there is something to read; False when the client is too slow, or the reading is to stop."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(reading.fileno(), readable.set)
    begin = loop.time()
    until = begin + pace.patience(reading.received, reading.waited)
    try:
        while not readable.is_set():
            rest = until - loop.time()
            if rest <= 0 or reading.is_stopped():
                return False
            try:
                async with asyncio.timeout(rest if stop is None else min(rest, LOOK)):
                    await readable.wait()
            except TimeoutError:
                continue
    finally:
        loop.remove_reader(reading.fileno())
        reading.waited += loop.time() - begin
    return True
