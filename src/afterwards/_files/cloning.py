"""Gives libraries that need a path one of their own to stored bytes, which nobody can change through it.

Where the file system can, both share their blocks until one is written to; that costs nothing. Else a second name of
the same file, which is made read-only before: only for users whom that stops, so not for root. Else a copy.
"""

import fcntl
import os
import shutil
import sys
from pathlib import Path
from typing import BinaryIO

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SHARE_BLOCKS = 0x40049409  # Linux's FICLONE
CHUNK = 1 << 20  # bytes


def clone(file: BinaryIO, target: Path, *, stored_at: Path | None = None) -> None:
    """Make `target`, which must not exist yet, a read-only file with the bytes of an open one.

    Args:
        file: Open at its start.
        target: Where.
        stored_at: Where the open file is, if it may get a second name: it will never be written again.
    """
    fd = os.open(target, _NEW, 0o600)
    try:
        if _share(file, fd):
            os.fchmod(fd, 0o400)
            return
    finally:
        os.close(fd)
    if stored_at is not None and os.geteuid() != 0 and _link(file, stored_at, target):
        return
    with open(target, "wb") as copy:
        shutil.copyfileobj(file, copy, CHUNK)
        os.fchmod(copy.fileno(), 0o400)


def _share(file: BinaryIO, fd: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(fd, _SHARE_BLOCKS, file.fileno())
    except (OSError, ValueError):  # most file systems cannot; bytes in memory have no descriptor
        return False
    return True


def _link(file: BinaryIO, stored_at: Path, target: Path) -> bool:
    """Give a file a second name, in the place of the empty file that is there."""
    try:
        os.fchmod(file.fileno(), 0o400)
        os.unlink(target)
        os.link(stored_at, target, follow_symlinks=False)
        if os.path.samestat(os.fstat(file.fileno()), os.lstat(target)):
            return True
        os.unlink(target)
    except OSError:  # another file system, or one without second names
        return False
    return False
