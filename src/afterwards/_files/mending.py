"""Mends what a check found in the folders of a data directory, without a guess.

Each call does one thing if the world still is as the check saw it, and says whether it did. Nothing that a row names is
removed or written over.
"""

import errno
import os
import stat
from pathlib import Path

from afterwards._files.disk import DISK
from afterwards._files.inspection import digest_of_file
from afterwards._files.stored import path_of


def close_to_others(path: Path) -> bool:
    """Take away what users other than the owner may do with a file or folder."""
    found = os.lstat(path)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISFIFO(found.st_mode)):
        return False
    os.chmod(path, stat.S_IMODE(found.st_mode) & 0o700)
    return True


def is_intact(path: Path, size: int, digest: str) -> bool:
    """Tell whether a plain file has these bytes."""
    try:
        found = os.lstat(path)
        return stat.S_ISREG(found.st_mode) and found.st_size == size and digest_of_file(path) == digest
    except FileNotFoundError:
        return False


def put_back(path: Path, id: str, root: Path, *, size: int, digest: str) -> bool:
    """Move a file that lies elsewhere to where its row looks for it, if it is intact and nothing is there."""
    if not is_intact(path, size, digest):
        return False
    target = path_of(id, root)
    DISK.make_folder(target.parent)
    try:
        os.link(path, target, follow_symlinks=False)  # unlike a rename, it replaces nothing
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK) or os.path.lexists(target):
            raise
        os.rename(path, target)  # a file system without links
    else:
        os.chmod(target, 0o600)
        DISK.sync_folder(target.parent)
        os.unlink(path)
    DISK.sync_folder(target.parent)
    DISK.sync_folder(target.parent.parent)
    return True
