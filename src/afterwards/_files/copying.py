"""Brings stored files into a backup and back: shared with the original where the file system can, else copied.

Stored files are never written again, so two names may share their bytes. A clone (reflink) is independent of the
original, so it is tried first; a hard link is the same file under another name, so restoring never makes one.
Whichever way, the bytes are read and their digest is compared before the file gets its name.
"""

import os
import stat
from enum import StrEnum
from pathlib import Path

from blake3 import blake3

from afterwards._files.cloning import add_name, share_blocks
from afterwards._files.disk import DISK, NEW_FILE, READ_FILE
from afterwards._files.inspection import Advance
from afterwards._files.staging import CHUNK


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
        way: Whether it may be cloned, and linked where it cannot be cloned; else it is copied.
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
    try:
        reading = os.open(source, READ_FILE)
    except FileNotFoundError:
        raise NotAsStored(f"there is no {source}") from None
    try:
        writing = os.open(draft, NEW_FILE, 0o600)
        try:
            done = Way.CLONED if way is not Way.COPIED and share_blocks(reading, writing) else Way.COPIED
            if done is Way.COPIED and way is Way.LINKED and _linked(reading, source, draft):
                done = Way.LINKED
            copy = writing if done is Way.COPIED else None
            _compare(_digest(reading, copy, advance), reading, size, digest, source)
            if done is not Way.LINKED:
                DISK.sync_file(writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return done


def _linked(reading: int, source: Path, draft: Path) -> bool:
    """Put a second name of the file that is being read in the place of the empty draft, where that can be done."""
    other = draft.with_name(f"{draft.name}.link")
    try:
        if not add_name(source, other):
            return False
    except FileNotFoundError:
        raise NotAsStored(f"there is no {source}") from None
    if not os.path.samestat(os.fstat(reading), os.lstat(other)):
        other.unlink()
        return False
    os.rename(other, draft)
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
