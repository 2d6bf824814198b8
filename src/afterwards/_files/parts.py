"""The bytes of an upload that may come in several requests: `root/uploads/ID.part`, until the upload is finished.

One request at a time writes a part file, of whichever process: it holds the kernel's lock on it, which a dead process
gives up. What a part file holds beyond the offset in its upload's row counts only as `after_interruption` decides.
While bytes come in that are to be compared with a checksum, a file `ID.check` beside it says that they do not count
yet; it need not survive the machine, because after a restart only what the row knows of counts.
"""

import errno
import fcntl
import logging
import os
from pathlib import Path
from typing import Any

from afterwards._domain.ids import is_id
from afterwards._files.comparison import know
from afterwards._files.disk import DISK, Disk, honest_errors
from afterwards._files.promotion import new_folders
from afterwards._files.stored import path_of
from afterwards.errors import StoreRefused

log = logging.getLogger("afterwards")

CHUNK = 1 << 20  # bytes at a time where a part is read as a whole
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class Part:
    """An open part file. Nothing is locked yet."""

    def __init__(self, id: str, root: Path, fd: int, *, named: bool, disk: Disk) -> None:
        self.id = id
        self.root = root
        self.fd = fd
        self._named = named  # its name is known to be on stable storage
        self._disk = disk

    @classmethod
    def open(cls, id: str, root: Path, *, create: bool = True, named: bool = False, disk: Disk = DISK) -> "Part | None":
        """Open the part file of an upload; where there is none, make it or return None.

        Args:
            id: Which upload.
            root: The data directory.
            create: Make it.
            named: Its name is on stable storage, because bytes of it have been promised. Whoever made it may have
                ended before that.
            disk: What syncs.

        Raises:
            StorageFull, StorageUnsure: It could not be made.
        """
        if not is_id(id):
            raise ValueError(f"{id!r} is not the id of an upload")
        path = part_path(id, root)
        with honest_errors("opening the file of an upload", root):
            try:
                return cls(id, root, os.open(path, _OPEN), named=named, disk=disk)
            except FileNotFoundError:
                if not create:
                    return None
                disk.make_folder(path.parent)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                raise StoreRefused(f"{path} is a link, and uploads follow none. Remove it.") from None
            return cls(id, root, os.open(path, _OPEN | os.O_CREAT, 0o600), named=False, disk=disk)

    def lock(self) -> bool:
        """Become the only writer; False when somebody else is. Never waits."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def is_there(self) -> bool:
        """Whether the file still has its name: whoever ends an upload takes it away."""
        return os.fstat(self.fd).st_nlink > 0

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self.fd).st_size

    @property
    def is_checked(self) -> bool:
        """Whether bytes beyond the offset were to be compared with a checksum and never were."""
        return os.path.lexists(self._check)

    @property
    def _check(self) -> Path:
        return self.root / "uploads" / f"{self.id}.check"

    def begin_check(self) -> None:
        """Let no byte count from here on, until `end_check`."""
        with honest_errors("taking bytes that come with a checksum", self.root):
            os.close(os.open(self._check, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))

    def end_check(self) -> None:
        """Let the bytes count, or what is left of them."""
        with honest_errors("taking bytes that came with a checksum", self.root):
            self._check.unlink(missing_ok=True)

    def cut(self, size: int) -> None:
        """Forget the bytes from here on, if there are any."""
        with honest_errors(f"cutting an upload to {size:,} bytes", self.root):
            if self.size > size:
                os.ftruncate(self.fd, size)

    def sync(self) -> None:
        """Wait until the bytes, and the name, are on stable storage."""
        if not self._named:
            self._disk.sync_folder(self.root / "uploads")
            self._disk.sync_folder(self.root)
            self._named = True
        self._disk.sync_data(self.fd)

    def read_into(self, *hashes: Any) -> None:
        """Feed all bytes to hashes."""
        at = 0
        with honest_errors("reading an upload again to know its digest", self.root):
            while chunk := os.pread(self.fd, CHUNK, at):
                for hash in hashes:
                    hash.update(chunk)
                at += len(chunk)

    def read_all(self) -> bytes:
        """Return the bytes of a small part."""
        with honest_errors("reading an upload again", self.root):
            return os.pread(self.fd, self.size, 0)

    def read_start(self, size: int) -> bytes:
        """Return the first bytes."""
        with honest_errors("reading an upload again", self.root):
            return os.pread(self.fd, size, 0)

    def store(self) -> None:
        """Give the bytes the name of the stored file of this id, on stable storage; the part keeps its own name too.

        So a crash before the commit leaves an upload that is still whole, and a file without a row, which is swept.
        """
        target = path_of(self.id, self.root)
        with honest_errors(f"storing an upload of {self.size:,} bytes", self.root):
            self.sync()
            with new_folders([target], self.root, self._disk) as folders:
                try:
                    os.link(part_path(self.id, self.root), target, follow_symlinks=False)
                except FileExistsError:
                    if not _same(self.fd, target):
                        raise
                for folder in folders:
                    self._disk.sync_folder(folder)
        know(self.id, self.fd)

    def remove(self) -> None:
        """Take the file away, whoever else has it open."""
        remove_part(self.id, self.root)

    def close(self) -> None:
        """Let go of the lock and the file. A forked child that has the descriptor too keeps no lock."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        os.close(self.fd)


def part_path(id: str, root: Path) -> Path:
    """Where the bytes of an unfinished upload are."""
    return root / "uploads" / f"{id}.part"


def remove_part(id: str, root: Path) -> None:
    """Remove the part file of an upload that is over, if there is one. What cannot be removed is left to the sweep."""
    if not is_id(id):
        raise ValueError(f"{id!r} is not the id of an upload")
    try:
        part_path(id, root).unlink(missing_ok=True)
        (root / "uploads" / f"{id}.check").unlink(missing_ok=True)
    except OSError as error:
        log.warning("what is left of upload %s, which is over, cannot be removed now: %s", id, error)


def _same(fd: int, path: Path) -> bool:
    ours, other = os.fstat(fd), os.lstat(path)
    return (ours.st_dev, ours.st_ino) == (other.st_dev, other.st_ino)
