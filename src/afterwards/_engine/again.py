"""Hands over once more what the store could not take: a full disk or a locked database passes.

It waits on the engine's loop and not on timers, which need a thread each: a disk that is full makes thousands of them.
"""

import threading

from afterwards._engine.clock import Clock
from afterwards._store.contract import Command, Reply, Store
from afterwards.errors import StorageFull, StorageUnsure, StoreBusy

AGAIN = 500  # milliseconds until a command is offered again

PASSING = (StorageFull, StorageUnsure, StoreBusy)  # answers that another try may change


class Again:
    """Commands that must be stored in the end."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, Command, Reply]] = []

    def later(self, command: Command, reply: Reply) -> None:
        """Offer a command again in a moment. Safe from any thread; whoever drives the rounds must be woken."""
        with self._lock:
            self._waiting.append((self._clock.boot() + AGAIN, command, reply))

    async def round(self) -> float | None:
        """Offer what has waited long enough."""
        now = self._clock.boot()
        with self._lock:
            due = [one for one in self._waiting if one[0] <= now]
            self._waiting = [one for one in self._waiting if one[0] > now]
            left = min((at - now for at, _, _ in self._waiting), default=None)
        for _, command, reply in due:
            self._store.submit(command, reply)
        return None if left is None else left / 1000
