"""The bytes of a stored file on their way out: open for several threads, and given only while they are what was stored.

A descriptor that one thread closes while another uses it can become another file in between. So each use is counted,
and the last user closes.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from afterwards._domain.ranges import Span
from afterwards._files.disk import honest_openings
from afterwards._files.stored import StoredFile
from afterwards.errors import DamagedFile

Piece = bytes | Span  # of an answer's body: bytes as they are, or a part of the file


class Descriptor:
    """A file descriptor that is closed once, after its last use."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._users = 0
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def using(self) -> Iterator[int]:
        """Keep it open for as long as the block lasts.

        Raises:
            ValueError: It has been closed.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the descriptor has been closed")
            self._users += 1
        try:
            yield self._fd
        finally:
            self._end(users=-1)

    def close(self) -> None:
        """Close it now, or when the last one who uses it is done."""
        self._closed = True
        self._end(users=0)

    def _end(self, *, users: int) -> None:
        with self._lock:
            self._users += users
            fd = -1
            if self._closed and self._users == 0:
                fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()  # an answer that was made and never sent


class Outgoing:
    """One stored file, opened to be sent. Its bytes may be inside its row; then there is no descriptor."""

    def __init__(self, stored: StoredFile, root: Path) -> None:
        """Open it.

        Raises:
            MissingFile, DamagedFile, TooManyOpenFiles: See `StoredFile.open`.
        """
        self.stored = stored
        self._path = stored.path(root)
        self.descriptor: Descriptor | None = None
        if stored.content is None:
            with stored.open(root) as file, honest_openings(f"opening file {stored.id}"):
                self.descriptor = Descriptor(os.dup(file.fileno()))
                self._changed = _times(file.fileno())

    def another(self) -> "Outgoing":
        """Open the same bytes once more, to be closed on its own.

        Raises:
            TooManyOpenFiles: No descriptor is left for it.
        """
        twin = object.__new__(Outgoing)
        twin.stored, twin._path, twin.descriptor = self.stored, self._path, None
        if self.descriptor is not None:
            with self.descriptor.using() as fd, honest_openings(f"opening file {self.stored.id} once more"):
                twin.descriptor = Descriptor(os.dup(fd))
            twin._changed = self._changed
        return twin

    def read(self, span: Span) -> bytes:
        """Read a part. Blocks.

        Raises:
            DamagedFile: It was changed since it was opened.
        """
        if self.stored.content is not None:
            return self.stored.content[span.start : span.end]
        assert self.descriptor is not None
        with self.descriptor.using() as fd:
            content = os.pread(fd, span.size, span.start)
            while 0 < len(content) < span.size:
                more = os.pread(fd, span.size - len(content), span.start + len(content))
                if not more:
                    break
                content += more
            self.check(fd)
        if len(content) != span.size:
            raise self.damaged("it has become shorter while it was being sent")
        return content

    def check(self, fd: int) -> None:
        """See that nobody wrote to it since it was opened; its removal is no matter.

        Raises:
            DamagedFile: Somebody did.
        """
        if _times(fd) != self._changed:
            raise self.damaged("it was changed while it was being sent")

    def damaged(self, problem: str) -> DamagedFile:
        """Make the error that says so."""
        return DamagedFile(id=self.stored.id, name=self.stored.name, path=self._path, problem=problem)

    def close(self) -> None:
        """Let go of it, when the last thread is done with it."""
        if self.descriptor is not None:
            self.descriptor.close()


def _times(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_size, found.st_mtime_ns


class Handover:
    """The body of one answer, offered to the server that it passes through.

    It travels as an extra key of an empty `http.response.body` message. A server that knows the key takes the body
    and sends it without it ever being read into the program. Whatever stands in between and makes messages of its own
    (compression, a `BaseHTTPMiddleware`) drops the key without knowing, and nothing is taken. All on one event loop.
    """

    KEY = "afterwards.send_file"  # of the message, and of the scope's extensions

    __slots__ = ("_taken", "_withdrawn", "file", "pieces", "size")

    def __init__(self, file: Outgoing, pieces: Sequence[Piece]) -> None:
        self.file = file
        self.pieces = pieces
        self.size = sum(len(piece) if isinstance(piece, bytes) else piece.size for piece in pieces)
        self._taken = False
        self._withdrawn = False

    def take(self) -> bool:
        """Tell the server whether it may send the body; it then does so before it returns from the message."""
        if self._withdrawn or self._taken:
            return False
        self._taken = True
        return True

    def withdraw(self) -> bool:
        """Take the offer back, after the message has passed; False when a server took the body."""
        self._withdrawn = True
        return not self._taken
