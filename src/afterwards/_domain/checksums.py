"""Checksums that clients send with bytes: by the names of tus (`sha1`) and of RFC 9530 (`sha-256`).

Fed block by block, from whatever thread the bytes come on.
"""

import hashlib
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from blake3 import blake3


class Hash(Protocol):
    """Takes bytes in order."""

    def update(self, data: Any, /) -> object:
        """Take the next bytes."""
        ...

    def digest(self) -> bytes:
        """Return the checksum of all bytes so far."""
        ...


class _Crc32:
    """The CRC of zip and PNG, as four bytes in network order."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Any, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_TUS: dict[str, Callable[[], Hash]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "crc32": _Crc32,
    "blake3": blake3,
}
_FIELDS: dict[str, Callable[[], Hash]] = {  # of RFC 9530
    "sha-256": hashlib.sha256,
    "sha-512": hashlib.sha512,
    "sha": _TUS["sha1"],
    "md5": _TUS["md5"],
}
TUS_ALGORITHMS = tuple(_TUS)
FIELD_ALGORITHMS = tuple(_FIELDS)
_SIZES = {name: len(make().digest()) for name, make in (_TUS | _FIELDS).items()}


def new_hash(algorithm: str) -> Hash:
    """Return an empty hash of one of the algorithms above."""
    return (_TUS | _FIELDS)[algorithm]()


def fits(algorithm: str, value: str) -> bool:
    """Tell whether a text is the base64 of a checksum of this algorithm."""
    try:
        return len(b64decode(value, validate=True)) == _SIZES[algorithm]
    except ValueError:
        return False


def as_text(hash: Hash) -> str:
    """Return a checksum as it is written in headers."""
    return b64encode(hash.digest()).decode()


class Hashes:
    """Several checksums of the same bytes."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashes = {name: new_hash(name) for name in algorithms}
        self.size = 0  # bytes so far

    def update(self, data: Any) -> None:
        """Take the next bytes."""
        for hash in self._hashes.values():
            hash.update(data)
        self.size += len(data)

    def covers(self, algorithms: Iterable[str], size: int) -> bool:
        """Tell whether all of these are known, of so many bytes."""
        return self.size == size and all(name in self._hashes for name in algorithms)

    def __getitem__(self, algorithm: str) -> Hash:
        return self._hashes[algorithm]
