"""What a stored file is, and how long it stays."""

from enum import StrEnum

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
