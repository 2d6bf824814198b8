"""`afterwards backup`: copies a data directory while its programs run.

First a copy of the database at one moment, then the files that its rows name. Files that are pruned in between stay,
because the backup holds them (`_files/holding.py`); one that has gone all the same begins the copy anew. So each row of
a backup has its file, or is named in it as missing.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from afterwards._cli.bar import Bar
from afterwards._cli.database import check_place
from afterwards._cli.text import plain, size
from afterwards._cli.version import engine_versions
from afterwards._domain.amounts import counted
from afterwards._domain.findings import Finding
from afterwards._files.archive import FORMAT, Absent, Archive, Manifest, part_of, write_file
from afterwards._files.copying import NotAsStored, Way, bring
from afterwards._files.directory import load_key
from afterwards._files.disk import DISK, FULL
from afterwards._files.holding import holding
from afterwards._files.inspection import look_at_file
from afterwards._files.stored import digest_of, path_of
from afterwards._store.sqlite.inspection import inspecting
from afterwards._store.sqlite.snapshot import Snapshot, make_snapshot, put_back, reading_snapshot
from afterwards.errors import BackupRefused, Error, StorageFull

ROW_DAMAGED = "the bytes in its row do not have the digest that was stored"
TRIES = 5  # copies of the database, when files go although they are held

_SECRET = (
    "It holds the key and everything your tasks were given: keep it where only the account of the program can read it."
)


def damaged_small_files(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Yield id and digest of each file in the database whose bytes are not those that were stored."""
    for id, digest, content in snapshot.small_files():
        if digest_of(content) != digest:
            yield id, digest


class _Gone(Exception):
    """A file was deleted together with its row, although it is held."""


def backed_up(data: Path, target: Path, *, copy: bool, as_json: bool) -> tuple[Iterator[str], int]:
    """Make or renew a backup; return what to print and the exit status.

    Raises:
        StoreRefused, StoreBusy, StorageUnsure: The data directory cannot be read.
        BackupRefused: The target cannot be used, or files are deleted faster than they can be copied.
        StorageFull: There is no room for it; the backup that was there before still is.
    """
    root = Path(os.path.realpath(check_place(data).parent))
    target = Path(os.path.realpath(target))
    if root == target or root in target.parents or target in root.parents:
        raise BackupRefused(f"{target} and the data directory {root} lie in each other. Choose a folder elsewhere.")
    began = time.monotonic()
    archive = Archive(target)
    with _told(target), archive.locked(), Bar("backup") as bar, holding(root):
        for _ in range(TRIES):
            try:
                made = _Making(root, archive, copy=copy, bar=bar).run()
                break
            except _Gone:
                continue
        else:
            raise BackupRefused(
                f"files of {root} were deleted while they were copied, {TRIES} times in a row, although the backup "
                "holds them: by something else than Afterwards? Try again when that has stopped."
            )
    manifest, notes = made
    seconds = time.monotonic() - began
    lines = _as_json(target, manifest, notes) if as_json else _as_text(target, manifest, notes, seconds)
    return lines, 1 if manifest.absent or notes.mended else 0


@dataclass
class Notes:
    """What happened on the way to a backup."""

    ways: dict[str, int] = field(default_factory=dict)  # how files came there: how many
    renewed: dict[str, str] = field(default_factory=dict)  # by id: what was wrong with the file in the backup
    mended: list[str] = field(default_factory=list)  # damaged in the data directory, whole in the earlier backup


