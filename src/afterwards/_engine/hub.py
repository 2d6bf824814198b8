"""Tells waiting readers that something was committed, by this process or another."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from afterwards._engine.clock import Clock
from afterwards._store.contract import Store

LOOK = 0.05  # seconds between looks at what other processes have committed, while anybody waits


class Listener:
    """One reader's wake-up, on its own event loop."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._set = False
        self._version = store.version()

    def notify(self) -> None:
        """Wake the reader. Safe from any thread."""
        if self._set:
            return
        self._set = True
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # its loop has ended, and so has the reader
            return

    async def wait(self, seconds: float) -> None:
        """Return after the next commit, or when the time has passed."""
        until = self._clock.boot() + seconds * 1000
        while not self._event.is_set():
            left = (until - self._clock.boot()) / 1000
            if left <= 0:
                break
            await self._clock.wait(self._event, min(LOOK, left))
            version = self._store.version()
            if version != self._version:
                self._version = version
                break
        self._set = False
        self._event.clear()


class Hub:
    """Everyone who waits for a commit."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()

    def committed(self) -> None:
        """Wake every reader; called on the store's thread after each commit."""
        for listener in self._listeners:
            listener.notify()

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Wait for commits on the running loop: look at the store first, then wait."""
        listener = Listener(self._store, self._clock)
        with self._lock:
            self._listeners = (*self._listeners, listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners = tuple(one for one in self._listeners if one is not listener)
