"""Stored files as values: what they are, their bytes, and a path for libraries that need one.

A `File` goes through `add_task` as an argument and comes out of results; only its id is written down.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
from pydantic_core import SchemaSerializer, core_schema

from afterwards._domain.files import FileValue, Verdict
from afterwards._domain.ids import is_id
from afterwards._engine.context import running
from afterwards._engine.outside import is_serving, outside
from afterwards._files.comparison import open_compared
from afterwards._files.stored import StoredFile
from afterwards._files.workspace import Workspace
from afterwards._store.contract import Store, Stored
from afterwards.errors import AttemptEnded, FileHeld, FileInfected, NoAttempt, UnknownFile


class Source(Protocol):
    """Where the bytes of a file are."""

    def open(self, id: str) -> BinaryIO:
        """Open them for reading."""
        ...

    def lend(self, file: "File", workspace: Workspace) -> Path:
        """Give them a path in a workspace."""
        ...

    def href(self, id: str) -> str:
        """Return the path of the file below the application."""
        ...


NOT_A_FIELD = (
    "afterwards.File is a stored file, which add_task takes and results give; programs make none. What describes a "
    "field of a form is FastAPI's: `from fastapi import File`."
)


class File(FileValue):
    """A stored file: `id`, `name`, `size` in bytes, `content_type`, `type` and `digest`, and its bytes when asked for.

    Files are equal when their ids are: the bytes behind an id never change.
    """

    __slots__ = ("_source",)

    # Where pydantic looks for how to write a value of a type that nothing announced, such as one inside of `Any`.
    __pydantic_serializer__ = SchemaSerializer(
        core_schema.any_schema(serialization=core_schema.plain_serializer_function_ser_schema(dict))
    )

    def __init__(self, source: Source | None = None, **about: Any) -> None:
        if not hasattr(source, "lend"):
            raise TypeError(NOT_A_FIELD)
        super().__init__(**about)
        self._source: Source = source  # type: ignore[assignment]  # not None: just looked at

    @property
    def is_draft(self) -> bool:
        """Whether the task that makes it has not handed it over yet."""
        return not isinstance(self._source, Shelf)

    @property
    def url(self) -> str:
        """The path it is served at, below the application."""
        return self._source.href(self.id)

    def open(self) -> BinaryIO:
        """Open it for reading, in binary; the caller closes it.

        Blocks: the first opening in a process reads a file that another one received, to compare its digest.

        Raises:
            UnknownFile: It was deleted.
            FileHeld, FileInfected: A scanner has not cleared it (yet).
            MissingFile, DamagedFile: The data directory does not have its bytes as they were stored.
        """
        return self._source.open(self.id)

    def read(self) -> bytes:
        """Return all its bytes. Blocks. Raises what `open` does."""
        with self.open() as file:
            return file.read()

    async def read_async(self) -> bytes:
        """Return all its bytes without blocking the event loop. Raises what `open` does."""
        return await asyncio.to_thread(self.read)

    def path(self) -> Path:
        """Return a path to its bytes, for libraries that need one, ending as its name does. Blocks.

        It is read-only, and what is done to it does not reach the stored file. It goes when the attempt ends; outside
        of a task, with the process. Raises what `open` does.
        """
        return self._source.lend(self, workspace())

    async def path_async(self) -> Path:
        """Return such a path without blocking the event loop."""
        return await asyncio.to_thread(self.path)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield what an endpoint that returns the file answers."""
        yield "id", self.id
        yield "name", self.name
        yield "href", self.url
        yield "size", self.size
        yield "type", self.type or self.content_type
        yield "digest", self.digest

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """In a model it is kept as it is, and shown as what an endpoint answers."""
        shown = core_schema.plain_serializer_function_ser_schema(dict, when_used="json")
        return core_schema.is_instance_schema(cls, serialization=shown)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        """Describe what it is shown as."""
        text = {"type": "string"}
        maybe = {"anyOf": [text, {"type": "null"}]}
        fields = {"id": text, "name": maybe, "href": text, "size": {"type": "integer"}, "type": maybe, "digest": text}
        return {"type": "object", "title": "File", "properties": fields, "required": list(fields)}


class Shelf:
    """The stored files of one data directory."""

    def __init__(self, root: Path, store: Store, prefix: str = "/afterwards") -> None:
        self.root = root
        self._store = store
        self._prefix = prefix

    def find(self, id: str) -> File:
        """Return a file. Blocks briefly.

        Raises:
            UnknownFile: There is none of this id.
        """
        return self.file(self._row(id))

    def file(self, row: Any) -> File:
        """Return the file of a row."""
        return File(
            self,
            id=row.id,
            name=row.name,
            size=row.size,
            content_type=row.content_type,
            type=row.type,
            digest=row.digest,
        )

    def among(self, rows: Sequence[Any]) -> Callable[[str], File]:
        """Return how to get files of a task by their ids, from the rows that come with it."""
        by_id = {row.id: row for row in rows}
        return lambda id: self.file(by_id[id])

    def check(self, id: str) -> None:
        """See that a task may have a file. Blocks briefly.

        Raises:
            UnknownFile: There is none of this id, or none any more.
            FileHeld, FileInfected: A scanner has not cleared it.
        """
        found = self._store.verdicts([id])
        if id not in found:
            raise UnknownFile(file=id[:80])
        _check_verdict(id, found[id])

    def open(self, id: str) -> BinaryIO:
        """Open the bytes of a file. Raises what `File.open` does."""
        return open_compared(self._stored(id), self.root)

    def compare(self, ids: Iterable[str]) -> None:
        """Compare files with their digests, so that a task can open them without that. Blocks for as long as it takes.

        Raises:
            MissingFile, DamagedFile: As `File.open`.
        """
        for id in ids:
            row = self._store.file(id)
            if row is not None and row.content is None and row.verdict in (None, Verdict.CLEAN):
                open_compared(msgspec.convert(row, StoredFile, from_attributes=True), self.root).close()

    def lend(self, file: File, workspace: Workspace) -> Path:
        """Give a file a path in a workspace. Raises what `File.open` does."""
        stored = self._stored(file.id)
        with open_compared(stored, self.root) as opened:
            at = stored.path(self.root) if stored.content is None else None
            return workspace.lend(file.id, file.name, opened, at)

    def href(self, id: str) -> str:
        """Return the path of a file below the application."""
        return f"{self._prefix}/files/{id}"

    def _stored(self, id: str) -> StoredFile:
        row = self._row(id)
        _check_verdict(id, row.verdict)
        return msgspec.convert(row, StoredFile, from_attributes=True)

    def _row(self, id: str) -> Stored:
        row = self._store.file(id) if is_id(id) else None
        if row is None:
            raise UnknownFile(file=id[:80])
        return row


def workspace(maker: str | None = None) -> Workspace:
    """Return where the current attempt works; outside of a task, a temporary place.

    Args:
        maker: The function that makes a file to be kept, for which there is no such place while tasks run.
    """
    found = running.get()
    if found is None:
        if maker is not None and is_serving():
            raise NoAttempt(what=maker)
        return outside()
    if (made := found.work()) is None:
        raise AttemptEnded(what="a place for files")
    return made


def _check_verdict(id: str, verdict: Verdict | None) -> None:
    if verdict is Verdict.HELD:
        raise FileHeld(file=id)
    if verdict is Verdict.INFECTED:
        raise FileInfected(file=id)
