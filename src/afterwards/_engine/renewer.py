"""Keeps this process's lease alive, on a loop that no task can block.

The lease is for the case in which the process lives but stands still; that it has died, others see at once by its
lock. Times are of the boot clock, which no one can set. Whoever finds its own lease over asks what became of it: others
may have taken what it held, or nobody was there to do so.
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

    def __init__(self, *, worker: str, store: Store, clock: Clock, lost: Callable[[bool], Awaitable[int]]) -> None:
        """Prepare the loop.

        Args:
            worker: Whose lease it is.
            store: Where it is kept.
            clock: Its time.
            lost: Called when the lease had ended, with whether the worker itself was forgotten; makes it known again,
                ends the attempts that were taken away and returns how many it were.
        """
        self._worker = worker
        self._store = store
        self._clock = clock
        self._lost = lost
        self._until = clock.boot() + int(LEASE * 1000)

    async def round(self) -> float | None:
        """Prolong the lease, or learn that it has been given to others."""
        now = self._clock.boot()
        until = now + int(LEASE * 1000)
        kept = await ask(self._store, Renew(worker=self._worker, lease_until=until))
        if not kept or now > self._until:
            number = await self._lost(not kept)
            log.error(
                "this process could not renew its lease of %g s in time, and %d of its attempts were given to others. "
                "If neither the machine was suspended nor its disk failed, look for code that blocks the interpreter.",
                LEASE,
                number,
            )
        self._until = until
        return ROUND
