"""Brings tasks and their files onto stable storage together: files first, so that no row names one that is not there.

What is refused for sure leaves no file behind. Where nobody knows whether a row was stored, its files stay, and the
sweep removes what no row names.
"""

from collections.abc import Sequence
from pathlib import Path

from afterwards._engine.intake import Intake, Plan
from afterwards._files.pending import PendingFile
from afterwards._files.pools import Pool
from afterwards._files.promotion import demote, promote
from afterwards._files.recent import Recent
from afterwards._files.stored import StoredFile
from afterwards.errors import KeyLost, QuotaExceeded, Stopped, StorageFull, StoreBusy, UnknownFile

NOT_STORED = (StorageFull, StoreBusy, Stopped, KeyLost, QuotaExceeded, UnknownFile)


class Storing:
    """Stores plans with their files, which it lets go of whatever happens."""

    def __init__(self, root: Path, intake: Intake) -> None:
        self._root = root
        self._intake = intake
        self.recent = Recent()
        self._promoters = Pool("promoter", 4)

    def close(self) -> None:
        """Let the threads end."""
        self._promoters.shutdown()

    async def store(self, plan: Plan, files: Sequence[PendingFile]) -> None:
        """Store a plan.

        Raises:
            StorageFull, StorageUnsure, StoreBusy, Stopped, KeyLost: See `Intake.store`.
        """
        if not files:
            return await self._intake.store(plan)
        if all(file.source.few for file in files):
            stored = promote(files, self._root)  # a thread would take longer to begin
        else:
            stored = await self._promote(plan, files)
        try:
            await self._intake.store(plan, stored)
            self.recent.add([file for file in stored if file.verdict is None])
        except NOT_STORED:
            demote(files)
            raise
        finally:
            release(files)

    async def _promote(self, plan: Plan, files: Sequence[PendingFile]) -> list[StoredFile]:
        try:
            return await self._promoters.run(promote, files, self._root)
        except BaseException:
            plan.give_up()
            self._promoters.soon(_take_back, files)
            raise

    def store_blocking(self, plan: Plan, files: Sequence[PendingFile], *, late: bool = False) -> None:
        """Do the same on a thread that may block."""
        try:
            stored = promote(files, self._root) if files else []
        except BaseException:
            plan.give_up()
            _take_back(files)
            raise
        try:
            self._intake.store_blocking(plan, stored, late=late)
        except NOT_STORED:
            demote(files)
            raise
        finally:
            release(files)


def release(files: Sequence[PendingFile]) -> None:
    """Let go of files that were kept for a task."""
    for file in files:
        file.release()


def _take_back(files: Sequence[PendingFile]) -> None:
    demote(files)
    release(files)
