"""Where one attempt works, and how what it made is published: all of it under final names, or none.

`work/OWNER/TASK-ATTEMPT-RANDOM` in the data directory has the folder that the task's code is given and, apart from
it, files it asked the paths of. Everything in there goes when the attempt ends; after a kill, when OWNER, the
process's id in the store, is known to be dead. What a path names is published only if it is a plain file below that
folder, reached without a link; it is moved, or copied where something else still has the same file. No name that user
code chooses becomes part of a path.
"""

import errno
import logging
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from afterwards._domain.artifacts import MOST
from afterwards._domain.files import FileKind, FileValue
from afterwards._domain.ids import new_id, random_bytes
from afterwards._domain.labels import label
from afterwards._files.cloning import clone
from afterwards._files.disk import DISK, FULL, READ_FILE, READ_FOLDER
from afterwards._files.outputs import OutputFile
from afterwards._files.pending import Copied, PendingFile, Source
from afterwards._files.promotion import demote, leave, promote
from afterwards._files.removal import remove_folder
from afterwards._files.spooled import Memory
from afterwards._files.staging import INLINE_BYTES, StagedFile, Staging
from afterwards._files.stored import StoredFile
from afterwards.errors import AttemptEnded, StorageFull, StorageUnsure, TooManyArtifacts, UnusableArtifact

log = logging.getLogger("afterwards")

STORED_AS = "_afterwards_stored_as"  # on an upload that a task was given: the id of its file
BATCH = 32  # files open at once while they are published
LONGEST_NAME = 255  # characters of a label
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}\Z")

Output = TypeVar("Output", bound=OutputFile)


def is_file(value: object) -> bool:
    """Tell whether a task that returns this returns a file."""
    return isinstance(value, Path | OutputFile | FileValue) or STORED_AS in getattr(value, "__dict__", ())


@dataclass(slots=True)
class Made:
    """What an attempt made, on stable storage under final names and on no record yet."""

    outputs: Sequence[str]  # ids of all files that belong to its task, in order; of new ones and of others
    files: Sequence[StoredFile] = ()
    pending: Sequence[PendingFile] = field(default=(), repr=False)

    def take_back(self) -> None:
        """Remove the files, whose rows were refused for sure."""
        demote(self.pending)

    def leave(self) -> None:
        """Take note that the store has answered, and that they are on record, or may be."""
        leave(self.pending)


class Workshop:
    """Where the attempts of one process work. Nothing is made on disk before something is kept there."""

    def __init__(self, root: Path, owner: str, prefix: str = "/afterwards") -> None:
        self.root = root
        self.prefix = prefix  # below which files are served
        self.staging = Staging(root, owner)
        self.folder = root / "work" / owner


