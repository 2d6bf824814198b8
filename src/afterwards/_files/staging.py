"""Where bytes rest while they arrive: files nobody else can name, open or follow a link to.

`root/staging/OWNER/ID.part` belongs to the living process that writes it; OWNER is that process's id in the store.
Such a file is gone when it is closed, unless `_files/promotion.py` has given it its final name before. What a
killed process leaves is removed by `_files/sweep.py`. The name a client gave a file is never part of a path.
"""

import io
import os
from pathlib import Path
from typing import Any

from blake3 import blake3

from afterwards._domain.ids import is_id, new_id
from afterwards._files.disk import DISK, NEW_FILE, honest_errors
from afterwards._files.writing import OrderedWriter

INLINE_BYTES = 262_144  # a file up to this size lives in its row: one sync for both
BUFFER = 65_536  # of one open file
CHUNK = 1 << 20  # bytes at a time where a file is read as a whole


class Staging:
    """The staging folder of one process. Nothing is made on disk before the first file is opened."""

    __slots__ = ("folder", "owner", "root")

    def __init__(self, root: Path, owner: str) -> None:
        if not is_id(owner):
            raise ValueError(f"a staging folder is named by an id, as new_id() makes them, not by {owner!r}")
        self.root = root
        self.owner = owner
        self.folder = root / "staging" / owner

    def open(self, id: str | None = None) -> "StagedFile":
        """Open a new file for writing and reading.

        Raises:
            StorageFull, StorageUnsure: The file could not be made.
        """
        id = id or new_id()
        path = self.folder / f"{id}.part"
        with honest_errors("opening a file for an upload", self.root):
            try:
                fd = os.open(path, NEW_FILE, 0o600)
            except FileNotFoundError:  # the first file of this process
                DISK.make_folder(self.folder.parent)
                DISK.make_folder(self.folder)
                fd = os.open(path, NEW_FILE, 0o600)
        return StagedFile(_HashedFile(fd), id=id, path=path, root=self.root)

    def adopt(self, path: Path, *, id: str, size: int | None = None, digest: str = "") -> "StagedFile":
        """Open a file again that was closed or moved here, with its size and digest if they are known."""
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        staged = StagedFile(_HashedFile(fd, new=False), id=id, path=path, root=self.root)
        if size is not None:
            staged.size, staged.digest, staged._sealed = size, digest, True
        return staged


class _HashedFile(io.FileIO):
    """Hashes what is written as long as it is written in order, which `OrderedWriter` then does for it.

    Whatever else is done to it first ends the writing in order; so does asking for its descriptor. Whoever outside of
    this package was given that may write anything through it, so then the hash says nothing any more.
    """

    def __init__(self, fd: int, *, new: bool = True) -> None:
        super().__init__(fd, "rb+")
        self._hash = blake3()
        self._hashed = 0  # the hash covers the file up to here
        self._in_order = True
        self._given_out = False
        self._writer = OrderedWriter(fd) if new else None  # our own position is behind while there is one

    def write(self, data: Any, /) -> int:
        if self._writer is not None:
            self._writer.write(data)
            self._hash.update(data)
            self._hashed += len(data)
            return len(data)
        at = super().tell()
        count = super().write(data) or 0
        if self._in_order and at == self._hashed:
            self._hash.update(data if count == len(data) else memoryview(data)[:count])
            self._hashed += count
        else:
            self._in_order = False
        return count

    def tell(self) -> int:
        return super().tell() if self._writer is None else self._writer.end

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if self._writer is not None:
            if (offset, whence) in ((self._writer.end, os.SEEK_SET), (0, os.SEEK_CUR)):
                return self._writer.end
            self._settle()
        return super().seek(offset, whence)

    def readinto(self, buffer: Any, /) -> int | None:
        self._settle()
        return super().readinto(buffer)

    def readall(self) -> bytes:
        self._settle()
        return super().readall()

    def fileno(self) -> int:
        self._given_out = True
        return self.descriptor

    @property
    def descriptor(self) -> int:
        """The descriptor, for us, who write nothing through it."""
        self._settle()
        return super().fileno()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.give_up()
        super().close()

    def __del__(self) -> None:
        """Leave it to the `StagedFile` around it: where both are garbage, this one's turn may come first."""

    def _settle(self) -> None:
        """End the writing in order: all is in the file, and our position behind it."""
        if self._writer is not None:
            self._writer.settle()
            at, self._writer = self._writer.end, None
            super().seek(at)

    def truncate(self, size: int | None = None, /) -> int:
        self._settle()
        size = super().truncate(size)
        if size == 0:
            self._hash, self._hashed, self._in_order = blake3(), 0, True
        elif size != self._hashed:
            self._in_order = False
        return size

    def digest(self, size: int) -> str:
        """Return the digest of the whole file, reading it again only if it was not written here and in order."""
        if self._given_out or not (self._in_order and self._hashed == size):
            self._hash = blake3()
            at = 0
            while chunk := os.pread(self.descriptor, CHUNK, at):
                self._hash.update(chunk)
                at += len(chunk)
            self._hashed, self._in_order = at, True
        return f"blake3:{self._hash.hexdigest()}"


class StagedFile(io.BufferedRandom):
    """An open binary file that is not anybody's yet. Closing it removes it, unless it was promoted."""

    def __init__(self, raw: _HashedFile, *, id: str, path: Path, root: Path) -> None:
        super().__init__(raw, BUFFER)
        self.id = id
        self.path = path  # where the bytes are now: `_files/promotion.py` changes it when it renames
        self.root = root
        self.size = 0  # both are known once the file is sealed
        self.digest = ""
        self.promoted = False
        self.unsure = False  # a sync of it failed
        self._file = raw
        self._sealed = False
        self._pid = os.getpid()

    def write(self, data: Any, /) -> int:
        if self._sealed:
            raise io.UnsupportedOperation(_SEALED)
        return super().write(data)

    def truncate(self, size: int | None = None, /) -> int:
        if self._sealed:
            raise io.UnsupportedOperation(_SEALED)
        return super().truncate(size)

    @property
    def descriptor(self) -> int:
        """The descriptor, for us, who write nothing through it: `fileno` is for programs."""
        return self._file.descriptor

    @property
    def few(self) -> bool:
        """Never: settling writes."""
        return False

    def digest_now(self) -> str:
        """Return the digest of what has been written so far; more may be."""
        self.flush()
        return self._file.digest(os.fstat(self.descriptor).st_size)

    def settle(self) -> "StagedFile":
        """End the writing: from here on the size and the digest are those of the bytes on disk.

        Raises:
            StorageFull, StorageUnsure: What was still buffered could not be written.
        """
        if not self._sealed:
            with honest_errors(f"writing a file of {self.tell():,} bytes", self.root):
                self.flush()
                self.size = os.fstat(self.descriptor).st_size
                self.digest = self._file.digest(self.size)
                self._sealed = True
        return self

    def hold(self) -> None:
        """Nothing to do: unlike a form's file, this one is closed only by whom it belongs to."""

    def release(self) -> None:
        """Close the file, and remove it unless it was promoted."""
        self.close()

    def close(self) -> None:
        """Close the file, and remove it unless it was promoted. May be called twice, and from a dying object."""
        if self.closed:
            return
        self._file.close()  # without the flush that BufferedRandom.close() would do: nobody will read it
        if not self.promoted and self._pid == os.getpid():  # a forked child's copy is not the owner
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass  # swept: this process was taken for dead


_SEALED = "this file has been handed to a task and can only be read; write what follows to a file of your own"
