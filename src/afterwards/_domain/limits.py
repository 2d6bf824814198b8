"""What may come in: how large, how many, of which types, and how much may rest here altogether.

Decisions only, every way out a named value. Who asks, when, and what a client is told is for `_web/admission.py`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from afterwards._domain.spoofing import contradicts
from afterwards.errors import QuotaExceeded, UploadsUnderWay

Mismatch = Literal["allow", "refuse"]

MAX_FILES = 1_000  # in one form, as in starlette
FORM = 1 << 20  # bytes that a form may have beside its files before its declared length alone refuses it
RESERVE = 256 << 20  # bytes of a disk that uploads leave free, unless it is small:
SMALL_DISK = 20  # of one with less than twenty times as much, a twentieth is left
RESERVED_FILES = 1_000  # of a file system's inodes; of a small one a twentieth
_PATTERN = re.compile(r"[a-z0-9*][a-z0-9!#$&^_.+-]*/[a-z0-9*][a-z0-9!#$&^_.+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What holds for the files of one request; None is no limit."""

    max_file: int | None = None  # bytes of each file
    max_request: int | None = None  # bytes of the whole body
    max_files: int = MAX_FILES
    accept: tuple[str, ...] | None = None  # media types by their bytes, `image/*` for a family
    deny: tuple[str, ...] = ()
    mismatch: Mismatch = "allow"  # of bytes and what name or client say

    @property
    def asks_for_types(self) -> bool:
        """Tell whether the bytes must be looked at."""
        return self.accept is not None or bool(self.deny) or self.mismatch == "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How much may be stored; None is no limit."""

    max_owner: int | None = None  # bytes of one owner
    max_owner_files: int | None = None
    max_total: int | None = None  # bytes altogether
    max_total_files: int | None = None

    @property
    def asks(self) -> bool:
        """Tell whether anything is limited."""
        return self != _NONE


_NONE = Quota()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """An amount of files: stored, on their way, or asked for."""

    bytes: int = 0
    files: int = 0


NOTHING = Usage()


class Room(StrEnum):
    """Whether an upload fits under a limit."""

    FITS = "fits"
    BUSY = "busy"  # it would, but for other uploads that are on their way
    FULL = "full"  # not beside what is stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a quota says to an upload."""

    room: Room
    setting: str = ""  # the limit in the way, by its name
    limit: int = 0
    stored: int = 0  # what counts against it already


_FITS = Answer(room=Room.FITS)


def ask_quota(
    quota: Quota,
    asked: Usage,
    *,
    total: Usage,
    total_under_way: Usage = NOTHING,
    owner: Usage | None = None,
    owner_under_way: Usage = NOTHING,
) -> Answer:
    """Decide whether an upload may be stored beside what is.

    Args:
        quota: The limits.
        asked: What the upload needs.
        total: What is stored.
        total_under_way: What other uploads have been promised.
        owner: What is stored of the same owner; None when nobody owns the upload.
        owner_under_way: What other uploads of that owner have been promised.
    """
    worst = _FITS
    checks = [
        ("max_total", quota.max_total, total.bytes, total_under_way.bytes, asked.bytes),
        ("max_total_files", quota.max_total_files, total.files, total_under_way.files, asked.files),
    ]
    if owner is not None:
        checks += [
            ("max_owner", quota.max_owner, owner.bytes, owner_under_way.bytes, asked.bytes),
            ("max_owner_files", quota.max_owner_files, owner.files, owner_under_way.files, asked.files),
        ]
    for setting, limit, stored, under_way, wanted in checks:
        if limit is None or stored + under_way + wanted <= limit:
            continue
        room = Room.BUSY if stored + wanted <= limit else Room.FULL
        if worst.room is not Room.FULL:
            worst = Answer(room=room, setting=setting, limit=limit, stored=stored)
    return worst


def refusal(answer: Answer, asked: Usage) -> QuotaExceeded | UploadsUnderWay:
    """Turn what a quota said into the error that says it."""
    counts_files = answer.setting.endswith("_files")
    unit = "files" if counts_files else "bytes"
    wanted = asked.files if counts_files else asked.bytes
    whose = "of yours are" if answer.setting.startswith("max_owner") else "are"
    amount = (
        f"{answer.stored:,} {unit} {whose} stored here, at most {answer.limit:,} may be ({answer.setting}), and this "
        f"upload needs {wanted:,}"
    )
    if answer.room is Room.BUSY:
        return UploadsUnderWay(
            f"{amount}: it would fit, but other uploads that are on their way need the room. Nothing of it has been "
            "kept. Send it again when they have ended."
        )
    return QuotaExceeded(
        f"{amount}. Nothing of it has been kept. Send less, or wait until something that is stored has been removed."
    )


def ask_disk(*, free: int, reserve: int, under_way: int, asked: int) -> Room:
    """Decide whether an upload leaves the reserve of a disk free; all in bytes, or all in inodes."""
    if free - reserve >= under_way + asked:
        return Room.FITS
    return Room.BUSY if free - reserve >= asked else Room.FULL


def default_reserve(size: int, usual: int = RESERVE) -> int:
    """Return how much of a disk of this size, in bytes or inodes, uploads leave free."""
    return min(usual, size // SMALL_DISK)


class TypeVerdict(StrEnum):
    """What the rules say to a file's type."""

    TAKEN = "taken"
    NOT_ACCEPTED = "not accepted"  # it is not among those that are
    DENIED = "denied"
    CONTRADICTED = "contradicted"  # its bytes are not what its sender or its name says


def judge_type(limits: Limits, found: str | None, *, declared: str | None, name: str | None) -> TypeVerdict:
    """Decide on a file by what its bytes are; what its sender and its name say never makes it acceptable.

    Args:
        limits: The rules.
        found: The type its bytes show, None when they show none.
        declared: What the client says it is.
        name: What the client calls it.
    """
    real = found or "application/octet-stream"
    if matches(real, limits.deny):
        return TypeVerdict.DENIED
    if limits.accept is not None and not matches(real, limits.accept):
        return TypeVerdict.NOT_ACCEPTED
    if limits.mismatch == "refuse" and contradicts(found, declared=declared, name=name):
        return TypeVerdict.CONTRADICTED
    return TypeVerdict.TAKEN


def judge_declared(limits: Limits, declared: str | None) -> TypeVerdict:
    """Decide on a file that has not come yet, where its declared type alone says that it will be refused."""
    kind = (declared or "").partition(";")[0].strip().lower()
    if kind in ("", "application/octet-stream", "binary/octet-stream", "application/offset+octet-stream"):
        return TypeVerdict.TAKEN
    if matches(kind, limits.deny):
        return TypeVerdict.DENIED
    if limits.accept is not None and not matches(kind, limits.accept):
        return TypeVerdict.NOT_ACCEPTED
    return TypeVerdict.TAKEN


def matches(kind: str, patterns: Sequence[str]) -> bool:
    """Tell whether a media type is one of those that patterns such as `image/*` name."""
    family = kind.partition("/")[0] + "/*"
    return any(pattern in (kind, family, "*/*") for pattern in patterns)


def is_pattern(text: object) -> bool:
    """Tell whether a text is a media type, `family/*` or `*/*`, in lower case."""
    if not isinstance(text, str) or _PATTERN.fullmatch(text) is None:
        return False
    family, _, kind = text.partition("/")
    return ("*" not in kind or kind == "*") and ("*" not in family or text == "*/*")
