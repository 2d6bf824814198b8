"""Holds: while a process has one, no stored file of the data directory is removed by anybody.

A backup first copies the database and then the files that its rows name; what is pruned in between must stay readable.
A hold is a locked file beside the locks of the workers, so that it ends with its process. Rows may go on being
deleted. Whoever then removes bytes asks here after the rows are gone and before each removal: a row that a snapshot
still has was deleted after the snapshot, which was made after the hold, so the question always comes late enough.
What was spared has no row any more and goes with the next sweep.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afterwards._domain.ids import is_id, new_id
from afterwards._files.disk import DISK
from afterwards._files.presence import YOUNG, is_held, lock, unlock
from afterwards.errors import StoreRefused


@contextmanager
def holding(root: Path) -> Iterator[None]:
    """Keep every stored file where it is for as long as the block lasts.

    Raises:
        StoreRefused: No lock can be made in the data directory.
    """
    path = root / "workers" / f"{new_id()}.hold"
    try:
        if DISK.make_folder(path.parent) and os.geteuid() == 0:  # it is to be used by the account of the program
            owner = os.stat(root)
            os.chown(path.parent, owner.st_uid, owner.st_gid)
        descriptor = lock(path)
    except OSError as error:
        raise StoreRefused(
            f"{path.parent} cannot hold a lock: {error.strerror}, so files could be removed in the middle. Make room "
            "there, and use the account that runs the program."
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        unlock(descriptor)


def held(root: Path) -> bool:
    """Tell whether a living process wants every stored file to stay."""
    return any(is_held(path) for path in (root / "workers").glob("*.hold"))


def sweep_holds(root: Path) -> None:
    """Remove what killed processes left of their holds."""
    for path in (root / "workers").glob("*.hold"):
        try:
            old = time.time() - path.lstat().st_mtime > YOUNG
        except FileNotFoundError:
            continue
        if old and is_id(path.stem) and not is_held(path):
            path.unlink(missing_ok=True)
