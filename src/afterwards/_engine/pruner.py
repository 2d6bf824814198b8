"""Deletes tasks that ended long ago, and the files nothing refers to any more.

Rows go first and bytes afterwards, so that no row ever names a file that is not there. It also removes what dead
processes left in staging.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from afterwards._domain.attempts import SECOND
from afterwards._engine.clock import Clock
from afterwards._files.presence import Presence
from afterwards._files.removal import sweep_work
from afterwards._files.sweep import remove, sweep_files, sweep_staging
from afterwards._store.contract import Prune, Pruned, Store, ask

log = logging.getLogger("afterwards.engine")

ROUND = 60.0  # seconds
MOST = 1_000  # tasks in one transaction: some 20 ms
SWEEP = 3600 * SECOND  # between looks at every file on disk


class Pruner:
    """Keeps the store and the disk from growing for ever."""

    def __init__(self, *, root: Path, store: Store, clock: Clock, keep: int, presence: Presence) -> None:
        self._root = root
        self._store = store
        self._clock = clock
        self._keep = keep  # microseconds
        self._presence = presence
        self._next_sweep = 0

    async def round(self) -> float | None:
        """Prune one batch; come again at once when there was a whole one."""
        now = self._clock.now()
        pruned: Pruned = await ask(self._store, Prune(before=now - self._keep, now=now, limit=MOST))
        await asyncio.to_thread(self._sweep, pruned.files, now)
        if pruned.tasks or pruned.files:
            log.info("pruned %d tasks and %d files", pruned.tasks, len(pruned.files))
        return 0.1 if pruned.tasks == MOST else ROUND

    def _sweep(self, files: Sequence[str], now: int) -> None:
        remove(files, self._root)
        swept = list(sweep_staging(self._root, self._presence.lives))
        left = list(sweep_work(self._root, self._presence.lives))
        if left:
            log.info("removed the work folders of %d processes that have ended", len(left))
        self._presence.sweep({worker.id for worker in self._store.workers()})
        if now >= self._next_sweep:  # looks at every file there is
            swept += sweep_files(self._root, lambda ids: self._store.known_files(ids), now=now / SECOND)
            self._next_sweep = now + SWEEP
        removed = sum(step.removed for step in swept)
        if removed:
            log.info("removed %d files that no task refers to", removed)
