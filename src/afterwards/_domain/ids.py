"""Identifiers of tasks and files: in order of time, and impossible to guess.

An id is 43 hexadecimal digits: 11 for the milliseconds since 1970 and 32 that are 128 random bits. The time keeps
new rows at the end of an index, so that a commit touches few pages; the random bits make the id a capability: who
knows it may read that one task. Hexadecimal, because an id is made in every request and this is the fastest.
"""

import os
import re
import time
from collections import deque

_SHAPE = re.compile("[0-9a-f]{43}")


_fresh: deque[bytes] = deque()  # 16 random bytes each, drawn ahead: asking the system gives up the interpreter lock,
_AHEAD = 256  # which in a busy server was measured to cost 37 microseconds every time
os.register_at_fork(after_in_child=_fresh.clear)  # a child must not use its parent's


def random_bytes() -> bytes:
    """Return 16 bytes from the system's random source, each only once. Safe from any thread."""
    while True:
        try:
            return _fresh.pop()
        except IndexError:
            drawn = os.urandom(16 * _AHEAD)
            _fresh.extend(drawn[start : start + 16] for start in range(0, len(drawn), 16))


def new_id() -> str:
    """Return a fresh id; ids of one process sort by time to the millisecond."""
    return f"{time.time_ns() // 1_000_000:011x}{random_bytes().hex()}"


def is_id(text: str) -> bool:
    """Tell whether a text from outside has the shape of an id, before it is looked up anywhere."""
    return _SHAPE.fullmatch(text) is not None
