"""An open binary file of ours: in memory while it is small, a staged file once it is not.

What a form's file is received into and what a task writes are such files; `spool.py` and `outputs.py` say what becomes
of them. To whoever has one open it is a plain file in every other way. Its digest is found while it is written; only
where a program was given the descriptor, through which anything can be written, it is made again at the end.
"""

import io
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from afterwards._domain.ids import new_id
from afterwards._files.staging import INLINE_BYTES, StagedFile, Staging

IN_MEMORY = 4 << 20  # bytes that all files of one request or attempt may keep in memory, so that 1,000 stay small


class Memory:
    """How many bytes the small files of one request, or of one attempt, have in memory."""

    __slots__ = ("_lock", "_most", "used")

    def __init__(self, most: int = IN_MEMORY) -> None:
        self._lock = threading.Lock()
        self._most = most
        self.used = 0

    def take(self, size: int) -> bool:
        """Take some more; False when there is no more."""
        with self._lock:
            fits = self.used + size <= self._most
            self.used += size if fits else 0
            return fits

    def give_back(self, size: int) -> None:
        """Let others have what was taken."""
        with self._lock:
            self.used -= size


class Spooled(io.BufferedIOBase):
    """An open binary file that moves to disk when it passes `INLINE_BYTES`, or takes the last of its `Memory`."""

    def __init__(self, staging: Staging, memory: Memory) -> None:
        self._closed = False
        self.id = new_id()
        self.root = staging.root  # the data directory that the bytes are staged in
        self._staging = staging
        self._memory = memory
        self._taken = 0  # of `_memory`
        self._content: io.BytesIO | StagedFile = io.BytesIO()

    @property
    def few(self) -> bool:
        """Whether the bytes are in memory, so that `settle` does not block."""
        return isinstance(self._content, io.BytesIO)

    @property
    def _file(self) -> io.BytesIO | StagedFile:
        if self._closed:
            raise ValueError("I/O operation on closed file.")
        return self._content

    def _writing(self) -> AbstractContextManager[None]:
        """Say what it means that the disk refuses."""
        return nullcontext()

    def write(self, data: Any, /) -> int:
        file = self._file
        try:
            size = memoryview(data).nbytes
        except TypeError:
            kind = type(data).__name__
            raise TypeError(f"this is a binary file, and {kind} is not bytes: encode a text first") from None
        if isinstance(file, io.BytesIO):
            if self._fits(file.tell() + size):
                return file.write(data)
            file = self._move_to_disk(file)
        with self._writing():
            return file.write(data)

    def writelines(self, lines: Iterable[Any], /) -> None:
        for line in lines:
            self.write(line)

    def truncate(self, size: int | None = None, /) -> int:
        """Cut it off here, or, as with any file, fill it up with zeros to here."""
        file = self._file
        size = file.tell() if size is None else size
        if isinstance(file, io.BytesIO):
            if self._fits(size):
                return _resize(file, size)
            file = self._move_to_disk(file)
        with self._writing():
            return file.truncate(size)

    def rollover(self) -> None:
        """Move to disk now, whatever the size."""
        file = self._file
        if isinstance(file, io.BytesIO):
            self._move_to_disk(file)

    def fileno(self) -> int:
        """Return a descriptor, for libraries that write to one."""
        file = self._file
        if isinstance(file, io.BytesIO):
            file = self._move_to_disk(file)
        with self._writing():
            file.flush()
            return file.fileno()

    def _fits(self, end: int) -> bool:
        more = end - self._taken
        if end > INLINE_BYTES or (more > 0 and not self._memory.take(more)):
            return False
        self._taken = max(self._taken, end)
        return True

    def _move_to_disk(self, small: io.BytesIO) -> StagedFile:
        staged = self._staging.open(self.id)
        try:
            with self._writing():
                staged.write(small.getbuffer())
                staged.seek(small.tell())
        except BaseException:
            staged.close()
            raise
        self._content = staged
        self._give_memory_back()
        return staged

    def _give_memory_back(self) -> None:
        self._memory.give_back(self._taken)
        self._taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        return self._file.read(size)

    def read1(self, size: int = -1, /) -> bytes:
        return self._file.read1(size)

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._file.readline(-1 if size is None else size)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        return self._file.readlines(-1 if hint is None else hint)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)

    def __next__(self) -> bytes:
        return next(self._file)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        if not self._closed:
            with self._writing():
                self._content.flush()

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
        return self._closed


def _resize(small: io.BytesIO, size: int) -> int:
    """Do what a file does: `io.BytesIO` only becomes shorter."""
    at, end = small.tell(), small.seek(0, os.SEEK_END)
    if size > end:
        small.write(bytes(size - end))
    small.seek(at)
    return small.truncate(size) if size < end else size