class Workspace:
    """Where one attempt works. Safe from any thread."""

    def __init__(self, shop: Workshop, name: str) -> None:
        self.prefix = shop.prefix
        self._shop = shop
        self._folder = shop.folder / f"{name}-{random_bytes()[:4].hex()}"
        self._lock = threading.Lock()
        self._memory = Memory()
        self._closed = False
        self._is_made = False
        self._outputs: dict[str, OutputFile] = {}  # by their ids
        self._returned: dict[Path, str] = {}  # the ids that they will have
        self._others: dict[str, None] = {}  # files that were stored before
        self._lent: dict[Path, tuple[str, tuple[int, ...]]] = {}  # by path: the file there, and what it looked like

    def folder(self) -> Path:
        """The folder that the task's code may do anything in, made now if it was not."""
        with self._lock:
            return self._make() / "work"

    def write(self, make: Callable[[Staging, Memory], Output], *, keep: bool = True) -> Output:
        """Begin an output; it is published with the others if `keep`.

        Raises:
            TooManyArtifacts: The attempt has made as many as it can.
        """
        with self._lock:
            self._check()
            if keep and len(self._outputs) + len(self._returned) >= MOST:
                raise TooManyArtifacts(most=MOST)
            made = make(self._shop.staging, self._memory)
            if keep:
                self._outputs[made.id] = made
            return made

    def lend(self, id: str, name: str | None, file: BinaryIO, stored_at: Path | None) -> Path:
        """Give an open stored file a read-only path of its own, with the ending of its name."""
        with self._lock:
            ending = _SUFFIX.search(name or "")
            target = self._make() / "files" / f"{id}{ending[0] if ending else ''}"
            if target not in self._lent:
                clone(file, target, stored_at=stored_at)
                self._lent[target] = id, _looks(os.lstat(target))
            return target

    def keep(self, value: object) -> str | None:
        """Remember a file that the task returned, and answer with the id it has or will have. No disk work."""
        if isinstance(value, Path):
            return self._keep_path(Path(os.path.normpath(value)))
        if isinstance(value, OutputFile) and value.dropped:
            problem = "it was dropped, because the block that wrote it raised"
            raise UnusableArtifact(path=value.label, problem=problem)
        id: str | None = value.id if isinstance(value, OutputFile | FileValue) else getattr(value, STORED_AS, None)
        if id is not None and id not in self._outputs:
            self._others[id] = None
        return id

    def _keep_path(self, path: Path) -> str:
        with self._lock:
            if path in self._lent:
                id = self._lent[path][0]
                self._others[id] = None
                return id
            if path not in self._returned:
                if len(self._outputs) + len(self._returned) >= MOST:
                    raise TooManyArtifacts(most=MOST)
                self._returned[path] = new_id()
            return self._returned[path]

    def publish(self) -> Made:
        """Bring what was made onto stable storage under final names, then remove the folder. Blocks.

        Raises:
            UnusableArtifact: A path cannot be published. Nothing is left.
            StorageFull, StorageUnsure: The disk is at fault. Nothing is left.
        """
        with self._lock:
            self._closed = True
        todo: list[OutputFile | tuple[Path, str]] = [made for made in self._outputs.values() if not made.dropped]
        todo += self._returned.items()
        pending: list[PendingFile] = []
        files: list[StoredFile] = []
        try:
            with _honest(len(todo), self._shop.root):
                self._check_lent()
                for start in range(0, len(todo), BATCH):
                    batch: list[PendingFile] = []
                    try:
                        for made in todo[start : start + BATCH]:
                            batch.append(self._take(made))
                            batch[-1].hold()
                        files += promote(batch, self._shop.root, disk=DISK)
                        pending += batch
                    finally:
                        for one in batch:  # closes it
                            one.release()
        except BaseException:
            Made((), pending=pending).take_back()
            self.discard()
            raise
        self._remove()
        return Made([file.id for file in files] + list(self._others), [_as_artifact(file) for file in files], pending)

    def discard(self) -> None:
        """Throw away everything that was made. Blocks."""
        with self._lock:
            self._closed = True
        for made in self._outputs.values():
            made.drop()
        self._remove()

    def _check(self) -> None:
        if self._closed:
            raise AttemptEnded(what="a place for files")

    def _make(self) -> Path:
        self._check()
        if not self._is_made:
            for folder in (self._shop.folder.parent, self._shop.folder, self._folder):
                DISK.make_folder(folder)
            for name in ("work", "files"):
                DISK.make_folder(self._folder / name)
            self._is_made = True
        return self._folder

    def _remove(self) -> None:
        if not self._is_made:
            return
        try:
            remove_folder(self._folder)
        except OSError as error:
            log.warning(
                "the work folder %s cannot be removed (%s); it is tried again when this process has ended",
                self._folder,
                error,
            )

    def _check_lent(self) -> None:
        for path, (id, looked) in self._lent.items():
            if id in self._others and (not os.path.lexists(path) or _looks(os.lstat(path)) != looked):
                raise UnusableArtifact(path=path, problem="it belongs to a stored file, and something changed it")

    def _take(self, made: OutputFile | tuple[Path, str]) -> PendingFile:
        if isinstance(made, OutputFile):
            return _pending(made, made.label, made.content_type)
        return self._open(*made)

    def _open(self, path: Path, id: str) -> PendingFile:
        """Take a returned path over, without following a link anywhere below the work folder."""
        parts = self._parts(path)
        try:
            folder = os.open(self._folder / "work", READ_FOLDER)
        except OSError as error:  # the task put something else there
            raise UnusableArtifact(path=path, problem=_why(error)) from None
        try:
            try:
                for part in parts[:-1]:
                    inner = os.open(part, READ_FOLDER, dir_fd=folder)
                    os.close(folder)
                    folder = inner
                found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):  # before it is opened: some devices act on that
                    raise UnusableArtifact(path=path, problem=_what_else(found.st_mode))
                fd = os.open(parts[-1], READ_FILE, dir_fd=folder)
            except OSError as error:
                raise UnusableArtifact(path=path, problem=_why(error)) from None
            with os.fdopen(fd, "rb") as file:
                source = self._source(id, path, file, folder, parts[-1])
                if isinstance(source, Copied):
                    source.settle()  # now, as long as it is open
        finally:
            os.close(folder)
        return _pending(source, path.name, None)

    def _source(self, id: str, path: Path, file: BinaryIO, folder: int, name: str) -> Source:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise UnusableArtifact(path=path, problem=_what_else(found.st_mode))
        staging = self._shop.staging
        if (found.st_size > INLINE_BYTES or not self._memory.take(found.st_size)) and found.st_nlink == 1:
            os.fchmod(file.fileno(), 0o600)
            target = staging.folder / f"{id}.part"
            DISK.make_folder(staging.folder.parent)
            DISK.make_folder(staging.folder)
            try:
                os.rename(name, target, src_dir_fd=folder)
            except OSError as error:
                if error.errno != errno.EXDEV:  # somebody has given the work folders a disk of their own
                    raise
            else:
                return self._adopt(target, id)
        copied = Copied(file, staging)
        copied.id = id
        return copied

    def _adopt(self, moved: Path, id: str) -> StagedFile:
        try:
            return self._shop.staging.adopt(moved, id=id)
        except BaseException:
            os.unlink(moved)
            raise

    def _parts(self, path: Path) -> tuple[str, ...]:
        """The names that lead from the work folder to a path below it."""
        if self._is_made:
            work = self._folder / "work"
            if path == work:
                problem = "it is the work folder itself: put its files into an archive, or return their paths"
                raise UnusableArtifact(path=path, problem=problem)
            for folder in (work, Path(os.path.realpath(work))):
                if path.is_relative_to(folder) and path != folder:
                    return path.relative_to(folder).parts
        raise UnusableArtifact(path=path, problem="it is not below the work folder of its attempt")


