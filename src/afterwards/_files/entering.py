"""Enters a data directory as a program that is about to start on it, so that no restore begins at the same moment.

Each of the two first shows itself and then looks for the other: a program holds a lock, then looks for the marker of a
restore; a restore sets its marker, then looks for locks. Whichever is later sees the earlier one and refuses. Nothing
but the lock is written before that look, so a restore never meets half of what a program has made.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afterwards._domain.ids import new_id
from afterwards._files.directory import check_restored, open_directory
from afterwards._files.disk import DISK
from afterwards._files.presence import lock, unlock
from afterwards.errors import StoreRefused


@contextmanager
def entering(data: Path) -> Iterator[Path]:
    """Make or check a data directory, and be seen there as a living process for as long as the block lasts.

    Raises:
        StoreRefused: It cannot be used, or a restore is under way.
    """
    root = open_directory(data)
    path = root / "workers" / f"{new_id()}.lock"
    try:
        DISK.make_folder(path.parent)
        descriptor = lock(path)
    except OSError as error:
        raise StoreRefused(
            f"{path.parent} cannot hold the lock by which processes know of each other: {error.strerror}. Make room "
            "there, or choose a data directory on a local disk of this user."
        ) from error
    try:
        check_restored(root)
        yield root
    finally:
        path.unlink(missing_ok=True)
        unlock(descriptor)
