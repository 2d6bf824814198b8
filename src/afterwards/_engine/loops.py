"""Drives the engine's loops: one round, then a wait that a wake-up ends early.

A loop is an object with a `round` that does the work once and says in how many seconds it wants to be called again
(None: only when woken). Tests call `round` themselves, with a clock they move.
"""

import asyncio
import logging
import random
from typing import Protocol

from afterwards._engine.clock import Clock
from afterwards.errors import Error

log = logging.getLogger("afterwards.engine")

FAILED = 1.0  # seconds until a round that raised is tried again


class Round(Protocol):
    """One of the engine's loops."""

    async def round(self) -> float | None:
        """Do the work once; return seconds until the next time, None to wait for a wake-up."""
        ...


class Loop:
    """Calls the rounds of one loop until it is stopped."""

    def __init__(self, name: str, body: Round, clock: Clock, *, jitter: float = 0.0, patient: bool = False) -> None:
        """Prepare a loop.

        Args:
            name: How messages call it.
            body: What it does.
            clock: What its pauses are measured by.
            jitter: Seconds by which each pause is lengthened at random, at most.
            patient: A wake-up ends only the wait that has no end of its own, so that many of them cost one round.
        """
        self._name = name
        self._body = body
        self._clock = clock
        self._jitter = jitter
        self._patient = patient
        self._never = asyncio.Event()
        self._wake = asyncio.Event()
        self._woken = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Start the next round now. Safe from any thread, and cheap when a wake-up is on its way already."""
        if self._woken or self._loop is None:
            return
        self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the engine has ended
            self._woken = False

    async def run(self) -> None:
        """Call rounds until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            self._woken = False
            try:
                pause = await self._body.round()
            except BaseException as error:  # a loop that ends would leave tasks in limbo: say so and try again
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                text, trace = (
                    (f": {error}", None) if isinstance(error, Error) else ("", error)
                )  # ours says all there is
                log.error("the %s failed and is tried again in %g s%s", self._name, FAILED, text, exc_info=trace)
                pause = FAILED
            if pause is not None and self._jitter:
                pause += random.uniform(0, self._jitter)
            if pause is None or pause > 0:
                patient = self._patient and pause is not None
                await self._clock.wait(self._never if patient else self._wake, pause)
            else:
                await asyncio.sleep(0)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
