"""Brings tasks and their files onto stable storage together: files first, so that no row names one that is not there.

What is refused for sure leaves no file behind. Where nobody knows whether a row was stored, its files stay, and the
sweep removes what no row names.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from afterwards._engine.intake import Intake, Plan
from afterwards._files.pending import PendingFile
from afterwards._files.pools import Pool
from afterwards._files.promotion import demote, leave, promote, record
from afterwards._files.recent import Recent
from afterwards._files.stored import StoredFile
from afterwards.errors import CommandRefused, KeyLost, QuotaExceeded, Stopped, StorageFull, StoreBusy, UnknownFile

NOT_STORED = (StorageFull, StoreBusy, Stopped, KeyLost, QuotaExceeded, UnknownFile, CommandRefused)


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

        Files that are on record already are only tied to its tasks: a row that was deleted meanwhile must not come
        back without its bytes.

        Raises:
            StorageFull, StorageUnsure, StoreBusy, Stopped, KeyLost: See `Intake.store`.
            UnknownFile: One of the files that were on record has been deleted. Nothing is stored.
        """
        if not files:
            return await self._intake.store(plan)
        fresh = [file for file in files if not file.recorded]
        if all(file.source.few for file in fresh):
            stored = promote(fresh, self._root)  # a thread would take longer to begin
        else:
            stored = await self._promote(plan, files)
        plan.unheard = partial(_settle, fresh)
        try:
            await self._intake.store(plan, stored)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            _settle(fresh, error)
            raise
        else:
            _settle(fresh, None)
            self.recent.add([file for file in stored if file.verdict is None])
        finally:
            release(files)

    async def _promote(self, plan: Plan, files: Sequence[PendingFile]) -> list[StoredFile]:
        fresh = [file for file in files if not file.recorded]
        try:
            return await self._promoters.run(promote, fresh, self._root)
        except BaseException:
            plan.give_up()
            self._promoters.soon(_take_back, files)
            raise

    def store_blocking(self, plan: Plan, files: Sequence[PendingFile], *, late: bool = False) -> None:
        """Do the same on a thread that may block."""
        try:
            fresh = [file for file in files if not file.recorded]
            stored = promote(fresh, self._root) if fresh else []
        except BaseException:
            plan.give_up()
            _take_back(files)
            raise
        try:
            self._intake.store_blocking(plan, stored, late=late)
        except Exception as error:
            _settle(fresh, error)
            raise
        else:
            _settle(fresh, None)
        finally:
            release(files)


def release(files: Sequence[PendingFile]) -> None:
    """Let go of files that were kept for a task."""
    for file in files:
        file.release()


def _settle(files: Sequence[PendingFile], answer: BaseException | None) -> None:
    """Do with promoted files what follows from the answer to the command that told of them."""
    if answer is None:
        record(files)
    elif isinstance(answer, NOT_STORED):
        demote(files)
    else:
        leave(files)


def _take_back(files: Sequence[PendingFile]) -> None:
    demote(files)
    release(files)
