"""How many attempts a process runs at once, counted apart for the event loop and for threads."""

import threading
from enum import StrEnum


class Lane(StrEnum):
    """Where an attempt runs."""

    LOOP = "loop"  # `async def`, on the application's event loop
    THREAD = "thread"  # `def`, on a thread of ours


class Lanes:
    """The free places. Safe from any thread."""

    def __init__(self, sizes: dict[Lane, int]) -> None:
        self.sizes = sizes
        self._free = dict(sizes)
        self._lock = threading.Lock()

    def take(self, lane: Lane, wanted: int) -> int:
        """Take up to so many places and return how many it were."""
        with self._lock:
            got = min(wanted, self._free[lane])
            self._free[lane] -= got
            return got

    def give_back(self, lane: Lane, number: int = 1) -> int:
        """Free places and return how many are free now."""
        with self._lock:
            self._free[lane] += number
            return self._free[lane]

    def free(self, lane: Lane) -> int:
        """Return how many places are free."""
        return self._free[lane]

    def busy(self) -> int:
        """Return how many attempts hold a place."""
        with self._lock:
            return sum(self.sizes.values()) - sum(self._free.values())
