"""Threads for `def` tasks, apart from the ones the web framework shares among requests.

They are started when needed and kept. They are daemons, because a thread cannot be stopped: a task that will not
end must not keep the process from ending, and what it leaves undone is taken up again.

One thread at a time is woken, and it wakes the next when it finds more to do: short calls are then all made by one
thread, instead of by many that fight for the interpreter lock.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger("afterwards.engine")


class Threads:
    """Runs calls on at most so many threads; more than that wait."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: deque[Callable[[], None]] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._asleep = 0  # threads that wait for the bell
        self._waking = False  # one of them, or a new one, is on its way
        self._closed = False

    def run(self, call: Callable[[], None]) -> None:
        """Run a call, which must not raise, on a thread."""
        self._calls.append(call)
        self.wake()

    def wake(self) -> None:
        """Get one thread more to work, if calls wait. To be called now and then: the system may have refused one."""
        with self._lock:
            if self._waking or not self._calls:
                return
            if self._asleep:
                self._asleep -= 1
                self._waking = True
                self._bell.put(None)
            elif self._started < self._most:
                thread = threading.Thread(target=self._work, name=f"afterwards-task-{self._started + 1}", daemon=True)
                self._started += 1
                self._waking = True
                try:
                    thread.start()
                except RuntimeError as error:  # the calls wait for another thread, or for the next try
                    self._started -= 1
                    self._waking = False
                    log.error("the system refuses a thread, so a task waits: %s. Look at the limit for threads.", error)

    def close(self) -> None:
        """Let the threads end when they have nothing left to run."""
        with self._lock:
            self._closed = True
            for _ in range(self._asleep):
                self._bell.put(None)
            self._asleep = 0

    def _work(self) -> None:
        self._waking = False
        while True:
            try:
                call = self._calls.popleft()
            except IndexError:
                if not self._sleep():
                    return
                continue
            if self._calls:
                self.wake()
            call()
            del call  # nothing of a finished task is kept alive by a waiting thread

    def _sleep(self) -> bool:
        """Wait for the bell; False when it is time to end."""
        with self._lock:
            if self._calls:
                return True
            if self._closed:
                return False
            self._asleep += 1
        self._bell.get()
        self._waking = False
        return True
