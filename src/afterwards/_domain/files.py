"""What a stored file is, and how long it stays."""

from enum import StrEnum
from typing import Any

FILE_GRACE = 3_600_000_000  # microseconds a file stays without a task: its request may still be being answered


class FileKind(StrEnum):
    """Where a file came from."""

    INPUT = "input"  # in a request, as an argument of its tasks
    UPLOAD = "upload"  # by itself, for a task to take later
    ARTIFACT = "artifact"  # out of a task


class FileRole(StrEnum):
    """What a file is to a task."""

    INPUT = "input"  # an argument
    OUTPUT = "output"  # made by it


class Verdict(StrEnum):
    """What a scanner said of a file."""

    HELD = "held"  # nothing yet: no task and no client gets it
    CLEAN = "clean"
    INFECTED = "infected"  # no task and no client ever gets it


class FileValue:
    """A stored file as a value: it goes through `add_task` and comes out of results, and its bytes stay where they are.

    Its bytes never change, so two values of one id are equal.
    """

    __slots__ = ("content_type", "digest", "id", "name", "size", "type")

    def __init__(
        self, *, id: str, name: str | None, size: int, content_type: str | None, type: str | None, digest: str
    ) -> None:
        self.id = id
        self.name = name  # what its sender or its maker called it: a label, never a path
        self.size = size  # in bytes
        self.content_type = content_type  # what its sender or its maker said
        self.type = type  # as its bytes say; None: they say nothing, or were not asked
        self.digest = digest  # "blake3:" and 64 hexadecimal digits

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, FileValue) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, name={self.name!r}, size={self.size})"
