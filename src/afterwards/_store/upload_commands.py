"""What a store promises about uploads that come in several requests.

Whoever writes an upload names its `writer`, the fence: one that was taken over changes nothing. The answer False says
that the upload is not open any more, or that somebody else holds it now.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from afterwards._domain.limits import Quota
from afterwards._domain.uploads import Upload, UploadState
from afterwards._store.keys import KeepAnswer

if TYPE_CHECKING:
    from afterwards._store.contract import Accept, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What belongs to the same transaction as an upload's creation or end.

    Where more is counted afterwards than the quota allows, or the key is another request's by now, the answer is
    QuotaExceeded or KeyLost, and nothing is stored.
    """

    quota: Quota | None = None  # that must hold, if more is counted afterwards than before
    scan: "Accept | None" = None  # the task that looks at the file
    key: KeepAnswer | None = None  # what the client is told


NOTHING = Beside()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateUpload:
    """Make an upload known; one that is finished already comes with its file. Answer: None."""

    upload: Upload
    file: "Stored | None" = None
    beside: Beside = NOTHING


@dataclass(frozen=True, slots=True)
class FenceUpload:
    """Take an upload from the request that writes it now. Answer: bool."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceUpload:
    """Record how many bytes are on stable storage. Answer: bool."""

    id: str
    writer: int
    offset: int  # never less than before
    boot: str
    length: int | None  # where it was not known before
    now: int
    expires_at: int
    quota: Quota | None = None  # that must hold if more is counted afterwards than before; else QuotaExceeded


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishUpload:
    """End an upload whose bytes are safe, and store its file's row with that. Answer: bool."""

    id: str
    writer: int
    offset: int | None  # what it must be at, where nobody holds the part file; None: wherever
    file: "Stored"
    now: int
    beside: Beside = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinUploads:
    """Store an upload made of others, which end with that. Answer: bool, False when one of them is not complete."""

    upload: Upload
    file: "Stored"
    parts: tuple[str, ...]
    beside: Beside = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class EndUpload:
    """End an upload early, with its file if no task has that. Answer: True when its bytes can go, else False.

    A finished one can only be terminated. None: it was over before.
    """

    id: str
    state: UploadState
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepFile:
    """Keep a file at least until a time. Answer: bool, False when it is gone."""

    id: str
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireUploads:
    """End uploads to which nothing came for too long, and forget what ended long ago. Answer: the ids of the former."""

    now: int
    limit: int


UploadCommand = (
    CreateUpload | FenceUpload | AdvanceUpload | FinishUpload | JoinUploads | EndUpload | KeepFile | ExpireUploads
)