@contextmanager
def _honest(number: int, root: Path) -> Iterator[None]:
    what = "a file that the task made" if number == 1 else f"the {number:,} files that the task made"
    try:
        yield
    except StorageFull as error:
        raise StorageFull(f"{what} could not be stored: {error}") from error
    except StorageUnsure as error:
        raise StorageUnsure(f"{what} could not be stored: {error}") from error
    except OSError as error:
        kind = StorageFull if error.errno in FULL else StorageUnsure
        raise kind(
            f"{what} could not be stored: {error.strerror or error} (data directory {root}). None of it was kept. "
            "Make room there, or see that the disk is healthy, then run the task again."
        ) from error


def _pending(source: Source, name: str, content_type: str | None) -> PendingFile:
    headers = () if content_type is None else (("content-type", content_type),)
    return PendingFile(source, name=label(name, LONGEST_NAME), content_type=content_type, headers=headers)


def _as_artifact(file: StoredFile) -> StoredFile:
    """Say where it comes from."""
    return msgspec.structs.replace(file, kind=FileKind.ARTIFACT)


def _looks(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _what_else(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "it is a symbolic link, and none is followed"
    return "it is a folder: put its files into an archive" if stat.S_ISDIR(mode) else "it is not a plain file"


def _why(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "there is no such file"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "it leads through a symbolic link or a file, and no link is followed"
    return f"it cannot be opened ({error.strerror})"