class _Making:
    """One attempt to make a backup."""

    def __init__(self, root: Path, archive: Archive, *, copy: bool, bar: Bar) -> None:
        self._root = root
        self._archive = archive
        self._way = Way.COPIED if copy else Way.LINKED
        self._bar = bar
        self._added: list[Path] = []
        self._shelves: set[Path] = set()
        self._absent: list[Absent] = []
        self._wanted: set[str] = set()
        self._files = self._bytes = self._read = 0
        self.notes = Notes()

    def run(self) -> tuple[Manifest, "Notes"]:
        try:
            manifest = self._copy()
        except _Gone:
            raise  # what has been brought is of use to the next attempt
        except BaseException:
            for path in self._added:  # so that a disk that is full now has its room again
                path.unlink(missing_ok=True)
            raise
        self._archive.forget_others(self._wanted)
        return manifest, self.notes

    def _copy(self) -> Manifest:
        archive = self._archive
        before = archive.manifest()
        name = f"afterwards-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.urandom(4).hex()}"
        database, key = archive.partial / f"{name}.db", archive.partial / f"{name}.key"
        self._bar.label = "database"
        created_at = datetime.now(UTC)
        make_snapshot(self._root / "afterwards.db", database, self._bar.show)
        with reading_snapshot(database) as snapshot:
            if before is not None and before.identity != snapshot.identity:
                raise BackupRefused(
                    f"{archive.folder} is a backup of another data directory. Choose a folder of its own for this one."
                )
            damaged = dict(damaged_small_files(snapshot))
            self._copy_files(snapshot)
            schema, identity, tasks = snapshot.version, snapshot.identity, snapshot.counts()
        self._mend(damaged, database, before)
        write_file(key, load_key(self._root))
        _sync(database)
        for shelf in self._shelves:
            DISK.sync_folder(shelf)
        afterwards, sqlite = engine_versions()
        manifest = Manifest(
            format=FORMAT,
            afterwards=afterwards,
            sqlite=sqlite,
            schema=schema,
            identity=identity,
            created_at=created_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            database=part_of(database, database.name),
            key=part_of(key, key.name),
            tasks=tasks,
            files=self._files,
            bytes=self._bytes,
            absent=self._absent,
        )
        archive.publish(manifest, database, key)
        return manifest

    def _copy_files(self, snapshot: Snapshot) -> None:
        self._bar.label = "files"
        every = list(snapshot.files())
        total = sum(length for _, length, _ in every) or 1

        def advance(count: int) -> None:
            self._read += count
            self._bar.show(self._read / total, size(self._read))

        for id, length, digest in every:
            self._wanted.add(id)
            kept = look_at_file(id, length, digest, self._archive.folder, advance)
            if kept is None:
                self._count("kept")
            elif not self._bring(id, length, digest, advance, is_new=kept.code == "missing_file"):
                continue
            elif kept.code != "missing_file":
                self.notes.renewed[id] = kept.problem
            self._shelves.add(path_of(id, self._archive.folder).parent)  # also of what a killed backup brought
            self._files += 1
            self._bytes += length

    def _mend(self, damaged: dict[str, str], database: Path, before: Manifest | None) -> None:
        """Put small files that have been damaged since the earlier backup back from it, and name the others."""
        if damaged and before is not None:
            try:
                with reading_snapshot(self._archive.folder / before.database.name) as earlier:
                    found = {id: earlier.content(id) or b"" for id in damaged}
            except Error:  # it is damaged itself
                found = {}
            whole = {id: content for id, content in found.items() if digest_of(content) == damaged[id]}
            put_back(database, whole)
            self.notes.mended = list(whole)
        self._absent += [Absent(id=id, problem=ROW_DAMAGED) for id in damaged if id not in self.notes.mended]

    def _bring(self, id: str, length: int, digest: str, advance: Callable[[int], None], *, is_new: bool) -> bool:
        draft = self._archive.partial / id
        try:
            way = bring(path_of(id, self._root), draft, size=length, digest=digest, way=self._way, advance=advance)
        except NotAsStored as problem:
            if self._is_gone(id):
                raise _Gone from None
            self._absent.append(Absent(id=id, problem=str(problem)))
            return False
        self._archive.shelve(draft, id)
        if is_new:  # else it takes the place of a damaged one, and is worth more than that whatever follows
            self._added.append(path_of(id, self._archive.folder))
        self._count(way)
        return True

    def _is_gone(self, id: str) -> bool:
        found: list[Finding] = []
        with inspecting(self._root / "afterwards.db", found.append) as inspection:
            return inspection is not None and inspection.file(id) is None

    def _count(self, way: str) -> None:
        self.notes.ways[way] = self.notes.ways.get(way, 0) + 1


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except StorageFull as error:
        raise StorageFull(f"{error} {_unchanged(target)}") from error
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(
                f"no space is left on the disk of {target} for the backup. {_unchanged(target)}"
            ) from error
        if isinstance(error, FileExistsError | NotADirectoryError) and not target.is_dir():
            raise BackupRefused(f"{error.filename or target} is no folder. Choose another for the backup.") from error
        said = f"{error.strerror or error} ({error.filename or target})"
        remedy = f"Choose a folder that user {os.geteuid()} may write, on a disk that works."
        raise BackupRefused(f"the backup to {target} failed: {said}. {_unchanged(target, remedy)}") from error


def _unchanged(target: Path, remedy: str = "Make room, or choose another folder, then try again.") -> str:
    if os.path.lexists(target / "backup.json"):
        return f"The earlier backup there is unchanged. {remedy}"
    return f"There is no backup there. {remedy}"


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a copy that nobody has open as a database
    try:
        DISK.sync_file(fd)
    finally:
        os.close(fd)


def _as_text(target: Path, manifest: Manifest, notes: Notes, seconds: float) -> Iterator[str]:
    how = ", ".join(f"{number:,} {_WORDS[way]}" for way, number in sorted(notes.ways.items()))
    yield plain(
        f"backup of {counted(sum(manifest.tasks.values()), 'task')} and {counted(manifest.files, 'stored file')} "
        f"({size(manifest.bytes)}{'; ' + how if how else ''}) in {target}, {seconds:.1f} s"
    )
    if notes.ways.get(Way.LINKED):
        yield "Linked files share their bytes with the data directory: this disk's end is the end of both (--copy)."
    yield _SECRET
    for id, problem in notes.renewed.items():
        yield plain(f"RENEWED  file {id}: what the backup had of it was damaged: {problem}. Look at that disk.")
    for id in notes.mended:
        yield plain(
            f"MENDED   file {id}: {ROW_DAMAGED}. The backup has them from the earlier one; see `afterwards doctor`."
        )
    for absent in manifest.absent:
        yield plain(f"MISSING  file {absent.id}: {absent.problem}. It could not be backed up; see `afterwards doctor`.")


_WORDS = {Way.CLONED: "cloned", Way.LINKED: "linked", Way.COPIED: "copied", "kept": "there already"}


def _as_json(target: Path, manifest: Manifest, notes: Notes) -> Iterator[str]:
    found = {
        "backup": str(target),
        "manifest": manifest,
        "brought": notes.ways,
        "renewed": notes.renewed,
        "mended": notes.mended,
    }
    yield msgspec.json.encode(found).decode()
