"""A file that a task writes: in memory while it is small, in staging once it is not.

Digest and size are found while it is written, so that publishing it reads nothing again. Closed, it holds no
descriptor. Nothing of it outlives the attempt that wrote it, unless `workspace.py` publishes it.
"""

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from afterwards._domain.ids import new_id
from afterwards._files.disk import READ_FILE
from afterwards._files.staging import INLINE_BYTES, StagedFile, Staging
from afterwards._files.stored import ReadOnlyBytes, digest_of, path_of

IN_MEMORY = 4 << 20  # bytes of all outputs of one attempt together that may go into their rows


class Memory:
    """How many bytes the small outputs of one attempt have in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = IN_MEMORY

    def take(self, size: int) -> bool:
        """Take some more; False when there is no more."""
        with self._lock:
            fits = size <= self._left
            self._left -= size if fits else 0
            return fits


class OutputFile(io.BufferedIOBase):
    """An open binary file, to be written, read back and moved about in until it is closed."""

    def __init__(self, staging: Staging, memory: Memory, name: str, content_type: str | None) -> None:
        self.id = new_id()
        self.label = name
        self.content_type = content_type
        self.root = staging.root
        self.dropped = False
        self._staging = staging
        self._memory = memory
        self._taken = 0  # of `memory`
        self._open: io.BytesIO | StagedFile | None = io.BytesIO()
        self._content: bytes | None = None  # once closed: either these,
        self._parked: tuple[Path, int, str] | None = None  # or where they are, their size and digest
        self.staged: StagedFile | None = None  # opened again to be published
        self._process = os.getpid()

    @property
    def _file(self) -> io.BytesIO | StagedFile:
        if self._open is None:
            raise ValueError(f"the output {self.label!r} is closed")
        return self._open

    def write(self, data: Any, /) -> int:
        file = self._file
        if isinstance(file, io.BytesIO) and not self._fits(file.tell() + memoryview(data).nbytes):
            file = self._move_to_disk(file)
        return file.write(data)

    def truncate(self, size: int | None = None, /) -> int:
        file = self._file
        if isinstance(file, io.BytesIO) and size is not None and not self._fits(size):
            file = self._move_to_disk(file)
        return file.truncate(size)

    def _fits(self, end: int) -> bool:
        more = end - self._taken
        if end > INLINE_BYTES or (more > 0 and not self._memory.take(more)):
            return False
        self._taken = max(self._taken, end)
        return True

    def _move_to_disk(self, small: io.BytesIO) -> StagedFile:
        staged = self._staging.open(self.id)
        staged.write(small.getvalue())
        staged.seek(small.tell())
        self._memory.take(-self._taken)
        self._taken = 0
        self._open = staged
        return staged

    def read(self, size: int | None = -1, /) -> bytes:
        return self._file.read(size)

    def read1(self, size: int = -1, /) -> bytes:
        return self._file.read1(size)

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._file.readline(-1 if size is None else size)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        if self._open is not None:
            self._open.flush()

    def fileno(self) -> int:
        """Return a descriptor, for libraries that write to one."""
        file = self._file
        if isinstance(file, io.BytesIO):
            file = self._move_to_disk(file)
        file.flush()
        return file.fileno()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    @property
    def mode(self) -> str:
        return "rb+"

    @property
    def closed(self) -> bool:
        return self._open is None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; a block that raised has not written all of it, so then it is dropped."""
        if kind is None:
            self.close()
        else:
            self.drop()

    def close(self) -> None:
        """End the writing; its bytes stay until the attempt has ended."""
        file = self._open
        if isinstance(file, io.BytesIO):
            self._content, self._open = file.getvalue(), None
        elif file is not None:
            file.settle()
            self._parked, self._open = (file.path, file.size, file.digest), None
            file.promoted = True  # so that it stays when it is closed, to be opened again when it is published
            file.close()

    def drop(self) -> None:
        """Throw it away."""
        self.dropped = True
        if self._process != os.getpid():  # a forked child's copy is not the owner
            return
        if isinstance(self._open, StagedFile):
            self._open.close()
        elif self._parked is not None:
            try:
                os.unlink(self._parked[0])
            except OSError:  # published, swept, or its whole folder is gone
                pass
        self._open = self._parked = None
        self._content = b""

    @property
    def few(self) -> bool:
        """Whether `settle` only works in memory."""
        return self._content is not None or isinstance(self._open, io.BytesIO)

    def settle(self) -> bytes | StagedFile:
        """End the writing and return the bytes when they are few, else where they are staged. May block."""
        self.close()
        if self._parked is None:
            return self._content or b""
        if self.staged is None:
            path, size, digest = self._parked
            self.staged = self._staging.adopt(path, id=self.id, size=size, digest=digest)
        return self.staged

    def hold(self) -> None:
        """Nothing to do: it stays until it is dropped or published."""

    def release(self) -> None:
        """Close what `settle` has opened."""
        if self.staged is not None:
            self.staged.close()

    def about(self) -> tuple[int, str]:
        """End the writing and return size and digest."""
        self.close()
        if self._parked is not None:
            return self._parked[1], self._parked[2]
        content = self._content or b""
        return len(content), digest_of(content)

    def reader(self) -> BinaryIO:
        """End the writing and open it for reading, wherever it is by now."""
        self.close()
        if self._parked is None:
            return ReadOnlyBytes(self._content or b"")
        try:
            fd = os.open(self._parked[0], READ_FILE)
        except FileNotFoundError:  # published
            fd = os.open(path_of(self.id, self.root), READ_FILE)
        return os.fdopen(fd, "rb")

    def __del__(self) -> None:
        """Outside of a task nobody else throws it away; `io.IOBase` would close it, which keeps it."""
        if getattr(self, "_parked", None) is not None:
            self.drop()
