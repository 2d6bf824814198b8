"""What a store promises about idempotency keys; part of `contract.py`, which takes these in among its commands.

A key is held by one request or has its answer. The answer comes with the tasks it speaks of, in one transaction. What
a worker held is free when the worker has been ended, in the transaction that ends it.
"""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeKey:
    """Take a key for a request. Answer: None when it is the asker's now, else an Answered or `HELD`."""

    id: bytes
    worker: str
    token: str  # random, fresh for each request
    now: int


class KeepAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Keep what a request is answered. Answer: None, or KeyLost when another request has taken the key."""

    id: bytes
    token: str
    fingerprint: bytes | None  # None: the body never came whole, so that there is nothing to compare with
    status: int
    headers: list[tuple[str, str]]
    body: bytes | None  # None: it was not kept
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeKey:
    """Free a key whose request stored nothing. Answer: None, also when the key has an answer by now, which stays."""

    id: bytes
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneKeys:
    """Delete answers that have expired. Answer: how many."""

    now: int
    limit: int


KeyCommand = TakeKey | KeepAnswer | FreeKey | PruneKeys


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What an earlier request with the same key was answered."""

    fingerprint: bytes | None
    status: int
    headers: list[tuple[str, str]]
    body: bytes | None


HELD = "held"  # an earlier request with the same key still runs
