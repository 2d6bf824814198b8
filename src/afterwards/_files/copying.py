"""Brings stored files into a backup and back: shared with the original where the file system can, else copied.

Stored files are never written again, so two names may share their bytes. A clone (reflink) is independent of the
original; a hard link is the same file under another name, which is why restoring never makes one. Whichever way, the
bytes are read and their digest is compared before the file gets its name.
"""

import errno
import fcntl
import os
import stat
import sys
from enum import StrEnum
from pathlib import Path

from blake3 import blake3

from afterwards._files.disk import DISK
from afterwards._files.inspection import Advance
from afterwards._files.staging import CHUNK

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FICLONE = 0x40049409  # linux/fs.h
_CANNOT = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EMLINK}
)


class Way(StrEnum):
    """How a file got to its other place."""

    CLONED = "cloned"  # shares its bytes, and is a file of its own
    LINKED = "linked"  # is the same file
    COPIED = "copied"


class NotAsStored(Exception):
    """The bytes are not there, or are not those that were stored."""


def bring(source: Path, draft: Path, *, size: int, digest: str, way: Way, advance: Advance) -> Way:
    """Bring a file under a name that does not exist yet, on stable storage but for the name; tell how.

    Args:
        source: A stored file.
        draft: Its new name.
        size: As its row says.
        digest: As its row says.
        way: The cheapest way that is allowed; the others follow where the file system cannot.
        advance: Told how many bytes have been read.

    Raises:
        NotAsStored: The source is missing or damaged. There is no draft.
        OSError: It could not be read or written. There is no draft.
    """
    try:
        done = _bring(source, draft, size, digest, way, advance)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return done


def _bring(source: Path, draft: Path, size: int, digest: str, way: Way, advance: Advance) -> Way:
    try:
        found = os.lstat(source)
    except (FileNotFoundError, NotADirectoryError):
        raise NotAsStored(f"there is no {source}") from None
    if not stat.S_ISREG(found.st_mode):
        raise NotAsStored(f"{source} is not a plain file")
    if way is Way.LINKED and _linked(source, draft):
        reading = os.open(draft, _READ)
        try:
            _compare(_digest(reading, None, advance), reading, size, digest, source)
        finally:
            os.close(reading)
        return Way.LINKED
    try:
        reading = os.open(source, _READ)
    except FileNotFoundError:
        raise NotAsStored(f"there is no {source}") from None
    try:
        writing = os.open(draft, _NEW, 0o600)
        try:
            cloned = way is not Way.COPIED and _cloned(reading, writing)
            _compare(_digest(reading, None if cloned else writing, advance), reading, size, digest, source)
            DISK.sync_file(writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return Way.CLONED if cloned else Way.COPIED


def _linked(source: Path, draft: Path) -> bool:
    try:
        os.link(source, draft, follow_symlinks=False)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        if error.errno == errno.ENOENT and not os.path.lexists(source):
            raise NotAsStored(f"there is no {source}") from None
        raise
    return True


def _cloned(reading: int, writing: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _digest(reading: int, writing: int | None, advance: Advance) -> str:
    hash = blake3()
    while chunk := os.read(reading, CHUNK):
        hash.update(chunk)
        rest = memoryview(chunk)
        while writing is not None and rest:
            rest = rest[os.write(writing, rest) :]
        advance(len(chunk))
    return f"blake3:{hash.hexdigest()}"


def _compare(read: str, reading: int, size: int, digest: str, source: Path) -> None:
    found = os.fstat(reading).st_size
    if found != size:
        raise NotAsStored(f"{source} has {found:,} bytes instead of {size:,}")
    if read != digest:
        raise NotAsStored(f"the digest of {source} is {read} instead of {digest}")
