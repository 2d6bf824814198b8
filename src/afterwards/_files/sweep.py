"""Removes files that nobody will ever ask for: what killed processes left, and files without a row.

Any number of processes may run it. It follows no link, goes into no folder but its own two kinds, and touches only
what is named like an id, so that anything else somebody puts there stays. A file without a row stays for an hour, and
for as long as a living process promises to put it on record (`_files/promises.py`). While a backup holds the files
(`_files/holding.py`), none is removed.
"""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from afterwards._domain.ids import is_id
from afterwards._files.disk import READ_FOLDER
from afterwards._files.holding import held
from afterwards._files.promises import is_promised
from afterwards._files.stored import path_of

GRACE = 3600.0  # seconds: a commit that failed may turn out to be there once the database is opened again
BATCH = 500  # ids in one question to the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one step of a sweep came to."""

    seen: int = 0  # files looked at
    removed: int = 0
    bytes: int = 0  # of those removed


def sweep_staging(root: Path, alive: Callable[[str], bool], *, batch: int = BATCH) -> Iterator[Swept]:
    """Remove the staging folders of owners that are not alive, at most `batch` files a step."""
    with _folder(root / "staging") as staging:
        for owner in _ids(staging):
            if not alive(owner):
                yield from _empty(staging, owner, batch)


def sweep_files(
    root: Path,
    known: Callable[[list[str]], Collection[str]],
    *,
    now: float,
    grace: float = GRACE,
    batch: int = BATCH,
) -> Iterator[Swept]:
    """Remove files that have no row and have not changed for a while, at most `batch` of them a step.

    Args:
        root: The data directory.
        known: Tells which of at most `batch` ids have a row. Its error ends the sweep before anything is removed.
        now: Seconds since 1970, on the clock that the file system uses.
        grace: Seconds since the last write or rename during which a file is left alone.
        batch: Files looked at in one step.
    """
    old: list[str] = []
    seen = 0
    for id, changed in _files(root):
        seen += 1
        if changed <= now - grace:
            old.append(id)
        if seen >= batch:
            yield _remove_unknown(root, old, known, seen)
            old, seen = [], 0
    if seen:
        yield _remove_unknown(root, old, known, seen)


def sweep_uploads(
    root: Path, open_ones: Callable[[list[str]], Collection[str]], *, now: float, grace: float = GRACE
) -> Iterator[Swept]:
    """Remove the part files of uploads that are over, or were never put on record, a batch a step.

    Args:
        root: The data directory.
        open_ones: Tells which of at most `BATCH` uploads are open. Its error ends the sweep before anything is removed.
        now: Seconds since 1970, on the clock that the file system uses.
        grace: Seconds since the last write during which a file is left alone.
    """
    with _folder(root / "uploads") as folder:
        old: list[str] = []
        for name in _names(folder):
            stem, _, kind = name.partition(".")
            found = _plain(folder, name) if is_id(stem) and kind in ("part", "check") else None
            if found is not None and max(found.st_mtime, found.st_ctime) <= now - grace:
                old.append(name)
        for start in range(0, len(old), BATCH):
            names = old[start : start + BATCH]
            needed = set(open_ones([name[: name.index(".")] for name in names]))
            sizes = [_unlink(folder, name) for name in names if name[: name.index(".")] not in needed]
            gone = [size for size in sizes if size is not None]
            yield Swept(seen=len(names), removed=len(gone), bytes=sum(gone))


def remove(ids: Iterable[str], root: Path) -> int:
    """Remove files whose rows are gone; tell how many bytes that freed. Files already gone are fine.

    While they are held they stay, without a row, and go with a later sweep.
    """
    freed = 0
    ids = list(ids)
    for id in ids:
        if not is_id(id):
            raise ValueError(f"{id!r} is not the id of a file")
    if not ids or held(root):
        return 0
    for id in ids:
        path = path_of(id, root)
        with _folder(path.parent) as folder:
            freed += _unlink(folder, id) or 0
    return freed


def remove_orphans(
    ids: Iterable[str], root: Path, known: Callable[[list[str]], Collection[str]], *, now: float, grace: float = GRACE
) -> list[str]:
    """Remove some files if they still have no row and have not changed for a while; return those that went."""
    old = []
    for id in ids:
        with _folder(path_of(id, root).parent) as folder:
            found = _plain(folder, id) if folder is not None else None
        if is_id(id) and found is not None and max(found.st_mtime, found.st_ctime) <= now - grace:
            old.append(id)
    gone = []
    for id in _unneeded(old, root, known):
        with _folder(path_of(id, root).parent) as folder:
            if _unlink(folder, id) is not None:
                gone.append(id)
    return gone


def _remove_unknown(root: Path, old: list[str], known: Callable[[list[str]], Collection[str]], seen: int) -> Swept:
    removed = freed = 0
    for id in _unneeded(old, root, known):
        with _folder(path_of(id, root).parent) as folder:
            size = _unlink(folder, id)
        if size is not None:
            removed += 1
            freed += size
    return Swept(seen=seen, removed=removed, bytes=freed)


def _unneeded(ids: Sequence[str], root: Path, known: Callable[[list[str]], Collection[str]]) -> list[str]:
    """Return those of these files that have no row and never will have.

    Promises are asked for before rows: one that ends in between is found as a row. Holds are asked for last; see
    `_files/holding.py`.
    """

    def unknown(ids: Sequence[str]) -> list[str]:
        rows = set(known(list(ids))) if ids else set()
        return [id for id in ids if id not in rows]

    left = unknown(ids)  # nearly all have one, and asking for promises takes a call for each
    left = unknown([id for id in left if not is_promised(id, root)])
    return [] if left and held(root) else left


def _files(root: Path) -> Iterator[tuple[str, float]]:
    """Every file that is where its id says, with the time of its last write or rename."""
    with _folder(root / "files") as files:
        for name in _names(files):
            if len(name) != 2:
                continue
            with _folder(name, within=files) as folder:
                for id in _ids(folder):
                    found = _plain(folder, id)
                    if id[-2:] == name and found is not None:
                        yield id, max(found.st_mtime, found.st_ctime)


def _empty(staging: int | None, owner: str, batch: int) -> Iterator[Swept]:
    seen = removed = freed = stayed = 0
    with _folder(owner, within=staging) as folder:
        for name in _names(folder):
            if seen == batch:
                yield Swept(seen=seen, removed=removed, bytes=freed)
                stayed += seen - removed
                seen = removed = freed = 0
            seen += 1
            if name.endswith(".part") and is_id(name.removesuffix(".part")):
                size = _unlink(folder, name)
                if size is not None:
                    removed += 1
                    freed += size
    if removed == seen and not stayed:
        try:
            os.rmdir(owner, dir_fd=staging)
        except OSError:  # gone, not a folder, or something came into it: then it stays
            pass
    yield Swept(seen=seen, removed=removed, bytes=freed)


@contextmanager
def _folder(path: Path | str, within: int | None = None) -> Iterator[int | None]:
    """Open a folder for the calls below, or give None where there is none; a link is none."""
    try:
        fd = os.open(path, READ_FOLDER, dir_fd=within)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _names(folder: int | None) -> list[str]:
    return [] if folder is None else os.listdir(folder)


def _ids(folder: int | None) -> list[str]:
    return [name for name in _names(folder) if is_id(name)]


def _plain(folder: int | None, name: str) -> os.stat_result | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _unlink(folder: int | None, name: str) -> int | None:
    """Remove a plain file and return its size; None when it is not there or is something else."""
    found = _plain(folder, name) if folder is not None else None
    if found is None:
        return None
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:  # another process sweeps too
        return None
    return found.st_size
