"""Deletes tasks that ended long ago, the files nothing refers to any more, and answers that have expired.

Rows go first and bytes afterwards, so that no row ever names a file that is not there. It also removes what dead
processes left in staging, and that before anything else: it needs no room, so a full disk gets some back by itself.
No round works longer than about a second; what is left is done in the next ones.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from afterwards._domain.amounts import counted
from afterwards._domain.attempts import SECOND
from afterwards._domain.retention import Keep
from afterwards._engine.clock import Clock
from afterwards._files.holding import sweep_holds
from afterwards._files.presence import Presence
from afterwards._files.removal import sweep_work
from afterwards._files.sweep import Swept, remove, sweep_files, sweep_staging
from afterwards._store.contract import Store, ask
from afterwards._store.keys import PruneKeys
from afterwards._store.upkeep import Prune, Pruned

log = logging.getLogger("afterwards.engine")

ROUND = 30.0  # seconds: what a dead process left in staging is gone within a minute
MOST = 1_000  # tasks in one transaction: some 20 ms
SWEEP = 3600 * SECOND  # between looks at every file on disk
LONG = 0.5  # seconds of sweeping in one round
SOON = 0.1  # seconds until the next round where one did not do all


class Pruner:
    """Keeps the store and the disk from growing for ever."""

    def __init__(self, *, root: Path, store: Store, clock: Clock, keep: Keep, presence: Presence) -> None:
        self._root = root
        self._store = store
        self._clock = clock
        self._keep = keep
        self._presence = presence
        self._sweeping: Iterator[Swept] | None = None
        self._removed = 0  # files, by the sweep that is going on
        self._next_sweep = 0
        self._since = (0, 0)  # tasks that ended before are gone: succeeded ones, others

    async def round(self) -> float | None:
        """Prune one batch and sweep for a while; come again at once when there is more."""
        now = self._clock.now()
        swept = await asyncio.to_thread(self._sweep, now)
        before, failed_before = self._keep.ended_before(now)
        since, failed_since = self._since
        pruned: Pruned = await ask(
            self._store,
            Prune(
                before=before,
                failed_before=failed_before,
                since=since,
                failed_since=failed_since,
                now=now,
                limit=MOST,
            ),
        )
        await asyncio.to_thread(remove, pruned.files, self._root)
        keys: int = await ask(self._store, PruneKeys(now=now, limit=MOST))
        if pruned.tasks or pruned.files:
            log.info("pruned %s and %s", counted(pruned.tasks, "task"), counted(len(pruned.files), "file"))
        full = MOST in (pruned.tasks, len(pruned.files), keys)
        if pruned.tasks < MOST:
            self._since = (before, failed_before)
        return SOON if full or not swept else ROUND

    def _sweep(self, now: int) -> bool:
        """Sweep on, and tell whether the sweep has come to its end."""
        if self._sweeping is None:
            self._sweeping = self._steps(now)
        until = time.monotonic() + LONG
        try:
            for step in self._sweeping:
                self._removed += step.removed
                if time.monotonic() >= until:
                    return False
        except BaseException:
            self._sweeping = None
            raise
        self._sweeping = None
        if self._removed:
            log.info("removed %s without a row", counted(self._removed, "file"))
            self._removed = 0
        return True

    def _steps(self, now: int) -> Iterator[Swept]:
        yield from sweep_staging(self._root, self._presence.lives)
        left = list(sweep_work(self._root, self._presence.lives))
        if left:
            log.info("removed the work folders of %s that ended", counted(len(left), "process"))
        self._presence.sweep({worker.id for worker in self._store.workers()})
        sweep_holds(self._root)
        if now >= self._next_sweep:  # looks at every file there is
            yield from sweep_files(self._root, lambda ids: self._store.known_files(ids), now=now / SECOND)
            self._next_sweep = now + SWEEP
            self._since = (0, 0)  # once in a while from the beginning: clocks are set, tasks were spared
