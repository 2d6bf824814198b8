"""An upload that may come in several requests: what it is, and what may happen to it next."""

from enum import StrEnum

import msgspec

from afterwards._domain.attempts import SECOND
from afterwards._domain.files import Verdict

REMEMBERED = 7 * 24 * 3600 * SECOND  # microseconds for which one that is over is answered with 410 instead of 404

PARTIAL = "partial"  # `Upload-Concat` of a part that another upload will be made of


class UploadState(StrEnum):
    """How far an upload got. Every state but OPEN is final."""

    OPEN = "open"  # takes bytes; what has come is in its part file
    FINISHED = "finished"  # its bytes are a stored file of the same id
    JOINED = "joined"  # a part whose bytes are in another upload now
    EXPIRED = "expired"  # nothing came for too long, or its file was not kept any longer
    TERMINATED = "terminated"  # by its client
    FAILED = "failed"  # its client contradicted itself, or bytes of it were lost


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """One upload, as its row says."""

    id: str  # of its file too
    state: UploadState = UploadState.OPEN
    concat: str | None = None  # `Upload-Concat` as the client sent it
    explicit: bool  # it ends when the client says so; False: when its length is reached
    metadata: str | None = None  # `Upload-Metadata` as the client sent it
    name: str | None = None  # what the client called it; shown, never used as a path
    content_type: str | None = None
    owner: str | None = None  # whose limits it counts for
    digests: dict[str, str | None] = {}  # algorithm: what the whole must have, in base64; None: only to be told
    length: int | None = None  # None: not known yet
    offset: int = 0  # so many bytes are on stable storage
    boot: str  # the start of the machine in which the offset last grew
    writer: int = 0  # the fence: grows with each request that takes the upload from another
    worker: str | None = None  # only a request of this one knows of it, so that it ends with that at the latest
    created_at: int
    changed_at: int
    expires_at: int | None = None  # UTC microseconds
    verdict: Verdict | None = None  # of a scanner, on its file
    kept_until: int | None = None  # its file goes then; None: it has none, or tasks have it

    @property
    def is_partial(self) -> bool:
        """Whether it is a part that another upload will be made of."""
        return self.concat == PARTIAL

    @property
    def is_complete(self) -> bool:
        """Whether nothing more can come."""
        return self.state is UploadState.FINISHED or (self.is_partial and self.offset == self.length)

    @property
    def until(self) -> int | None:
        """When it goes, with its file; None: when the last task that has its file does."""
        return self.kept_until if self.state is UploadState.FINISHED else self.expires_at

    @property
    def ends_by_itself(self) -> bool:
        """Whether its last byte has come and it only has to be stored."""
        return (
            self.state is UploadState.OPEN and self.offset == self.length and not self.explicit and not self.is_partial
        )


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with the part file of an upload that nobody writes at the moment."""

    size: int  # cut it to this
    sync: bool  # and bring it onto stable storage, because it holds more than its row knows of


def after_interruption(upload: Upload, *, size: int, boot: str, checked: bool) -> Kept | None:
    """Decide which bytes of a part file count; None when some that were promised are missing.

    While the machine runs, what a dead process wrote is there: it is synced and counts. After a restart only what the
    row knows of is sure. What was to be compared with a checksum and never was does not count.

    Args:
        upload: Its row.
        size: Of the part file.
        boot: This start of the machine.
        checked: The bytes beyond the offset were to be compared with a checksum.
    """
    if size < upload.offset:
        return None
    if boot != upload.boot or checked or size == upload.offset:
        return Kept(size=upload.offset, sync=False)
    end = size if upload.length is None else min(size, upload.length)
    return Kept(size=end, sync=end > upload.offset)
