"""Identifiers of tasks and files: in order of time, and impossible to guess.

An id is 36 characters of Crockford's base 32: 10 for the milliseconds since 1970 and 26 that carry
128 random bits. The time keeps new rows at the end of an index, so that a commit touches few pages;
the random bits make the id a capability: who knows it may read that one task.
"""

import os
import re
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]  # ten bits at a time: 2.5 times as fast as five
_SHAPE = re.compile(r"[0-9a-hjkmnp-tv-z]{36}")


def new_id() -> str:
    """Return a fresh id; ids of one process sort by time to the millisecond."""
    bits = (time.time_ns() // 1_000_000) << 130 | int.from_bytes(os.urandom(16))
    return "".join([_PAIRS[bits >> shift & 1023] for shift in range(170, -1, -10)])


def is_id(text: str) -> bool:
    """Tell whether a text from outside has the shape of an id, before it is looked up anywhere."""
    return _SHAPE.fullmatch(text) is not None
