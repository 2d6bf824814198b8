"""Has a thread send a stored file from the disk to the socket, with nothing in between: `os.sendfile`.

The head of the answer goes the ordinary way; then the body is sent from a duplicate of the connection's descriptor,
so the file never passes through the program. A thread keeps at it while the client takes what is sent, and gives up
its place when the client does not, or when others have waited for it long enough; then the event loop waits until there
is room again. What a client has really taken is what its system has acknowledged, and one that takes too little for
too long is cut off. Afterwards the connection is served as ever.
"""

import asyncio
import errno
import fcntl
import functools
import logging
import os
import select
import socket
import struct
import sys
import termios
import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from afterwards._domain.pace import Pace
from afterwards._domain.ranges import Span
from afterwards._files.outgoing import Handover, Outgoing, Piece
from afterwards._server.lending import TURN, Threads
from afterwards.errors import DamagedFile

if TYPE_CHECKING:
    from afterwards._server.exchange import Exchange

THREADS = 8
PATIENCE = 0.1  # seconds without room in the socket after which a thread is given back
LOOK = 1.0  # seconds between looks at how much a slow client has taken
MOST = 1 << 23  # bytes of one call: the system takes as much of it as the socket has room for
BLOCK = 1 << 18  # bytes read and sent where the file system has no sendfile

_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOVERFLOW)

log = logging.getLogger("afterwards")
_threads = Threads("sending", THREADS)


class Outcome(Enum):
    """Why a thread came back."""

    DONE = "all is sent"
    TURN = "others wait for the thread"
    FULL = "the client took nothing for a moment"
    LEFT = "the client closed the connection"


def offer(exchange: "Exchange") -> dict[str, Any]:
    """Stand between the application and uvicorn for this request, and return what its scope says of it."""
    exchange.cycle.send = functools.partial(_send, exchange)  # type: ignore[method-assign]
    return {Handover.KEY: True}


async def _send(exchange: "Exchange", message: Any) -> None:
    handover = message.get(Handover.KEY)
    if handover is None:
        await RequestResponseCycle.send(exchange.cycle, message)
    else:
        await _take(exchange, handover)


async def _take(exchange: "Exchange", handover: Handover) -> None:
    """Send a body that was offered, unless somebody in between has made it another one."""
    cycle = exchange.cycle
    as_announced = not cycle.chunked_encoding and cycle.expected_content_length == handover.size
    if not cycle.response_started or not as_announced:
        return
    target = exchange.duplicate()
    if target is None:
        return
    with target:
        if handover.take():
            await _send_taken(exchange, handover, target)


async def _send_taken(exchange: "Exchange", handover: Handover, target: socket.socket) -> None:
    cycle = exchange.cycle
    flow = cycle.flow
    was_reading = not flow.read_paused
    flow.pause_reading()  # an answer to what comes next must not get between
    complete = False
    try:
        await exchange.flushed()
        if not cycle.disconnected:
            complete = await _send_all(exchange, handover, target)
    finally:
        if complete:
            cycle.expected_content_length = 0
            if was_reading:
                flow.resume_reading()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            cycle.transport.abort()
            exchange.end()


async def _send_all(exchange: "Exchange", handover: Handover, target: socket.socket) -> bool:
    """Tell whether the client has it all; if not, the connection cannot be used any more."""
    path, pace = exchange.cycle.scope["path"], exchange.connection.settings.pace
    sending = Sending(target, handover.file, handover.pieces)
    try:
        if await _until_end(sending, pace):
            return True
    except DamagedFile as error:
        log.error("%s was cut off after %d of %d bytes: %s", path, sending.sent, handover.size, error)
        return False
    if sending.is_slow:
        text = "%s was cut off after %d of %d bytes: its client takes less than %g bytes a second, or stands still"
        log.info(text, path, sending.sent, handover.size, pace.rate)
    return False


