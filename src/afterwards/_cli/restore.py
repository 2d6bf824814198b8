"""`afterwards restore`: makes a data directory from a backup.

Everything is compared with its digest while it is copied. Until all of it is there, a marker keeps programs from
starting on it; whatever fails takes away again what had been copied, and puts back what had been set aside. The marker
says which of both was going on, so that a restore that was killed is begun anew without a loss. Tasks that ran when the
backup was made are taken up by the next start as after a crash.
"""

import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from afterwards._cli.backup import ROW_DAMAGED, damaged_small_files
from afterwards._cli.bar import Bar
from afterwards._cli.checkup import check
from afterwards._cli.doctor import as_text as doctor_text
from afterwards._cli.text import plain, size
from afterwards._domain.amounts import counted
from afterwards._files.archive import Archive, Manifest, Part, write_file
from afterwards._files.copying import NotAsStored, Way, bring
from afterwards._files.directory import RESTORING
from afterwards._files.disk import DISK, FULL, READ_FOLDER
from afterwards._files.inspection import SET_ASIDE, digest_of_file, look_at_file
from afterwards._files.presence import living
from afterwards._files.stored import path_of
from afterwards._store.sqlite.snapshot import reading_snapshot
from afterwards.errors import BackupRefused, StorageFull

_OURS = ("afterwards.db", "afterwards.db-wal", "afterwards.db-shm", "afterwards.db-journal", "key", "files", "packs")
_SPARED = ("lost+found",)
_COPYING, _SETTING_ASIDE = "copying", "setting aside"
SHOWN = 5  # files that a refusal names


@dataclass
class _Outcome:
    files: int = 0
    bytes: int = 0
    bad: dict[str, str] = field(default_factory=dict)  # by id: what is wrong


def restored(
    source: Path, data: Path, *, replace: bool, partial: bool, dry_run: bool, as_json: bool
) -> tuple[Iterator[str], int]:
    """Restore a backup, or only verify it; return what to print and the exit status.

    Raises:
        BackupRefused: The backup is not whole, or the data directory is not free.
        StorageFull: There is no room for it.
        StoreRefused, StorageUnsure: Its database cannot be used.
    """
    archive = Archive(Path(os.path.realpath(source)))
    manifest = archive.manifest()
    if manifest is None:
        raise BackupRefused(
            f"{source} is no finished backup: it has no backup.json. Name the folder that `afterwards backup` was "
            "given; if that was interrupted before its first end, there is nothing in it to restore."
        )
    root = Path(os.path.realpath(data))
    if root == archive.folder or root in archive.folder.parents or archive.folder in root.parents:
        raise BackupRefused(f"the data directory {root} and the backup {archive.folder} lie in each other.")
    outcome = _Outcome()
    with _told(root), Bar("restore") as bar:
        if dry_run:
            _verify(archive, manifest, outcome, bar)
            if not partial:
                _refuse_bad(archive, manifest, outcome)
            return _verified(archive, manifest, outcome, as_json), 1 if outcome.bad else 0
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(root):
            aside = _prepare(root, replace=replace)
            try:
                _copy(archive, manifest, root, outcome, bar)
                if not partial:
                    _refuse_bad(archive, manifest, outcome)
            except BaseException:
                _undo(root, aside)
                raise
            _finish(root)
        report = check(root, quick=False, bar=bar)
    if as_json:
        findings = [{"code": one.code, "subject": one.subject, "problem": one.problem} for one in report.findings]
        document = {
            "data": str(root),
            "manifest": manifest,
            "set_aside": None if aside is None else str(aside),
            "healthy": not report.left,
            "findings": findings,
        }
        return iter([msgspec.json.encode(document).decode()]), 1 if report.left else 0
    first = [
        plain(
            f"restored {counted(sum(manifest.tasks.values()), 'task')} and {counted(outcome.files, 'stored file')} "
            f"({size(outcome.bytes)}) of {manifest.created_at} into {root}"
        )
    ]
    if aside is not None:
        first.append(plain(f"what was there before is in {aside}"))
    return iter([*first, *doctor_text(report, repair=False)]), 1 if report.left else 0


