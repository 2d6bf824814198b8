"""Threads for `def` tasks, apart from the ones the web framework shares among requests.

They are started when needed and kept. They are daemons, because a thread cannot be stopped: a task that will not
end must not keep the process from ending, and what it leaves undone is taken up again.
"""

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger("afterwards.engine")


class Threads:
    """Runs calls on at most so many threads; more than that wait."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._open = 0  # calls that run or wait

    def run(self, call: Callable[[], None]) -> None:
        """Run a call, which must not raise, on a thread."""
        self._calls.put(call)
        with self._lock:
            self._open += 1
        self.grow()

    def grow(self) -> None:
        """Start a thread if one is missing. To be called now and then: the system may have refused one before."""
        with self._lock:
            if self._open <= self._started or self._started >= self._most:
                return
            thread = threading.Thread(target=self._work, name=f"afterwards-task-{self._started + 1}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the calls wait for another thread, or for the next try
                log.error("the system refuses a thread, so a task waits: %s. Look at the limit for threads.", error)
                return
            self._started += 1

    def close(self) -> None:
        """Let the threads end when they have nothing left to run."""
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # nothing of a finished task is kept alive by a waiting thread
            with self._lock:
                self._open -= 1
