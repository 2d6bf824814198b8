"""Ends uploads to which nothing came for too long, and removes their bytes.

Rows go first and bytes afterwards: whoever comes back meets an upload that is over, never one without its bytes. Part
files that no open upload has, left by a crash, are removed by a sweep.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from afterwards._domain.amounts import counted
from afterwards._domain.attempts import SECOND
from afterwards._engine.clock import Clock
from afterwards._files.parts import remove_part
from afterwards._files.sweep import sweep_uploads
from afterwards._store.contract import Store, ask
from afterwards._store.upload_commands import ExpireUploads

log = logging.getLogger("afterwards.engine")

ROUND = 60.0  # seconds
MOST = 500  # uploads in one transaction
SWEEP = 3600 * SECOND  # between looks at every part file


class Expirer:
    """Keeps uploads that nobody finishes from filling the disk."""

    def __init__(self, *, root: Path, store: Store, clock: Clock) -> None:
        self._root = root
        self._store = store
        self._clock = clock
        self._next_sweep = 0

    async def round(self) -> float | None:
        """End one batch; come again at once when there was a whole one."""
        now = self._clock.now()
        ended: tuple[str, ...] = await ask(self._store, ExpireUploads(now=now, limit=MOST))
        await asyncio.to_thread(self._remove, ended, now)
        if ended:
            log.info("ended %s to which nothing came any more", counted(len(ended), "upload"))
        return 0.1 if len(ended) == MOST else ROUND

    def _remove(self, ended: Sequence[str], now: int) -> None:
        for id in ended:
            remove_part(id, self._root)
        if now >= self._next_sweep:
            swept = list(sweep_uploads(self._root, self._store.open_uploads, now=now / SECOND))
            removed = sum(step.removed for step in swept)
            if removed:
                log.info("removed %s of uploads that are over", counted(removed, "part file"))
            self._next_sweep = now + SWEEP
