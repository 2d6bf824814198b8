"""Makes one file of several without carrying the bytes through this process where the system can.

Where the file system shares blocks (btrfs, XFS) nothing is copied; elsewhere on Linux the kernel copies; anywhere
else we do.
"""

import errno
import os
import sys
from collections.abc import Callable

from afterwards._files.disk import WRITE_BACK, honest_errors, start_writing_back
from afterwards._files.parts import CHUNK, Part

_UNABLE = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, errno.EPERM)


def append(target: Part, at: int, source: Part, size: int, *, check: Callable[[], object] = lambda: None) -> None:
    """Copy the first bytes of one part to a place in another. Blocks.

    Args:
        target: Where they go.
        at: The place.
        source: Where they are.
        size: How many.
        check: Called after every few MiB; what it raises ends the copying. Where blocks are shared, the disk has as
            much room then as before.

    Raises:
        StorageFull, StorageUnsure: It could not be written, or the source has fewer bytes.
    """
    with honest_errors(f"joining uploads of which {at:,} bytes were together", target.root):
        done = _in_kernel(target.fd, at, source.fd, size, check) if sys.platform == "linux" else 0
        while done < size:
            chunk = os.pread(source.fd, min(CHUNK, size - done), done)
            if not chunk:
                raise OSError(errno.EIO, f"part {source.id} has {done:,} bytes instead of {size:,}")
            view = memoryview(chunk)
            while view:
                view = view[os.pwrite(target.fd, view, at + done + len(chunk) - len(view)) :]
            done += len(chunk)
            check()


def _in_kernel(target: int, at: int, source: int, size: int, check: Callable[[], object]) -> int:
    """Copy as much as the kernel does; return how much that was. It shares blocks by itself where it can."""
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(source, target, min(WRITE_BACK, size - done), done, at + done)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            return done
        if count == 0:
            return done
        start_writing_back(target, at + done, count)
        done += count
        check()
    return done
