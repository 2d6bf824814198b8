"""Notices an `async def` task that blocks the event loop, and names it.

While such a task runs, the loop is asked for a sign of life; when none comes, the stack of the loop's thread tells
which task holds it. Nothing can be done about it from here but to say so.
"""

import asyncio
import logging
import sys
import threading
import traceback
from types import FrameType

from afterwards._engine.clock import Clock
from afterwards._engine.runner import Runner

log = logging.getLogger("afterwards.engine")

ROUND = 0.25  # seconds
IDLE = 1.0  # seconds, while nothing runs on a loop
PATIENCE = 1_000  # milliseconds


class Watchdog:
    """Watches the loops that attempts run on."""

    def __init__(self, *, runner: Runner, clock: Clock) -> None:
        self._runner = runner
        self._clock = clock
        self._asked: dict[asyncio.AbstractEventLoop, int] = {}  # boot time at which a sign was asked for
        self._told: set[asyncio.AbstractEventLoop] = set()
        self._threads: dict[asyncio.AbstractEventLoop, int] = {}

    async def round(self) -> float | None:
        """Ask every loop for a sign of life and warn about those that owe one."""
        self._runner.reap()
        loops = {attempt.loop for attempt in list(self._runner.active.values()) if attempt.loop is not None}
        for ended in set(self._asked) - loops:
            del self._asked[ended]
            self._told.discard(ended)
        self._threads = {loop: thread for loop, thread in self._threads.items() if loop in loops}
        for loop in loops:
            asked = self._asked.get(loop)
            if asked is None:
                self._asked[loop] = self._clock.boot()
                try:
                    loop.call_soon_threadsafe(self._alive, loop)
                except RuntimeError:  # closed just now: the next round gives back what ran on it
                    del self._asked[loop]
            elif self._clock.boot() - asked > PATIENCE and loop not in self._told:
                self._told.add(loop)
                self._warn(loop)
        return ROUND if loops else IDLE

    def _alive(self, loop: asyncio.AbstractEventLoop) -> None:
        self._threads[loop] = threading.get_ident()
        self._asked.pop(loop, None)
        self._told.discard(loop)

    def _warn(self, loop: asyncio.AbstractEventLoop) -> None:
        name, frame = _blocker(loop)
        if frame is None and loop in self._threads:  # not a task of ours, but something of the application's
            frame = sys._current_frames().get(self._threads[loop])
        log.warning(
            "the event loop has not turned for more than %g s%s. Every request of this process waits for it. "
            "Make what blocks it a plain `def`, which runs on a thread, or await where it waits.\n%s",
            PATIENCE / 1000,
            f", because task {name} blocks it" if name else "",
            "".join(traceback.format_stack(frame)[-6:]) if frame else "",
        )


def _blocker(loop: asyncio.AbstractEventLoop) -> tuple[str | None, FrameType | None]:
    """Find the task that a thread is running on this loop right now, and where it is."""
    for top in list(sys._current_frames().values()):
        frame: FrameType | None = top
        while frame is not None:
            if frame.f_code is Runner._run_on_loop.__code__ and frame.f_locals["attempt"].loop is loop:
                return str(frame.f_locals["attempt"].known.name), top
            frame = frame.f_back
    return None, None
