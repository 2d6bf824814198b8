"""Whether a request is to be answered, given what its client has already (RFC 9110, section 13).

What is compared never changes: a stored file has one digest and one time for ever. So its tag is a strong one, and its
date is as good as the tag.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from enum import Enum
from typing import NamedTuple

_TAGS = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')

Header = Callable[[str], Sequence[str]]  # the values of a header of the request, one for each line of it


class Answer(Enum):
    """What the conditions of a request come to."""

    SEND = "send"
    NOT_MODIFIED = "not modified"  # 304: the client has it
    FAILED = "failed"  # 412: it is not what the client takes it for


class Version(NamedTuple):
    """What tells one state of a file from another."""

    tag: str  # with its quotes
    modified: int  # seconds since 1970

    @property
    def date(self) -> str:
        """The time as headers have it."""
        return formatdate(self.modified, usegmt=True)


def decide(version: Version, header: Header) -> Answer:
    """Decide on a GET or HEAD, in the order that section 13.2.2 gives."""
    if (tags := ", ".join(header("if-match"))) and not _names(tags, version, weakly=False):
        return Answer.FAILED
    if not tags and (limit := _time(header("if-unmodified-since"))) is not None and version.modified > limit:
        return Answer.FAILED
    if tags := ", ".join(header("if-none-match")):
        return Answer.NOT_MODIFIED if _names(tags, version, weakly=True) else Answer.SEND
    if (limit := _time(header("if-modified-since"))) is not None and version.modified <= limit:
        return Answer.NOT_MODIFIED
    return Answer.SEND


def is_same(version: Version, if_range: str) -> bool:
    """Tell whether a client that asks for the rest of a file has the start of this one."""
    value = if_range.strip()
    return value == version.tag if value.startswith(('"', "W/")) else value == version.date


def _names(tags: str, version: Version, *, weakly: bool) -> bool:
    if tags.strip() == "*":
        return True
    return any(tag == version.tag and (weakly or not weak) for weak, tag in _TAGS.findall(tags))


def _time(lines: Sequence[str]) -> int | None:
    """Read a date; one that cannot be read is as good as none."""
    if len(lines) != 1:
        return None
    try:
        found = parsedate_to_datetime(lines[0])
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
