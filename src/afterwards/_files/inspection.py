"""Looks at the folders of a data directory, and at the bytes of every stored file.

Nothing is changed here, no link is followed, and what is no file or folder of ours is not opened. The database and its
log are only looked at by name: opening one would drop the locks of whoever in this process has it open.
"""

import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from blake3 import blake3

from afterwards._domain.amounts import counted
from afterwards._domain.findings import Finding, Level, Repair
from afterwards._domain.ids import is_id
from afterwards._files.directory import KEY_BYTES
from afterwards._files.disk import READ_FILE
from afterwards._files.parts import part_path
from afterwards._files.staging import CHUNK
from afterwards._files.stored import path_of
from afterwards._files.sweep import GRACE

DATABASE = ("afterwards.db", "afterwards.db-wal", "afterwards.db-shm", "afterwards.db-journal")
FOLDERS = ("files", "packs", "staging", "uploads", "work", "workers")
_DRAFT = re.compile(r"key\.\d+\.[0-9a-f]{8}")  # of a start that was killed
_NAMES = {  # what may lie in the folders whose files come and go
    "workers": re.compile(r"[0-9a-f]{43}\.(lock|wake|hold)|promises"),
    "packs": re.compile(r"[0-9]{10}"),
    "uploads": re.compile(r"[0-9a-f]{43}\.(part|check)"),
}
SET_ASIDE = "replaced-"  # by `afterwards restore --replace`
FEW_BYTES = 64 << 20  # free on the disk
FEW_FILES = 1_000

_BY_HAND = "It is not one of Afterwards' and is left alone. Move it away if you do not need it there."
_BRING_BACK = "Bring it back from a backup and retry the tasks that need it."

Advance = Callable[[int], None]  # told how many bytes have been read


def look_at_root(root: Path) -> Iterator[Finding]:
    """Check the folder itself, the key, what lies beside them, and how much room there is."""
    owner = os.lstat(root).st_uid
    yield from _rights(root, Path(), owner)
    if not os.path.lexists(root / "key"):
        yield Finding(
            code="key_missing",
            subject="key",
            problem="it is not there, so no stored task can be trusted and no program starts",
            remedy="Put the key back from a backup.",
        )
    for name in sorted(os.listdir(root)):
        found = _lstat(root / name)
        if found is None:
            continue
        if name in FOLDERS:
            if not stat.S_ISDIR(found.st_mode):
                yield _odd(name, "it is not a folder", "Move what is there away.")
            else:
                yield from _rights(root, Path(name), owner)
        elif name in DATABASE or name == "key":
            if not stat.S_ISREG(found.st_mode):
                yield _odd(name, "it is not a plain file", "Put the file itself there.")
                continue
            yield from _rights(root, Path(name), owner)
            if name == "key" and found.st_size != KEY_BYTES:
                yield Finding(
                    code="key_damaged",
                    subject="key",
                    problem=f"it has {found.st_size} bytes instead of {KEY_BYTES}",
                    remedy="Put the key back from a backup.",
                )
        elif name.startswith(SET_ASIDE):
            yield Finding(
                code="set_aside",
                subject=f"folder {name}",
                problem="a restore has put here what was in the data directory before",
                remedy="Remove it when you need nothing of it any more.",
                level=Level.NOTICE,
            )
        elif not _DRAFT.fullmatch(name):
            yield _stray(name)
    yield from _room(root)


def look_at_folders(
    root: Path,
    *,
    known: Callable[[list[str]], Collection[str]],
    lives: Callable[[str], bool],
    now: float,
    grace: float = GRACE,
) -> Iterator[Finding]:
    """Check everything below the folders of ours but the bytes of stored files.

    Args:
        root: The data directory.
        known: Tells which of some ids have a row.
        lives: Tells whether a worker's process runs.
        now: Seconds since 1970, on the clock that the file system uses.
        grace: Seconds since the last write or rename in which a file without a row is no orphan yet.
    """
    owner = os.lstat(root).st_uid
    for folder, names in _NAMES.items():
        for path in _children(root, Path(folder)):
            if names.fullmatch(path.name):
                yield from _rights(root, path, owner)
            else:
                yield _stray(str(path))
    for path in _children(root, Path("work")):  # below it, the code of tasks does as it likes
        if not is_id(path.name) or not _is_folder(root / path):
            yield _stray(str(path))
        else:
            yield from _rights(root, path, owner)
    for path in _children(root, Path("staging")):
        if not is_id(path.name) or not _is_folder(root / path):
            yield _stray(str(path))
            continue
        yield from _rights(root, path, owner)
        if not lives(path.name):
            yield from _leftover(root, path)
    for path in _children(root, Path("files")):
        yield from _look_at_shelf(root, path, known, owner, now - grace)


