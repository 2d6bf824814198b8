"""Keeps this process's lease alive, on a loop that no task can block.

The lease is for the case in which the process lives but stands still; that it has died, others see at once by its
lock. Times are of the boot clock, which no one can set.
"""

import logging
from collections.abc import Awaitable, Callable

from afterwards._engine.clock import Clock
from afterwards._store.contract import Renew, Store, ask

log = logging.getLogger("afterwards.engine")

LEASE = 30.0  # seconds; a process that stands still longer loses its attempts
ROUND = 10.0


class Renewer:
    """Prolongs the lease every third of it."""

    def __init__(self, *, worker: str, store: Store, clock: Clock, lost: Callable[[], Awaitable[None]]) -> None:
        self._worker = worker
        self._store = store
        self._clock = clock
        self._lost = lost

    async def round(self) -> float | None:
        """Prolong the lease, or learn that it has been given to others."""
        until = self._clock.boot() + int(LEASE * 1000)
        if not await ask(self._store, Renew(worker=self._worker, lease_until=until)):
            log.error(
                "this process stood still for more than %g s, so its attempts were given up; it goes on as a new worker. "
                "If the machine was not suspended, look for code that blocks the whole interpreter.",
                LEASE,
            )
            await self._lost()
        return ROUND
