"""Brings uploads to a task and back: handed on without a copy, opened again equal.

What was received by `_web/receiving.py` is kept as it lies; an upload that came from elsewhere is copied when its task
is stored. What closes files is left as it is: the form does, and a file nobody knows any more is gone by itself.
"""

import io
from typing import Any, BinaryIO, cast

from starlette.datastructures import Headers, UploadFile

from afterwards._domain.values import INLINE_BYTES
from afterwards._files.pending import Copied, PendingFile, Source
from afterwards._files.spool import Spool
from afterwards._files.staging import StagedFile, Staging
from afterwards._files.stored import StoredFile
from afterwards.errors import UnstorableArgument

_KEPT = "_afterwards_kept"  # on an UploadFile: its PendingFile


def keep(value: object, staging: Staging, *, function: str, argument: str) -> PendingFile | None:
    """Take hold of an upload, or of bytes too many for a row, for one task; None for any other value.

    Nothing is read, written or copied here. The same UploadFile gives the same file until that is stored, and ever
    after when it is one we received. The caller owes one `release`.

    Raises:
        UnstorableArgument: The upload is closed, or is not a binary file that can be read from its start.
    """
    if isinstance(value, UploadFile):
        kept = _kept(value, staging, function, argument)
    elif isinstance(value, bytes | bytearray) and len(value) > INLINE_BYTES:
        kept = PendingFile(Copied(io.BytesIO(value), staging), name=None, content_type=None, headers=())
    else:
        return None
    kept.hold()
    return kept


def settle_as(upload: UploadFile, pending: PendingFile) -> None:
    """Let every task that is given this upload take this file."""
    setattr(upload, _KEPT, pending)


def _kept(upload: UploadFile, staging: Staging, function: str, argument: str) -> PendingFile:
    known = getattr(upload, _KEPT, None)
    ours = isinstance(upload.file, Spool | StagedFile) and upload.file.root == staging.root
    if isinstance(known, PendingFile) and (known.held or known.stored) and (ours or known.lasting or not known.stored):
        return known
    _check(upload, function, argument)
    source: Source = cast(Source, upload.file) if ours else Copied(upload.file, staging)
    pending = PendingFile(
        source,
        name=upload.filename,
        content_type=upload.content_type,
        headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in upload.headers.raw),
    )
    setattr(upload, _KEPT, pending)
    return pending


def _check(upload: UploadFile, function: str, argument: str) -> None:
    file: Any = upload.file
    if getattr(file, "closed", False):
        problem = "whose file is closed already"
        remedy = "Call add_task before closing it."
    elif isinstance(file, io.TextIOBase) or not (hasattr(file, "read") and hasattr(file, "tell")):
        problem = f"made over a {type(file).__name__}, which does not give bytes"
        remedy = "Make it over a file opened in binary mode, or over io.BytesIO."
    elif not getattr(file, "seekable", lambda: hasattr(file, "seek"))():
        problem = f"made over a {type(file).__name__}, which cannot be read from its start"
        remedy = "Copy it into a temporary file first."
    else:
        return
    raise UnstorableArgument(
        function=function,
        argument=argument,
        type=f"the upload {upload.filename!r}",
        reason=problem,
        remedy=remedy,
    )


def as_upload(stored: StoredFile, file: BinaryIO) -> UploadFile:
    """Return a stored file that was opened as an upload: name, size, content type and headers as they came.

    It can be read on any event loop and without one, and it cannot be written. The caller closes it.
    """
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in stored.headers]
    return UploadFile(file, size=stored.size, filename=stored.name, headers=Headers(raw=raw))