def look_at_file(id: str, size: int, digest: str | None, root: Path, advance: Advance) -> Finding | None:
    """Check the bytes of one stored file; `digest` None: only that they are there.

    Raises:
        OSError: They could not be read, for a reason that does not lie with the file.
    """
    path = path_of(id, root)
    subject = f"file {id}"

    def damaged(problem: str) -> Finding:
        return Finding(code="damaged_file", subject=subject, problem=f"{problem} ({path})", remedy=_BRING_BACK)

    found = _lstat(path)
    if found is None:
        return Finding(code="missing_file", subject=subject, problem=f"there is no {path}", remedy=_BRING_BACK)
    if stat.S_ISLNK(found.st_mode):
        return damaged("it is a link")
    if not stat.S_ISREG(found.st_mode):
        return damaged("it is not a plain file")
    if found.st_size != size:
        return damaged(f"it has {found.st_size:,} bytes instead of {size:,}")
    if digest is not None:
        try:
            read = digest_of_file(path, advance)
        except FileNotFoundError:
            return Finding(code="missing_file", subject=subject, problem=f"there is no {path}", remedy=_BRING_BACK)
        except OSError as error:
            return damaged(f"it cannot be read: {error.strerror}")
        if read != digest:
            return damaged(f"its digest is {read} instead of {digest}")
    return None


def look_at_part(id: str, offset: int, root: Path) -> Finding | None:
    """Check that the bytes of an open upload are there that its client has been promised."""
    found = _lstat(part_path(id, root)) if offset else None
    if offset == 0 or (found is not None and stat.S_ISREG(found.st_mode) and found.st_size >= offset):
        return None
    there = "is not there" if found is None else f"has {found.st_size:,}"
    if found is not None and not stat.S_ISREG(found.st_mode):
        there = "is not a plain file"
    return Finding(
        code="damaged_upload",
        subject=f"upload {id}",
        problem=f"its client was told that {offset:,} bytes of it are stored, and {part_path(id, root)} {there}",
        remedy="It cannot go on: its client is told so when it comes back, and sends the file again.",
    )


def look_at_parts(
    root: Path, *, open_ones: Callable[[list[str]], Collection[str]], now: float, grace: float = GRACE
) -> Iterator[Finding]:
    """Find what is left of uploads that are over, or were never put on record.

    Args:
        root: The data directory.
        open_ones: Tells which of some ids are of open uploads.
        now: Seconds since 1970, on the clock that the file system uses.
        grace: Seconds since the last write in which nothing is said.
    """
    old: list[tuple[Path, int]] = []
    for path in _children(root, Path("uploads")):
        found = _lstat(root / path)
        is_part = _NAMES["uploads"].fullmatch(path.name) and found is not None and stat.S_ISREG(found.st_mode)
        if found is not None and is_part and max(found.st_mtime, found.st_ctime) <= now - grace:
            old.append((path, found.st_size))
    needed = set(open_ones([path.stem for path, _ in old])) if old else set()
    for path, size in old:
        if path.stem not in needed:
            yield Finding(
                code="orphan",
                subject=f"file {path}",
                problem=f"no open upload has it; it has {size:,} bytes",
                remedy="A running program removes it within the hour, `afterwards doctor --repair` at once.",
                repair=Repair.PART,
                target=str(path),
                size=size,
            )


def digest_of_file(path: Path, advance: Advance = lambda _: None) -> str:
    """Return the digest of a plain file; a link is not followed."""
    fd = os.open(path, READ_FILE)
    try:
        hash = blake3()
        while chunk := os.read(fd, CHUNK):
            hash.update(chunk)
            advance(len(chunk))
        return f"blake3:{hash.hexdigest()}"
    finally:
        os.close(fd)