def _prepare(root: Path, *, replace: bool) -> Path | None:
    """Make the folder ready; return where what was in it has been set aside."""
    if living(root):
        raise BackupRefused(f"a program runs on the data directory {root}. Stop it, then restore.")
    aside, doing = _marked(root)
    if doing == _COPYING:
        _clear(root)  # ours, and worth nothing
    elif doing is None:
        if _look_for_things(root, replace=replace):
            aside = root / f"{SET_ASIDE}{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.urandom(2).hex()}"
        _mark(root, aside, _COPYING if aside is None else _SETTING_ASIDE)
        try:  # a program that starts now sees the marker; one that did so before is seen here
            if living(root):
                raise BackupRefused(
                    f"a program was started on the data directory {root} at the same moment. Nothing was changed. "
                    "Stop it, then restore."
                )
            _look_for_things(root, replace=replace)
        except BackupRefused:
            os.unlink(root / RESTORING)
            raise
    if aside is not None and doing != _COPYING:
        DISK.make_folder(aside)
        for name in _things(root):
            os.rename(root / name, aside / name)
        DISK.sync_folder(aside)
    os.chmod(root, stat.S_IMODE(os.stat(root).st_mode) & 0o700)
    _mark(root, aside, _COPYING)
    DISK.sync_folder(root.parent)
    return aside


def _marked(root: Path) -> tuple[Path | None, str | None]:
    """Read the marker: what a restore that did not come to its end has set aside, and what it was doing."""
    try:
        doing, _, name = (root / RESTORING).read_text().partition("\n")
    except FileNotFoundError:
        return None, None
    if doing not in (_COPYING, _SETTING_ASIDE) or "/" in name:
        raise BackupRefused(f"{root / RESTORING} was not written by Afterwards. Move it away, then try again.")
    return (root / name if name else None), doing


