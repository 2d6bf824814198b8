"""The few calls that decide whether bytes survive a power cut, and what their errors are called.

Everything that makes a file durable goes through one `Disk`, so that a test can watch the order of the calls or
let one of them fail on a real file system. The calls follow no symbolic link and make nothing that others can read.
"""

import errno
import fcntl
import os
import resource
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afterwards.errors import StorageFull, StorageUnsure, StoreRefused, TooManyOpenFiles

FULL = (errno.ENOSPC, errno.EDQUOT)
USED_UP = (errno.EMFILE, errno.ENFILE)
WRITE_BACK = 32 << 20  # bytes between two requests to begin writing
READ_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # the last: a pipe put there must not hang us
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Disk:
    """The calls that reach stable storage. All of them block."""

    def sync_file(self, fd: int) -> None:
        """Wait until a file's bytes are on stable storage."""
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync there stops at the drive's own cache
        else:
            os.fsync(fd)

    def sync_data(self, fd: int) -> None:
        """Wait until a file's bytes and size are on stable storage, but not its times."""
        if sys.platform == "darwin":
            self.sync_file(fd)
        else:
            os.fdatasync(fd)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on stable storage."""
        fd = os.open(path, READ_FOLDER)
        try:
            self.sync_file(fd)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its other name, in one step."""
        os.rename(source, target)

    def make_folder(self, path: Path) -> bool:
        """Make a folder only we can enter; tell whether it is new."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise StoreRefused(
                    f"{path} is not a folder. Afterwards keeps uploads there and follows no link; "
                    "move what is there away, or choose another data directory."
                ) from None
            return False
        return True


DISK = Disk()


def start_writing_back(fd: int, start: int, length: int) -> None:
    """Ask the system to begin writing a range to the disk, without waiting for it.

    The later fsync then finds little left to do. Measured with 1 GiB uploads: 1.1 to 1.5 s with this call each
    32 MiB, 1.6 to 3.4 s without it, 1.5 to 2.5 s with fdatasync each 32 MiB. On Linux DONTNEED starts the writing of
    dirty pages, and drops only those that are on the disk already.
    """
    if sys.platform == "linux":
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)


@contextmanager
def honest_errors(doing: str, root: Path) -> Iterator[None]:
    """Turn what the system says into `StorageFull`, `StorageUnsure` or `TooManyOpenFiles`, with the values.

    Args:
        doing: What could not be done, with the size: "receiving an upload of which 1,048,576 bytes had arrived".
        root: The data directory, to say how full its disk is.
    """
    try:
        with honest_openings(doing):
            yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(
                f"{doing} failed: {_room(error, root)}. Nothing of this request has been stored. "
                "Make room there, or choose a data directory on a larger disk, then send it again."
            ) from error
        raise StorageUnsure(
            f"{doing} failed: {error.strerror or error} ({errno.errorcode.get(error.errno or 0, 'no number')}, "
            f"data directory {root}). Nothing of this request has been answered as stored. "
            "See that the disk is healthy and that this program may write there, then send it again."
        ) from error


@contextmanager
def honest_openings(doing: str) -> Iterator[None]:
    """Turn an error that says that no descriptor is left into `TooManyOpenFiles`; others pass.

    Args:
        doing: What could not be done: "opening file 0123".
    """
    try:
        yield
    except OSError as error:
        if error.errno not in USED_UP:
            raise
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        whose = f"this process may have {limit:,}" if error.errno == errno.EMFILE else "the machine has no more"
        raise TooManyOpenFiles(
            f"{doing} failed: all file descriptors are in use ({whose}). Nothing of this has been done. "
            "Raise the limit (`ulimit -n`, or `LimitNOFILE=` of a systemd unit) if this happens again, and try again."
        ) from error


def _room(error: OSError, root: Path) -> str:
    if error.errno == errno.EDQUOT:
        return f"the disk quota of this user is used up (data directory {root})"
    try:
        free = os.statvfs(root)
    except OSError:  # the reason to be told is the full disk, not this
        return f"no space is left on the disk of {root}"
    mebibytes = free.f_bavail * free.f_frsize / 1048576
    return (
        f"no space is left on the disk of {root} ({mebibytes:,.1f} MiB and {free.f_favail:,} more files are free now)"
    )
