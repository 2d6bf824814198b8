"""Lends threads to what has borrowed a connection's socket, in turns, and waits for that on the event loop.

A borrower may keep its thread for as long as no other one is without; `are_short` tells it when that has changed.
"""

import asyncio
import threading
from collections import deque
from concurrent.futures import CancelledError
from typing import Protocol, TypeVar

from afterwards._files.pools import Pool, ended

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

TURN = 0.2  # seconds a thread works for one client while others wait
LOOK = 0.2  # seconds between looks at whether one that waits for a thread has been told to stop


class Borrower(Protocol[T_co]):
    """Something that reads or writes a socket."""

    abandoned: bool  # nobody wants its outcome any more: `run` returns as soon as it can

    def run(self) -> T_co:
        """Do it; blocks."""
        ...


class Threads:
    """So many threads, for any number of borrowers."""

    def __init__(self, name: str, most: int) -> None:
        self._pool = Pool(name, most)
        self._most = most
        self._borrowers: deque[None] = deque()  # counted so from any thread: adding and taking cannot be interrupted

    @property
    def are_short(self) -> bool:
        """Whether a borrower waits for a thread."""
        return len(self._borrowers) > self._most

    async def lend(self, borrower: Borrower[T], stop: threading.Event | None = None) -> T | None:
        """Run it and wait for that, even when cancelled: the thread must be done with the socket.

        One that waits for a thread needs none to be cancelled, or to be told to stop: then this returns None.
        """
        self._borrowers.append(None)
        future = self._pool.submit(self._run, borrower)

        def recall() -> None:
            borrower.abandoned = True
            if future.cancel():  # it has not begun
                self._borrowers.pop()

        async def heed(stop: threading.Event) -> None:
            while not (future.running() or future.done()):
                if stop.is_set():
                    recall()
                await asyncio.sleep(LOOK)

        heeding = None if stop is None else asyncio.ensure_future(heed(stop))
        try:
            return await ended(future, cancelled=recall)
        except CancelledError:
            return None
        finally:
            if heeding is not None:
                heeding.cancel()

    def _run(self, borrower: Borrower[T]) -> T:
        try:
            return borrower.run()
        finally:
            self._borrowers.pop()