def _mark(root: Path, aside: Path | None, doing: str) -> None:
    draft = root / f"{RESTORING}.draft"
    draft.unlink(missing_ok=True)
    write_file(draft, f"{doing}\n{'' if aside is None else aside.name}".encode())
    DISK.rename(draft, root / RESTORING)
    DISK.sync_folder(root)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let no other restore into the same folder."""
    fd = os.open(root, READ_FOLDER)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BackupRefused(f"another restore into {root} is under way. Wait for its end.") from None
    finally:
        os.close(fd)


def _things(root: Path) -> list[str]:
    """What is in a data directory that a restore would have to set aside."""
    ours = (RESTORING, f"{RESTORING}.draft", *_SPARED)
    found = sorted(name for name in os.listdir(root) if not name.startswith(SET_ASIDE) and name not in ours)
    if "workers" in found and not any((root / "workers").iterdir()):  # of a program that was refused
        found.remove("workers")
    return found


def _look_for_things(root: Path, *, replace: bool) -> list[str]:
    there = _things(root)
    if there and not replace:
        raise BackupRefused(
            f"the data directory {root} is not empty ({', '.join(there[:SHOWN])}). Choose another with --data, or "
            "add --replace, which sets aside what is in it."
        )
    return there


def _copy(archive: Archive, manifest: Manifest, root: Path, outcome: _Outcome, bar: Bar) -> None:
    _bring_part(archive, manifest.database, root / "afterwards.db")
    _bring_part(archive, manifest.key, root / "key")
    DISK.make_folder(root / "files")
    shelves = set()

    def take(id: str, length: int, digest: str, advance: Callable[[int], None]) -> None:
        target = path_of(id, root)
        DISK.make_folder(target.parent)
        bring(path_of(id, archive.folder), target, size=length, digest=digest, way=Way.CLONED, advance=advance)
        shelves.add(target.parent)

    _each(root / "afterwards.db", manifest, outcome, bar, take)
    for folder in (*shelves, root / "files"):
        DISK.sync_folder(folder)


def _verify(archive: Archive, manifest: Manifest, outcome: _Outcome, bar: Bar) -> None:
    for part in (manifest.database, manifest.key):
        problem = _problem(archive, part)
        if problem is not None:
            raise BackupRefused(f"{problem}. Use another backup.")

    def look(id: str, length: int, digest: str, advance: Callable[[int], None]) -> None:
        finding = look_at_file(id, length, digest, archive.folder, advance)
        if finding is not None:
            raise NotAsStored(finding.problem)

    _each(archive.folder / manifest.database.name, manifest, outcome, bar, look)


def _each(
    database: Path,
    manifest: Manifest,
    outcome: _Outcome,
    bar: Bar,
    take: Callable[[str, int, str, Callable[[int], None]], None],
) -> None:
    read = 0

    def advance(count: int) -> None:
        nonlocal read
        read += count
        bar.show(read / max(1, manifest.bytes), size(read))

    with reading_snapshot(database) as snapshot:
        for id, length, digest in snapshot.files():
            try:
                take(id, length, digest, advance)
            except NotAsStored as problem:
                outcome.bad[id] = str(problem)
            else:
                outcome.files += 1
                outcome.bytes += length
        for id, _ in damaged_small_files(snapshot):
            outcome.bad[id] = ROW_DAMAGED


def _bring_part(archive: Archive, part: Part, target: Path) -> None:
    try:
        bring(
            archive.folder / part.name,
            target,
            size=part.size,
            digest=part.digest,
            way=Way.CLONED,
            advance=lambda _: None,
        )
    except NotAsStored as problem:
        raise BackupRefused(f"{problem}, as its manifest says. Use another backup.") from None


def _problem(archive: Archive, part: Part) -> str | None:
    path = archive.folder / part.name
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return f"{path} is missing"
    if not stat.S_ISREG(found.st_mode) or found.st_size != part.size:
        return f"{path} is not a file of {part.size:,} bytes"
    return None if digest_of_file(path) == part.digest else f"the digest of {path} is not the one of its manifest"


def _refuse_bad(archive: Archive, manifest: Manifest, outcome: _Outcome) -> None:
    known = {one.id for one in manifest.absent}
    unknown = [f"file {id}: {problem}" for id, problem in outcome.bad.items() if id not in known]
    if unknown:
        more = f", and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise BackupRefused(
            f"the backup {archive.folder} is damaged: {'; '.join(unknown[:SHOWN])}{more}. Nothing has been restored. "
            "Use another backup, or add --partial for all the rest: tasks that need those files will fail."
        )


def _finish(root: Path) -> None:
    owner = os.stat(root)
    if os.geteuid() == 0 and owner.st_uid != 0:  # root restores for the account of the program
        for name in _OURS:
            for path in (root / name, *(root / name).rglob("*")):
                if os.path.lexists(path):
                    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    DISK.sync_folder(root)
    os.unlink(root / RESTORING)
    DISK.sync_folder(root)


def _undo(root: Path, aside: Path | None) -> None:
    _clear(root)
    if aside is not None:
        _mark(root, aside, _SETTING_ASIDE)  # if this is interrupted, what is back already is set aside again
        for path in list(aside.iterdir()):
            os.rename(path, root / path.name)
        os.rmdir(aside)
    os.unlink(root / RESTORING)


def _clear(root: Path) -> None:
    """Remove what an unfinished restore has copied."""
    for name in _OURS:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _verified(archive: Archive, manifest: Manifest, outcome: _Outcome, as_json: bool) -> Iterator[str]:
    if as_json:
        bad = [{"id": id, "problem": problem} for id, problem in outcome.bad.items()]
        yield msgspec.json.encode({"backup": str(archive.folder), "manifest": manifest, "missing": bad}).decode()
        return
    for id, problem in outcome.bad.items():
        yield plain(f"MISSING  file {id}: {problem}")
    how = "whole" if not outcome.bad else "readable"
    tasks, files = counted(sum(manifest.tasks.values()), "task"), counted(outcome.files, "stored file")
    yield plain(f"{how}: {tasks} and {files} ({size(outcome.bytes)}) of {manifest.created_at}; nothing was restored")


@contextmanager
def _told(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        said = f"{error.strerror or error} ({error.filename or root})"
        if error.errno in FULL:
            raise StorageFull(
                f"no space is left on the disk of {root}: nothing was restored. Make room there, or take another disk."
            ) from error
        raise BackupRefused(f"the restore into {root} failed: {said}. Nothing was restored.") from error
