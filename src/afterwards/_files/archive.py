"""A backup as a folder: one database, its key, the files that its rows name, and a manifest that makes it valid.

    backup.json         which of the databases below is the backup, with digests: written last, replaced in one step
    afterwards-….db     a copy of the database at one moment
    afterwards-….key    the key that belongs to it
    files/XX/ID         the stored files; kept from one backup to the next, because they never change
    partial/            what is being copied
    backup.lock         held by the backup that is being made

Whatever kills the making of a backup, the folder is what it was before: the earlier backup, or none. What an unfinished
one left is removed by the next.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from afterwards._domain.ids import is_id
from afterwards._files.disk import DISK
from afterwards._files.inspection import digest_of_file
from afterwards._files.stored import path_of
from afterwards.errors import BackupRefused

FORMAT = 1
_GENERATION = re.compile(r"afterwards-[0-9TZ]+-[0-9a-f]{8}\.(db|key)(-journal)?")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a backup that the manifest vouches for."""

    name: str
    size: int
    digest: str


class Absent(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file that was missing or damaged when the backup was made."""

    id: str
    problem: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is, and that it is complete."""

    format: int
    afterwards: str  # versions
    sqlite: str
    schema: int
    identity: str  # of the database
    created_at: str
    database: Part
    key: Part
    tasks: dict[str, int]  # by state
    files: int
    bytes: int
    absent: list[Absent]


class Archive:
    """The folder of a backup."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.partial = folder / "partial"

    def manifest(self) -> Manifest | None:
        """Return the manifest; None when there is no finished backup.

        Raises:
            BackupRefused: It cannot be read, or is one of a newer release.
        """
        path = self.folder / "backup.json"
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BackupRefused(f"{path} cannot be read: {error.strerror}. Use the account that made it.") from error
        try:
            found = msgspec.json.decode(text, type=Manifest)
        except msgspec.DecodeError as error:
            raise BackupRefused(f"{path} is damaged: {error}. Use another backup.") from error
        if found.format != FORMAT or any("/" in part.name for part in (found.database, found.key)):
            raise BackupRefused(
                f"{path} has the format {found.format}, and this Afterwards reads {FORMAT}. Upgrade Afterwards."
            )
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder ours for as long as the block lasts, with an empty folder for what is being copied.

        Raises:
            BackupRefused: Something else is in it, or another backup is being made there.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self.folder / "backup.lock"
        if not os.path.lexists(lock) and any(name != "lost+found" for name in os.listdir(self.folder)):
            raise BackupRefused(
                f"{self.folder} is not empty and is no backup. Choose a folder that does not exist yet."
            )
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupRefused(f"another backup to {self.folder} is being made. Wait for its end.") from None
            self._clear_partial()
            DISK.make_folder(self.partial)
            DISK.make_folder(self.folder / "files")
            try:
                yield
            finally:
                self._clear_partial()
        finally:
            os.close(fd)

    def shelve(self, draft: Path, id: str) -> None:
        """Give a file that is complete its place; the names in its folder are synced later."""
        target = path_of(id, self.folder)
        DISK.make_folder(target.parent)
        DISK.rename(draft, target)

    def publish(self, manifest: Manifest, database: Path, key: Path) -> None:
        """Make a backup of what has been brought: from here on, it is the one."""
        for draft, part in ((database, manifest.database), (key, manifest.key)):
            DISK.rename(draft, self.folder / part.name)
        draft = self.partial / "backup.json"
        write_file(draft, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        DISK.sync_folder(self.folder / "files")
        DISK.sync_folder(self.folder)
        DISK.rename(draft, self.folder / "backup.json")
        DISK.sync_folder(self.folder)
        DISK.sync_folder(self.folder.parent)

    def forget_others(self, wanted: set[str]) -> None:
        """Remove databases, keys and stored files that the published backup does not name."""
        manifest = self.manifest()
        if manifest is None:
            return
        for path in self.folder.iterdir():
            if _GENERATION.fullmatch(path.name) and path.name not in (manifest.database.name, manifest.key.name):
                path.unlink()
        for shelf in (self.folder / "files").iterdir():
            if len(shelf.name) == 2 and not shelf.is_symlink():
                for path in shelf.iterdir():
                    if is_id(path.name) and path.name not in wanted:
                        path.unlink()

    def _clear_partial(self) -> None:
        if self.partial.is_dir() and not self.partial.is_symlink():
            shutil.rmtree(self.partial)


def part_of(path: Path, name: str) -> Part:
    """Describe a file that is complete."""
    return Part(name=name, size=path.stat().st_size, digest=digest_of_file(path))


def write_file(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, onto stable storage."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
        DISK.sync_file(fd)
    finally:
        os.close(fd)
