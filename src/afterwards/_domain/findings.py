"""What a check of a data directory finds, and what may be done about it.

A finding is one sentence about one thing: what is wrong, with which, and what to do. `repair` names the safe remedy
that `afterwards doctor --repair` carries out; a finding without one is for a person to decide.
"""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    PROBLEM = "problem"  # something promised does not hold, or nobody will mend it by itself
    NOTICE = "notice"  # worth knowing; the data is well


class Repair(StrEnum):
    """What can be mended without a guess and without removing anything that somebody refers to."""

    MODE = "mode"  # take away what others may do
    ORPHAN = "orphan"  # remove a file that no row names
    PART = "part"  # remove the bytes of an upload that is over
    LEFTOVER = "leftover"  # remove what a dead process was receiving
    PUT_BACK = "put_back"  # move an intact file to where its row looks for it
    USES = "uses"  # count again how many tasks have a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    code: str  # never changes, as the codes of errors
    subject: str  # which file, task or folder
    problem: str
    remedy: str
    level: Level = Level.PROBLEM
    repair: Repair | None = None
    target: str = ""  # what the repair works on: a path below the data directory, or an id
    size: int = 0  # bytes that a removal gives back
