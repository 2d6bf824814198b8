"""What a form's file is received into: memory while it is small, a staged file once it is not.

Takes the place of `tempfile.SpooledTemporaryFile` under starlette's `UploadFile`, which looks at `_rolled` to decide
whether its next call may block and so belongs on a thread. Receiving itself is done where blocking is allowed.
A file that a task was given outlives its `close()`, until the task is stored or refused.
"""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from afterwards._domain.ids import new_id
from afterwards._files.disk import honest_errors
from afterwards._files.staging import INLINE_BYTES, StagedFile, Staging
from afterwards._files.stored import digest_of

REQUEST_BYTES = 4 << 20  # bytes that all files of one request may keep in memory, so that 1,000 files stay small


class Memory:
    """How much of its memory one request has used."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class Spool(io.BufferedIOBase):
    """An open binary file that moves to disk when it passes `INLINE_BYTES`, or its request `REQUEST_BYTES`."""

    _max_size = 0  # for starlette: not the size, only `_rolled` tells what may block

    def __init__(self, staging: Staging, memory: Memory) -> None:
        self.id = new_id()
        self._staging = staging
        self._memory = memory
        self._kept = 0  # bytes counted in `_memory`
        self._small: io.BytesIO | None = io.BytesIO()
        self._staged: StagedFile | None = None
        self._closed = False
        self._holds = 0
        self._sealed = False

    @property
    def root(self) -> Path:
        """The data directory that the bytes are staged in."""
        return self._staging.root

    @property
    def _rolled(self) -> bool:
        """Whether the next call may wait for the disk."""
        return self._small is None

    @property
    def _file(self) -> io.BytesIO | StagedFile:
        if self._closed:
            raise ValueError("I/O operation on closed file.")
        return self._content

    @property
    def _content(self) -> io.BytesIO | StagedFile:
        if self._small is not None:
            return self._small
        assert self._staged is not None
        return self._staged

    def write(self, data: Any, /) -> int:
        if self._closed:
            raise ValueError("write to closed file")
        self._check_unsealed()
        small = self._small
        if small is not None:
            size = len(data)
            if small.tell() + size <= INLINE_BYTES and self._memory.used + size <= REQUEST_BYTES:
                self._kept += size
                self._memory.used += size
                return small.write(data)
            self.rollover()
        staged = self._file
        with honest_errors(f"receiving a file of which {staged.tell():,} bytes had arrived", self._staging.root):
            return staged.write(data)

    def writelines(self, lines: Iterable[Any], /) -> None:
        for line in lines:
            self.write(line)

    def rollover(self) -> None:
        """Move to disk now, whatever the size."""
        small = self._file
        if isinstance(small, io.BytesIO):
            content = small.getbuffer()
            staged = self._staging.open(self.id)
            try:
                with honest_errors(f"writing a file of {len(content):,} bytes", self._staging.root):
                    staged.write(content)
                    staged.seek(small.tell())
            except BaseException:
                staged.close()
                raise
            self._staged = staged
            self._forget_small()

    def _forget_small(self) -> None:
        self._small = None
        self._memory.used -= self._kept
        self._kept = 0

    def _check_unsealed(self) -> None:
        if self._sealed:
            raise io.UnsupportedOperation("this upload has been handed to a task and can only be read")

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None, /) -> int:
        self._check_unsealed()
        if size is not None and size > INLINE_BYTES:
            self.rollover()
        return self._file.truncate(size)

    def flush(self) -> None:
        if not self._closed:
            self._file.flush()

    def fileno(self) -> int:
        self.rollover()
        file = self._file
        file.flush()
        return file.fileno()

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

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return not self._sealed

    def seekable(self) -> bool:
        return True

    @property
    def mode(self) -> str:
        return "rb+"

    @property
    def name(self) -> int | None:
        """None in memory, else the descriptor: never a path, as with an unnamed temporary file."""
        return self._staged.fileno() if self._staged is not None and not self._staged.closed else None

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Close the file; its bytes go too, unless a task was given it."""
        if not self._closed:
            self._closed = True
            if not self._holds:
                self._let_go()

    def hold(self) -> None:
        """Keep the bytes when the file is closed, because a task was given it."""
        self._holds += 1

    def release(self) -> None:
        """Take back `hold`: the task is stored, or will not be."""
        self._holds -= 1
        if self._closed and not self._holds:
            self._let_go()

    def _let_go(self) -> None:
        if self._small is not None:
            self._forget_small()
        if self._staged is not None:
            self._staged.close()

    @property
    def few(self) -> bool:
        """Whether `settle` only works in memory."""
        return self._small is not None

    def digest_now(self) -> str:
        """Return the digest of what has been written so far; more may be. May block."""
        if self._closed:
            raise ValueError("digest of closed file")
        content = self._content
        return digest_of(content.getvalue()) if isinstance(content, io.BytesIO) else content.digest_now()

    def settle(self) -> bytes | StagedFile:
        """End the writing and return the content: itself when small, else where it is on disk. May block."""
        self._sealed = True
        content = self._content
        return content.getvalue() if isinstance(content, io.BytesIO) else content.settle()
