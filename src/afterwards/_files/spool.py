"""What a form's file is received into: memory while it is small, a staged file once it is not.

Takes the place of `tempfile.SpooledTemporaryFile` under starlette's `UploadFile`, which looks at `_rolled` to decide
whether its next call may block and so belongs on a thread. Receiving itself is done where blocking is allowed.
A file that a task was given outlives its `close()`, until the task is stored or refused.
"""

import io
from contextlib import AbstractContextManager
from typing import Any

from afterwards._files.disk import honest_errors
from afterwards._files.spooled import Memory, Spooled
from afterwards._files.staging import StagedFile, Staging
from afterwards._files.stored import digest_of


class Spool(Spooled):
    """The file under an `UploadFile`."""

    _max_size = 0  # for starlette: not the size, only `_rolled` tells what may block

    def __init__(self, staging: Staging, memory: Memory) -> None:
        super().__init__(staging, memory)
        self._holds = 0
        self._sealed = False

    @property
    def _rolled(self) -> bool:
        """Whether the next call may wait for the disk."""
        return not self.few

    def _writing(self) -> AbstractContextManager[None]:
        return honest_errors(f"receiving a file of which {self._content.tell():,} bytes had arrived", self.root)

    def write(self, data: Any, /) -> int:
        self._check_unsealed()
        return super().write(data)

    def truncate(self, size: int | None = None, /) -> int:
        self._check_unsealed()
        return super().truncate(size)

    def _check_unsealed(self) -> None:
        if self._sealed and not self._closed:
            raise io.UnsupportedOperation("this upload has been handed to a task and can only be read")

    def writable(self) -> bool:
        return not self._sealed

    @property
    def name(self) -> int | None:
        """None in memory, else the descriptor: never a path, as with an unnamed temporary file."""
        content = self._content
        return None if isinstance(content, io.BytesIO) or content.closed else content.fileno()

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
        self._give_memory_back()
        self._content.close()

    def digest_now(self) -> str:
        """Return the digest of what has been written so far; more may be. May block."""
        content = self._file
        return digest_of(content.getvalue()) if isinstance(content, io.BytesIO) else content.digest_now()

    def settle(self) -> bytes | StagedFile:
        """End the writing and return the content: itself when small, else where it is on disk. May block."""
        self._sealed = True
        content = self._content
        return content.getvalue() if isinstance(content, io.BytesIO) else content.settle()
