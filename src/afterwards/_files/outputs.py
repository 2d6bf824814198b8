"""A file that a task writes: in memory while it is small, in staging once it is not.

Digest and size are found while it is written, so that publishing it reads nothing again. Closed, it holds no
descriptor. Nothing of it outlives the attempt that wrote it, unless `workspace.py` publishes it.
"""

import io
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from afterwards._files.disk import READ_FILE
from afterwards._files.spooled import Memory, Spooled
from afterwards._files.staging import StagedFile, Staging
from afterwards._files.stored import ReadOnlyBytes, digest_of, path_of


class OutputFile(Spooled):
    """An open binary file, to be written, read back and moved about in until it is closed."""

    def __init__(self, staging: Staging, memory: Memory, name: str, content_type: str | None) -> None:
        super().__init__(staging, memory)
        self.label = name
        self.content_type = content_type
        self.dropped = False
        self._parked: tuple[Path, int, str] | None = None  # once closed, if it is large: path, size and digest
        self.staged: StagedFile | None = None  # opened again to be published
        self._process = os.getpid()

    @property
    def _file(self) -> io.BytesIO | StagedFile:
        if self._closed:
            raise ValueError(f"the output {self.label!r} is closed")
        return self._content

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
        if self._closed:
            return
        if isinstance(file := self._content, StagedFile):
            file.settle()
            self._parked = file.path, file.size, file.digest
            file.promoted = True  # so that it stays when it is closed, to be opened again when it is published
            file.close()
        self._closed = True

    def drop(self) -> None:
        """Throw it away."""
        self.dropped = True
        if self._process != os.getpid():  # a forked child's copy is not the owner
            return
        if self._parked is not None:
            try:
                os.unlink(self._parked[0])
            except OSError:  # published, swept, or its whole folder is gone
                pass
        self._content.close()
        self._content, self._parked, self._closed = io.BytesIO(), None, True

    def settle(self) -> bytes | StagedFile:
        """End the writing and return the bytes when they are few, else where they are staged. May block."""
        self.close()
        if self._parked is None:
            return self._few_bytes()
        if self.staged is None:
            path, size, digest = self._parked
            self.staged = self._staging.adopt(path, id=self.id, size=size, digest=digest)
        return self.staged

    def _few_bytes(self) -> bytes:
        assert isinstance(self._content, io.BytesIO)
        return self._content.getvalue()

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
        content = self._few_bytes()
        return len(content), digest_of(content)

    def reader(self) -> BinaryIO:
        """End the writing and open it for reading, wherever it is by now."""
        self.close()
        if self._parked is None:
            return ReadOnlyBytes(self._few_bytes())
        try:
            fd = os.open(self._parked[0], READ_FILE)
        except FileNotFoundError:  # published
            fd = os.open(path_of(self.id, self.root), READ_FILE)
        return os.fdopen(fd, "rb")

    def __del__(self) -> None:
        """Outside of a task nobody else throws it away; `io.IOBase` would close it, which keeps it."""
        if getattr(self, "_parked", None) is not None:
            self.drop()
