"""How many attempts a process runs at once, counted apart for the event loop and for threads."""

from collections import deque
from enum import StrEnum


class Lane(StrEnum):
    """Where an attempt runs."""

    LOOP = "loop"  # `async def`, on the application's event loop
    THREAD = "thread"  # `def`, on a thread of ours


class Lanes:
    """The free places. Safe from any thread: taking from and adding to a deque cannot be interrupted."""

    def __init__(self, sizes: dict[Lane, int]) -> None:
        self.sizes = sizes
        self._free = {lane: deque([lane] * size) for lane, size in sizes.items()}

    def take(self, lane: Lane) -> bool:
        """Take a place if one is free."""
        try:
            self._free[lane].pop()
        except IndexError:
            return False
        return True

    def take_all(self, lane: Lane) -> int:
        """Take every place that is free and return how many it were."""
        taken = 0
        while self.take(lane):
            taken += 1
        return taken

    def give_back(self, lane: Lane, number: int = 1) -> None:
        """Free places."""
        self._free[lane].extend([lane] * number)

    def free(self, lane: Lane) -> int:
        """Return how many places are free."""
        return len(self._free[lane])

    def busy(self) -> int:
        """Return how many attempts hold a place."""
        return sum(size - len(self._free[lane]) for lane, size in self.sizes.items())
