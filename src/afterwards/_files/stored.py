"""A file that a task may take: what its row says, and how its bytes are opened again.

Opening follows no link and compares the size; `comparison.py` compares the digest. Nothing that opens a stored
file can write to it, because later attempts, other tasks and downloads read the same bytes.
"""

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from blake3 import blake3

from afterwards._domain.files import FileKind, Verdict
from afterwards._files.disk import READ_FILE, honest_openings
from afterwards.errors import DamagedFile, MissingFile

Headers = tuple[tuple[str, str], ...]


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is safe on disk, or small enough to travel inside its row."""

    id: str
    name: str | None  # what the client called it; shown, never used as a path
    size: int
    content_type: str | None
    headers: Headers  # of the form part it came in, in order
    digest: str  # "blake3:" and 64 hexadecimal digits
    content: bytes | None = None  # None: the bytes are in the files folder
    kind: FileKind = FileKind.INPUT
    type: str | None = None  # its media type, as its bytes say
    owner: str | None = None  # whose limits it counts for
    kept_until: int | None = None  # UTC microseconds: it stays this long even when no task has it; None: see FILE_GRACE
    verdict: Verdict | None = None  # of a scanner; None: not asked

    def path(self, root: Path) -> Path:
        """Where the bytes are, unless they are in the row."""
        return path_of(self.id, root)

    def open(self, root: Path) -> BinaryIO:
        """Open the bytes for reading, at the start.

        Raises:
            MissingFile: There is no such file any more.
            DamagedFile: It is not a plain file, or its size is not the one that was stored.
            TooManyOpenFiles: No descriptor is left for it.
        """
        if self.content is not None:
            return ReadOnlyBytes(self.content)
        path = self.path(root)
        try:
            with honest_openings(f"opening file {self.id}"):
                fd = os.open(path, READ_FILE)
        except FileNotFoundError:
            raise MissingFile(id=self.id, name=self.name, path=path) from None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise DamagedFile(id=self.id, name=self.name, path=path, problem="it is a link") from None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size != self.size:
                problem = f"it has {found.st_size:,} bytes instead of {self.size:,}"
                raise DamagedFile(id=self.id, name=self.name, path=path, problem=problem)
            return os.fdopen(fd, "rb")
        except BaseException:
            os.close(fd)
            raise


class ReadOnlyBytes(io.BytesIO):
    """Bytes as an open file that, like a stored file on disk, can only be read."""

    _rolled = False  # starlette's UploadFile: reading never waits, so it needs no thread

    def writable(self) -> bool:
        return False

    def write(self, data: Any, /) -> int:
        raise io.UnsupportedOperation("write")

    def writelines(self, lines: Any, /) -> None:
        raise io.UnsupportedOperation("write")

    def truncate(self, size: int | None = None, /) -> int:
        raise io.UnsupportedOperation("truncate")


def path_of(id: str, root: Path) -> Path:
    """Where the file of this id rests, which must be one that `_domain/ids.py` made."""
    return root / "files" / id[-2:] / id


def digest_of(content: bytes) -> str:
    """Return the digest of bytes as it is kept everywhere."""
    return f"blake3:{blake3(content).hexdigest()}"
