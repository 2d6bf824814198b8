"""Where commands wait for the writer, and the bell that tells it to come.

The bell is what costs: it wakes a thread that then wants the interpreter lock. So an event loop rings once for
all that one round of its callbacks hands over, and what nobody waits for rings only when the writer is fast asleep.
"""

import asyncio
import time
from collections import deque
from queue import Empty, SimpleQueue

from afterwards._store.contract import Command, Reply, is_patient

LINGER = 0.002  # seconds that commands nobody waits for lie here to be committed with others
BUSY = 8  # commands taken out at once, from which on more are worth waiting for
ENOUGH = 32  # commands, from which on they are not
GATHER = 0.001  # seconds of that wait at most: about what the commit it saves takes

Waiting = tuple[Command, Reply]


class Inbox:
    """Takes from any thread, gives to one."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._asleep = False  # the writer sleeps until the bell rings
        self._urgent = False  # somebody wants a commit now
        self._gathering = False  # the writer waits for enough to come together
        self._busy = False
        self._ringer: asyncio.AbstractEventLoop | None = None  # will ring at the end of its round

    def put(self, command: Command, reply: Reply) -> None:
        """Leave a command; one with a reply on an event loop comes from that loop."""
        self._waiting.append((command, reply))
        if self._gathering and len(self._waiting) >= ENOUGH:
            self._gathering = False
            self._bell.put(None)
        elif is_patient(command):
            if self._asleep:
                self._asleep = False
                self._bell.put(None)
        elif reply.loop is None or not reply.loop.is_running():
            self.ring()
        elif self._ringer is not reply.loop:
            self._ringer = reply.loop
            reply.loop.call_soon(self._ring_for_round)

    def ring(self) -> None:
        """Ask for whatever is there to be taken."""
        if not self._urgent:
            self._urgent = True
            self._bell.put(None)

    def _ring_for_round(self) -> None:
        self._ringer = None
        self.ring()

    def wait(self, seconds: float | None = None) -> None:
        """Return when what is there should wait no longer, or when the time is over and nothing is there."""
        if not self._waiting and not self._urgent:
            self._asleep = True
            if not self._waiting:  # looked at again: whoever came in between did not ring
                self._sleep(seconds)
            self._asleep = False
        until = time.monotonic() + LINGER
        while self._waiting and not self._urgent and (left := until - time.monotonic()) > 0:
            self._sleep(left)
        if self._busy and len(self._waiting) < ENOUGH:
            self._gathering = True
            until = time.monotonic() + GATHER
            while self._gathering and (left := until - time.monotonic()) > 0:
                self._sleep(left)
            self._gathering = False

    def take(self, most: int) -> list[Waiting]:
        """Take out what is there, first come first served."""
        self._urgent = False  # before looking: whoever comes later rings again
        taken: list[Waiting] = []
        try:
            while len(taken) < most:
                taken.append(self._waiting.popleft())
        except IndexError:
            pass
        else:
            self.ring()
        self._busy = len(taken) >= BUSY
        return taken

    def _sleep(self, seconds: float | None) -> None:
        try:
            self._bell.get(timeout=seconds)
        except Empty:
            return
