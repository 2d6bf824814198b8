"""Which files have their final name and no row yet, while a living process is about to put them on record.

A file is promised before it gets its name, until the store has answered. Whoever sweeps asks here first and for rows
afterwards: a promise that is over was kept, and there is a row, or no row will ever come. No clock is part of that: a
process that stood still for a day, or that offers a full disk its rows for a night, still has what it promised.

A promise is a lock on one byte of `root/workers/promises`, at the place that the file's id gives. The kernel gives it
up the moment its process ends, however it ends. Within a process a set is asked, because there it never conflicts.
"""

import errno
import fcntl
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from afterwards._files.disk import DISK

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_guard = threading.Lock()


@dataclass(slots=True)
class _Place:
    """The file of one data directory, open for as long as something is promised: closing it would end all locks."""

    descriptor: int
    identity: tuple[int, int]
    ids: set[str] = field(default_factory=set)


_places: dict[tuple[int, int], _Place] = {}  # by device and inode: one file may be reached by several paths
_promised: dict[str, _Place] = {}


def _forget_parent() -> None:
    """A forked child has promised nothing."""
    global _guard
    _guard = threading.Lock()
    _places.clear()
    _promised.clear()


os.register_at_fork(after_in_child=_forget_parent)


def promise(ids: Iterable[str], root: Path) -> None:
    """Keep files that are about to get their final names from being swept.

    Raises:
        OSError: There is no room for the file of promises, or no lock to be had.
    """
    with _guard:
        place = _open(_path(root), create=True)
        assert place is not None
        try:
            for id in ids:
                fcntl.lockf(place.descriptor, fcntl.LOCK_EX, 1, _byte(id))  # whoever has it only looks
                place.ids.add(id)
                _promised[id] = place
        finally:
            _close_unused(place)


def end(ids: Iterable[str]) -> None:
    """Say that the store has answered. What was never promised, or is over, is fine."""
    with _guard:
        for id in ids:
            place = _promised.pop(id, None)
            if place is not None:
                place.ids.discard(id)
                fcntl.lockf(place.descriptor, fcntl.LOCK_UN, 1, _byte(id))
                _close_unused(place)


def is_promised(id: str, root: Path) -> bool:
    """Tell whether a living process may still put a file on record. True also where that cannot be told."""
    with _guard:
        if id in _promised:
            return True
        try:
            place = _open(_path(root), create=False)
        except OSError:
            return True
        if place is None:
            return False
        try:
            fcntl.lockf(place.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(id))
            fcntl.lockf(place.descriptor, fcntl.LOCK_UN, 1, _byte(id))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return True
            raise
        finally:
            _close_unused(place)
    return False


def _path(root: Path) -> Path:
    return root / "workers" / "promises"


def _byte(id: str) -> int:
    return int(id[-15:], 16)  # 60 random bits: what the largest offset has room for


def _open(path: Path, *, create: bool) -> _Place | None:
    try:
        found = os.lstat(path)
        known = _places.get((found.st_dev, found.st_ino))
        if known is not None:
            return known
        descriptor = os.open(path, _OPEN)
    except FileNotFoundError:
        if not create:
            return None
        DISK.make_folder(path.parent)
        descriptor = os.open(path, _OPEN | os.O_CREAT, 0o600)
    found = os.fstat(descriptor)
    identity = found.st_dev, found.st_ino
    return _places.setdefault(identity, _Place(descriptor, identity))


def _close_unused(place: _Place) -> None:
    if not place.ids:
        _places.pop(place.identity, None)
        os.close(place.descriptor)
