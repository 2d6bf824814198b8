"""Which bytes of a file a `Range` header asks for (RFC 9110, section 14).

What comes back covers no byte twice and has at most `MOST` parts, so an answer is never much longer than the file.
A header that means nothing is ignored, as the RFC allows; one that asks for more parts than anybody needs is refused
before it is read.
"""

import re
from typing import NamedTuple

from afterwards.errors import RangeRefused

MOST = 100  # ranges in one request; a PDF viewer asks for a handful

_HEADER = re.compile(r"[ \t]*bytes[ \t]*=(.*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")
_DIGITS = 18  # of a number; what is longer is past the end of any file


class Span(NamedTuple):
    """Bytes of a file, from `start` up to but not with `end`."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.end - self.start

    def of(self, size: int) -> str:
        """Say it as `Content-Range` does, of a file of that size."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def wanted(header: str, size: int) -> list[Span] | None:
    """Return what is asked for, in the order it was asked for; None when the whole file is to be sent.

    Ranges that overlap or touch become one, at the place of the first of them.

    Raises:
        RangeRefused: Nothing asked for is inside the file, or it is asked for in too many pieces.
    """
    found = _HEADER.fullmatch(header)
    if found is None:
        return None
    listed = found[1]
    if listed.count(",") >= MOST:
        raise RangeRefused(size=size, problem=f"{listed.count(',') + 1:,} ranges were asked for, at most {MOST} are")
    matches = [_RANGE.fullmatch(one.strip(" \t")) for one in listed.split(",") if one.strip(" \t")]
    if not matches:
        return None
    inside: list[Span] = []
    for match in matches:
        if match is None or match[0] == "-":
            return None
        first, last = match[1], match[2]
        if first and last and _number(last) < _number(first):
            return None
        if not first:
            if size == 0 and _number(last) > 0:
                return None  # it may be had, but no Content-Range can say so
            span = Span(max(0, size - _number(last)), size)
        else:
            span = Span(_number(first), min(size, _number(last) + 1) if last else size)
        if span.start < span.end:
            inside.append(span)
    if not inside:
        raise RangeRefused(size=size, problem="no byte that was asked for is inside the file")
    return _joined(inside)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return 10**_DIGITS if len(digits) > _DIGITS else int(digits or "0")


def _joined(spans: list[Span]) -> list[Span]:
    joined: list[tuple[int, Span]] = []
    for place, span in sorted(enumerate(spans), key=lambda one: one[1]):
        if joined and span.start <= joined[-1][1].end:
            first, last = joined[-1]
            joined[-1] = (min(first, place), Span(last.start, max(last.end, span.end)))
        else:
            joined.append((place, span))
    return [span for _, span in sorted(joined)]