def _look_at_shelf(
    root: Path, path: Path, known: Callable[[list[str]], Collection[str]], owner: int, old: float
) -> Iterator[Finding]:
    """Check one folder below `files`, or whatever lies there in place of one."""
    if not _is_folder(root / path):
        yield from _misplaced(root, path, known)
        return
    ours = re.fullmatch("[0-9a-f]{2}", path.name) is not None
    if ours:
        yield from _rights(root, path, owner)
    else:
        yield _stray(str(path))
    unknown: list[tuple[str, os.stat_result]] = []
    for child in _children(root, path):
        found = _lstat(root / child)
        if found is None:
            continue
        right = ours and is_id(child.name) and child.name[-2:] == path.name
        if not right:
            if ours or is_id(child.name):
                yield from _misplaced(root, child, known)
        elif not stat.S_ISREG(found.st_mode):
            if not known([child.name]):  # one with a row is found by `look_at_file`
                yield _stray(str(child))
        else:
            yield from _rights(root, child, owner)
            if max(found.st_mtime, found.st_ctime) <= old:
                unknown.append((child.name, found))
    rows = set(known([id for id, _ in unknown])) if unknown else set()
    for id, found in unknown:
        if id not in rows:
            yield Finding(
                code="orphan",
                subject=f"file {path / id}",
                problem=f"no row names it; it has {found.st_size:,} bytes",
                remedy="A running program removes it within the hour, `afterwards doctor --repair` at once.",
                repair=Repair.ORPHAN,
                target=id,
                size=found.st_size,
            )


def _misplaced(root: Path, path: Path, known: Callable[[list[str]], Collection[str]]) -> Iterator[Finding]:
    id = path.name
    found = _lstat(root / path)
    if is_id(id) and found is not None and stat.S_ISREG(found.st_mode) and known([id]):
        here = os.path.lexists(path_of(id, root))
        yield Finding(
            code="misplaced_file",
            subject=f"file {path}",
            problem=f"it is named like a stored file that belongs into {path_of(id, Path())}"
            + (", where one is" if here else ", where there is none"),
            remedy="Compare the two and remove one."
            if here
            else "`afterwards doctor --repair` puts it there, if its bytes are the right ones.",
            repair=None if here else Repair.PUT_BACK,
            target=str(path),
        )
    else:
        yield _stray(str(path))


def _leftover(root: Path, path: Path) -> Iterator[Finding]:
    size = number = 0
    for child in _children(root, path):
        found = _lstat(root / child)
        if found is None:
            continue
        if stat.S_ISREG(found.st_mode) and child.suffix == ".part" and is_id(child.stem):
            size += found.st_size
            number += 1
        else:
            yield _stray(str(child))
    if number == 0:  # also the empty folder of a process that was told to stop
        return
    yield Finding(
        code="leftover",
        subject=f"folder {path}",
        problem=f"its process is dead; what it was receiving is here: {counted(number, 'file')}, {size:,} bytes",
        remedy="A running program removes it within a minute, the next start or `afterwards doctor --repair` at once.",
        level=Level.NOTICE,
        repair=Repair.LEFTOVER,
        target=path.name,
        size=size,
    )


def _rights(root: Path, path: Path, owner: int) -> Iterator[Finding]:
    """Check that only the owner of the data directory can reach something of ours."""
    found = _lstat(root / path)
    if found is None or stat.S_ISLNK(found.st_mode):
        return
    kind = "folder" if stat.S_ISDIR(found.st_mode) else "file"
    name = "the data directory" if path == Path() else f"{kind} {path}"
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        yield Finding(
            code="open_to_others",
            subject=name,
            problem=f"other users may reach it: its mode is {mode:04o}",
            remedy=f"chmod {mode & 0o700:04o}, as `afterwards doctor --repair` does.",
            # A folder that somebody made for us is often like that; what is in it is closed all the same.
            level=Level.NOTICE if path == Path() and not mode & 0o022 else Level.PROBLEM,
            repair=Repair.MODE,
            target=str(path),
        )
    if found.st_uid != owner:
        yield Finding(
            code="wrong_owner",
            subject=name,
            problem=f"it belongs to user {found.st_uid}, and the data directory to {owner}",
            remedy=f"chown it to {owner}, or the program may not be able to use it.",
        )


def _room(root: Path) -> Iterator[Finding]:
    free = os.statvfs(root)
    size = free.f_bavail * free.f_frsize
    if size < FEW_BYTES or (free.f_files and free.f_favail < FEW_FILES):
        yield Finding(
            code="disk_almost_full",
            subject=str(root),
            problem=f"its disk has room for {size / 1048576:,.1f} MiB and {counted(free.f_favail, 'file')}",
            remedy="Make room, or delete what is done with: `afterwards purge`.",
        )


def _odd(name: str, problem: str, remedy: str) -> Finding:
    return Finding(code="not_ours", subject=name, problem=f"{problem}, so no program can use it", remedy=remedy)


def _stray(path: str) -> Finding:
    return Finding(
        code="stray", subject=path, problem="nothing of Afterwards has this name", remedy=_BY_HAND, level=Level.NOTICE
    )


def _children(root: Path, path: Path) -> Iterator[Path]:
    if _is_folder(root / path):
        for name in sorted(os.listdir(root / path)):
            yield path / name


def _is_folder(path: Path) -> bool:
    found = _lstat(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
