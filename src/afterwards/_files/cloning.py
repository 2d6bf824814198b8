"""Gives stored bytes another place: blocks that two files share until one is written to, or a second name, or a copy.

Shared blocks cost nothing and leave two files that are independent of each other, so they go before everything else. A
second name is the same file: writing through one of them changes both. Not every file system can do either.
"""

import errno
import fcntl
import os
import shutil
import sys
from pathlib import Path
from typing import BinaryIO

from afterwards._files.disk import NEW_FILE

CHUNK = 1 << 20  # bytes
_FICLONE = 0x40049409  # linux/fs.h
_CANNOT = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EMLINK}
)


def share_blocks(reading: int, writing: int) -> bool:
    """Give an empty file the blocks of another; False where the file system cannot."""
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def add_name(source: Path, target: Path) -> bool:
    """Give a file a second name; False where the file system cannot.

    Raises:
        FileNotFoundError: There is no such file.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def clone(file: BinaryIO, target: Path, *, stored_at: Path | None = None) -> None:
    """Make `target`, which must not exist yet, a read-only file with the bytes of an open one.

    For libraries that need a path. Nothing that they do through it changes what is stored: a second name is made
    read-only before, and only for users whom that stops, so not for root.

    Args:
        file: Open at its start.
        target: Where.
        stored_at: Where the open file is, if it may get a second name: it will never be written again.
    """
    fd = os.open(target, NEW_FILE, 0o600)
    try:
        if _has_descriptor(file) and share_blocks(file.fileno(), fd):
            os.fchmod(fd, 0o400)
            return
    finally:
        os.close(fd)
    if stored_at is not None and os.geteuid() != 0 and _link(file, stored_at, target):
        return
    with open(target, "wb") as copy:
        shutil.copyfileobj(file, copy, CHUNK)
        os.fchmod(copy.fileno(), 0o400)


def _has_descriptor(file: BinaryIO) -> bool:
    try:
        file.fileno()
    except (OSError, ValueError):  # bytes in memory
        return False
    return True


def _link(file: BinaryIO, stored_at: Path, target: Path) -> bool:
    """Put a second name of a file in the place of the empty file that is there."""
    try:
        os.fchmod(file.fileno(), 0o400)
        os.unlink(target)
        if add_name(stored_at, target):
            if os.path.samestat(os.fstat(file.fileno()), os.lstat(target)):
                return True
            os.unlink(target)
    except OSError:  # it has gone, or belongs to somebody else
        return False
    return False
