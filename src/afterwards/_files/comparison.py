"""Compares a stored file with the digest in its row before a task is given it, once a process.

What this process has written itself, or has compared before, is known by inode, size and time of change: a retry, and
a task that runs where its upload was received, read nothing twice. Whoever changes a file changes that time; a disk
that loses bits by itself does not, so what is known stays known until the process ends. Files in rows are small, and
are compared each time. Downloads are not compared: see `outgoing.py`.
"""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from afterwards._files.staging import CHUNK
from afterwards._files.stored import StoredFile, digest_of, path_of
from afterwards.errors import DamagedFile

REMEMBERED = 10_000  # files, the newest

_Look = tuple[int, ...]
_known: OrderedDict[str, _Look | None] = OrderedDict()
_lock = threading.Lock()
_reading = [threading.Lock() for _ in range(16)]  # of several that want one file, one reads it


def know(id: str, fd: int | None = None) -> None:
    """Take note that a file has the bytes of its digest: those behind the descriptor, or few that are in its row."""
    _remember(id, None if fd is None else _look(fd))


def is_known(id: str, root: Path) -> bool:
    """Tell whether a file can be opened without reading it."""
    try:
        look = _known[id]
        return look is None or look == _look(path_of(id, root))
    except (KeyError, OSError):  # not known; or gone, which opening it tells
        return False


def open_compared(stored: StoredFile, root: Path) -> BinaryIO:
    """Open a file for reading, at the start. Blocks for as long as reading it takes, where it is not known.

    Raises:
        MissingFile: There is no such file any more.
        DamagedFile: It does not have the bytes that were stored.
    """
    file = stored.open(root)
    try:
        if stored.content is None:
            _compare(stored, file.fileno(), root)
        elif (found := digest_of(stored.content)) != stored.digest:
            raise _damaged(stored, found, root)
    except BaseException:
        file.close()
        raise
    return file


def _compare(stored: StoredFile, fd: int, root: Path) -> None:
    look = _look(fd)
    if _known.get(stored.id) == look:
        return
    with _reading[hash(stored.id) % len(_reading)]:
        if _known.get(stored.id) == look:
            return
        with _lock:
            _known.pop(stored.id, None)
        hash_ = blake3()
        at = 0
        while chunk := os.pread(fd, CHUNK, at):
            hash_.update(chunk)
            at += len(chunk)
        found = f"blake3:{hash_.hexdigest()}"
        if found != stored.digest:
            raise _damaged(stored, found, root)
        _remember(stored.id, look)


def _remember(id: str, look: _Look | None) -> None:
    with _lock:
        _known[id] = look
        _known.move_to_end(id)
        while len(_known) > REMEMBERED:
            _known.popitem(last=False)


def _look(file: int | Path) -> _Look:
    found = os.stat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _damaged(stored: StoredFile, found: str, root: Path) -> DamagedFile:
    where = stored.path(root) if stored.content is None else "in its row"
    return DamagedFile(
        id=stored.id, name=stored.name, path=where, problem=f"its digest is {found} instead of {stored.digest}"
    )
