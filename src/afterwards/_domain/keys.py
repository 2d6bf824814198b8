"""Idempotency keys: how a client's is read, whose it is, and when two requests are the same.

After draft-ietf-httpapi-idempotency-key-header-07, whose value is a string in quotes; the same characters without
quotes, as many clients send them, are the same key.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

from blake3 import blake3

from afterwards._domain.attempts import SECOND
from afterwards.errors import InvalidKey

LONGEST = 255  # characters
KEPT = 86_400 * SECOND  # how long an answer is kept, counted from when it was given

_QUOTED = re.compile(
    rb'"((?:[^"\\]|\\["\\])*)"[ \t]*(?:;.*)?'
)  # RFC 8941; parameters are allowed and mean nothing here
_PRINTABLE = re.compile(rb"[\x20-\x7e]*")


def read_key(values: Sequence[bytes]) -> bytes:
    """Return the key that the fields of a request's header name.

    Raises:
        InvalidKey: There are several, or it is empty, too long, or has characters that a key cannot have.
    """
    if len(values) > 1:
        raise InvalidKey(problem=f"is there {len(values)} times", longest=LONGEST)
    value = values[0].strip(b" \t")
    if not _PRINTABLE.fullmatch(value):
        raise InvalidKey(problem="has characters other than printable ASCII", longest=LONGEST)
    if value.startswith(b'"'):
        quoted = _QUOTED.fullmatch(value)
        if quoted is None:
            raise InvalidKey(problem="begins with a quote and is not a string in quotes", longest=LONGEST)
        value = re.sub(rb'\\(["\\])', rb"\1", quoted[1])
    if not value:
        raise InvalidKey(problem="is empty", longest=LONGEST)
    if len(value) > LONGEST:
        raise InvalidKey(problem=f"has {len(value):,} characters", longest=LONGEST)
    return value


def key_id(key: bytes, *, caller: bytes, route: str, secret: bytes) -> bytes:
    """Return what a key is stored by: another one for each caller and route, from which neither can be guessed."""
    digest = hashlib.blake2b(b"idempotency key\n", key=secret, digest_size=32)
    for part in (caller, route.encode("utf-8", "surrogateescape"), key):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def fingerprint(*parts: str | bytes) -> bytes:
    """Return a digest of what makes a request this one and no other: the same parts in the same order."""
    digest = blake3()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()


class BodyDigest:
    """A digest of a body as it comes by. The boundary of a multipart body may be any: each try has its own."""

    def __init__(self, boundary: bytes = b"") -> None:
        self._hash = blake3()
        self._mark = b"--" + boundary if boundary else b""
        self._rest = b""  # what may be the beginning of a mark

    def update(self, data: bytes) -> None:
        """Take in what comes next."""
        if not self._mark:
            self._hash.update(data)
            return
        *ended, last = (self._rest + data).split(self._mark)
        for piece in ended:
            self._hash.update(piece)
            self._hash.update(_MARK)
        sure = max(0, len(last) - len(self._mark) + 1)
        self._hash.update(last[:sure])
        self._rest = last[sure:]

    def digest(self) -> bytes:
        """Return the digest of all that came; nothing may come after it."""
        self._hash.update(self._rest)
        self._rest = b""
        return self._hash.digest()


_MARK = b"\x00afterwards boundary\x00"


def form_parts(items: Iterable[tuple[str, str | tuple[str, ...]]]) -> list[str]:
    """Write a form down so that different forms differ: each field as its name, its kind and its values."""
    written: list[str] = []
    for name, value in items:
        parts = ("text", value) if isinstance(value, str) else ("file", *value)
        written += [name, str(len(parts)), *parts]
    return written