class Sending:
    """The part of a body that is still to be sent through a socket."""

    def __init__(self, target: socket.socket, file: Outgoing, pieces: Sequence[Piece]) -> None:
        self.sent = 0
        self.abandoned = False  # the request was cancelled
        self.is_slow = False
        self._target = target
        self._file = file
        self._pieces = deque(pieces)
        self._copies = not hasattr(os, "sendfile")
        self._poll = select.poll()
        self._poll.register(target, select.POLLOUT)

    def fileno(self) -> int:
        """What to wait on."""
        return self._target.fileno()

    @property
    def taken(self) -> int:
        """How much of it the client's system has acknowledged, where that can be known."""
        return self.sent - _unacknowledged(self._target)

    def run(self) -> Outcome:
        """Send until the end, or until it is another one's turn, on a thread.

        Raises:
            DamagedFile: The file is not any more what it was when it was opened.
        """
        until = time.monotonic() + TURN
        descriptor = self._file.descriptor
        with nullcontext(-1) if descriptor is None else descriptor.using() as source:
            while self._pieces and not self.abandoned:
                try:
                    count = self._send(source, self._pieces[0])
                except BlockingIOError:
                    if _threads.are_short or not self._poll.poll(PATIENCE * 1000):
                        return Outcome.FULL
                    continue
                except OSError as error:
                    if error.errno in _NO_SENDFILE and not self._copies:
                        self._copies = True
                        continue
                    return Outcome.LEFT  # reset, timed out: the reason makes no difference
                self._advance(count)
                if _threads.are_short and time.monotonic() > until:
                    return Outcome.TURN if self._pieces else Outcome.DONE
        return Outcome.LEFT if self._pieces else Outcome.DONE

    def _send(self, source: int, piece: Piece) -> int:
        if isinstance(piece, bytes):
            return self._target.send(piece)
        if source < 0 or self._copies:
            return self._target.send(self._file.read(Span(piece.start, min(piece.end, piece.start + BLOCK))))
        self._file.check(source)
        count = os.sendfile(self._target.fileno(), source, piece.start, min(piece.size, MOST))
        if count == 0:
            raise self._file.damaged("it has become shorter while it was being sent")
        return count

    def _advance(self, count: int) -> None:
        self.sent += count
        piece = self._pieces.popleft()
        if isinstance(piece, bytes):
            rest: Piece = piece[count:]
        else:
            rest = Span(piece.start + count, piece.end)
        if rest if isinstance(rest, bytes) else rest.size:
            self._pieces.appendleft(rest)


async def _until_end(sending: Sending, pace: Pace) -> bool:
    """Run it on threads, waiting for room in between without one."""
    loop = asyncio.get_running_loop()
    waited = 0.0
    while (outcome := await _threads.lend(sending)) not in (Outcome.DONE, Outcome.LEFT):
        if outcome is Outcome.FULL:
            begin = loop.time()
            if not await _room(sending, pace, waited):
                sending.is_slow = True
                return False
            waited += loop.time() - begin
    return outcome is Outcome.DONE


async def _room(sending: Sending, pace: Pace, waited: float) -> bool:
    """Wait until the socket takes more; False when the client is too slow."""
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    begin = loop.time()
    taken = sending.taken
    until = begin + pace.patience(taken, waited)
    loop.add_writer(sending.fileno(), writable.set)
    try:
        while not writable.is_set():
            now = loop.time()
            if (newly := sending.taken) > taken:  # less than makes room, but it moves
                taken, until = newly, now + pace.patience(newly, waited + now - begin)
            if now >= until:
                return False
            try:
                async with asyncio.timeout(min(until - now, LOOK)):
                    await writable.wait()
            except TimeoutError:
                continue
    finally:
        loop.remove_writer(sending.fileno())
    return True


def _unacknowledged(target: socket.socket) -> int:
    """Bytes in the socket's buffer. Where the system does not say, 0: then only room in the buffer shows progress."""
    if sys.platform != "linux":
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(target, termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except OSError:
        return 0
