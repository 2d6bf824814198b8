"""Files that tasks were given and that are not stored yet.

Between `add_task` and the commit the form may be closed, the endpoint may raise, the request may die. A `PendingFile`
keeps the bytes alive through that for exactly as long as some task still needs them.
"""

from pathlib import Path
from typing import BinaryIO, Protocol

from afterwards._domain.files import Verdict
from afterwards._domain.ids import new_id
from afterwards._domain.labels import label
from afterwards._files.staging import CHUNK, INLINE_BYTES, StagedFile, Staging
from afterwards._files.stored import Headers, StoredFile


class Source(Protocol):
    """Whatever bytes can be promoted from."""

    @property
    def id(self) -> str:
        """The id that the stored file will have."""

    @property
    def root(self) -> Path:
        """The data directory that the bytes are staged in."""

    @property
    def few(self) -> bool:
        """Whether the bytes are few and in memory, so that `settle` does not block."""

    def settle(self) -> bytes | StagedFile:
        """End the writing and return the bytes when they are few, else where they are staged. May block."""

    def hold(self) -> None:
        """Keep the bytes, whoever closes the file."""

    def release(self) -> None:
        """Take back `hold`."""


class Copied:
    """Bytes that arrived elsewhere and must be copied: a file object somebody made, or plain bytes."""

    def __init__(self, file: BinaryIO, staging: Staging) -> None:
        self.id = new_id()
        self.root = staging.root
        self._file = file
        self._staging = staging
        self._settled: bytes | StagedFile | None = None

    @property
    def few(self) -> bool:
        """Nobody knows before the copying."""
        return False

    def settle(self) -> bytes | StagedFile:
        """Copy from the start, 1 MiB at a time, and leave the file at the position it had."""
        if self._settled is None:
            position = self._file.tell()
            self._file.seek(0)
            try:
                self._settled = self._copy()
            finally:
                self._file.seek(position)
        return self._settled

    def _copy(self) -> bytes | StagedFile:
        start = self._file.read(INLINE_BYTES + 1)
        if len(start) <= INLINE_BYTES:
            return start
        staged = self._staging.open(self.id)
        try:
            while start:
                staged.write(start)
                start = self._file.read(CHUNK)
            return staged.settle()
        except BaseException:
            staged.close()
            raise

    def hold(self) -> None:
        """Nothing to do: until the copy is made, the file must stay open."""

    def release(self) -> None:
        if self.staged is not None:
            self.staged.close()

    @property
    def staged(self) -> StagedFile | None:
        """The copy, once it is made and if it is not small."""
        return self._settled if isinstance(self._settled, StagedFile) else None


class _NoSource:
    """Of what is stored already nothing is left to be done."""

    root = Path()
    few = True

    def __init__(self, id: str) -> None:
        self.id = id

    def settle(self) -> bytes | StagedFile:
        raise ValueError(f"file {self.id} is stored already")

    def hold(self) -> None:
        """Nothing to do: its row keeps it."""

    def release(self) -> None:
        """Nothing to do."""


class PendingFile:
    """A file that a task was given and that is not stored yet.

    Its bytes stay until `release` has been called once for each `hold`, or nobody knows the object any more.
    """

    def __init__(self, source: Source, *, name: str | None, content_type: str | None, headers: Headers) -> None:
        self.source = source
        self.id = source.id
        self.name = None if name is None else label(name)
        self.content_type = content_type
        self.headers = headers
        self.owner: str | None = None  # whose limits it counts for
        self.verdict: Verdict | None = None  # HELD: it waits for a scanner
        self.staged: StagedFile | None = None  # known once promoted, if the bytes are not few
        self.stored: StoredFile | None = None  # set by `promote`, taken back by `demote`
        self.lasting = False  # it was stored before any task was given it
        self.recorded = False  # a row tells of it: from then on tasks are tied to that row, and none is ever made again
        self._holds = 0

    @classmethod
    def of_stored(cls, stored: StoredFile) -> "PendingFile":
        """Return a file that is stored already, such as a finished upload: for a task to take without a copy."""
        pending = cls(_NoSource(stored.id), name=stored.name, content_type=stored.content_type, headers=stored.headers)
        pending.stored = stored
        pending.lasting = pending.recorded = True
        return pending

    @property
    def is_stored(self) -> bool:
        """Whether its bytes and what is known of it have been stored."""
        return self.stored is not None

    @property
    def held(self) -> bool:
        """Whether the bytes are still kept for a task."""
        return self._holds > 0

    def hold(self) -> None:
        """Keep the bytes for one more task."""
        if self._holds == 0:
            self.source.hold()
        self._holds += 1

    def release(self) -> None:
        """Say that one task needs them no longer, because it is stored or was refused."""
        self._holds -= 1
        if self._holds == 0:
            self.source.release()

    def __del__(self) -> None:
        if self._holds > 0:  # neither stored nor refused: the request died
            self.source.release()
