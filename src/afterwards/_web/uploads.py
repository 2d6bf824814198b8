"""Brings uploads from a form to a task and back: received into staging, handed on without a copy, reopened.

starlette's form parser takes its files from one name, `starlette.formparsers.SpooledTemporaryFile`. `install` puts a
function there which gives a staged file inside a `Reception`, and starlette's own everywhere else, so programs,
routes and requests that are not ours see no change. Whether the name still works so is tried out, not assumed.
What closes files is left as it is: the form does, and a file nobody knows any more is gone by itself. Only where the
handler of a request failed does the `Reception` look after what the parser left open.
"""

import io
import itertools
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any, BinaryIO, cast

import starlette
from starlette import formparsers
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from afterwards._domain.ids import new_id
from afterwards._files.pending import Copied, PendingFile, Source
from afterwards._files.spool import Spool, Waiting
from afterwards._files.staging import INLINE_BYTES, StagedFile, Staging
from afterwards._files.stored import StoredFile
from afterwards.errors import HTTP_STATUS, StorageFull, StorageUnsure, UnstorableArgument, UnsupportedVersion

_NAME = "SpooledTemporaryFile"
_KEPT = "_afterwards_kept"  # on an UploadFile: its PendingFile
_log = logging.getLogger("afterwards")


class Reception:
    """Receives the files of one request into staging, for as long as its handler runs: `with Reception(...)`."""

    __slots__ = ("_active", "_failed", "_on_stack", "_scope", "_spools", "_staging", "_token", "_waiting")

    def __init__(self, staging: Staging, scope: Mapping[str, Any]) -> None:
        self._staging = staging
        self._scope = scope
        self._spools: list[Spool] = []
        self._waiting = Waiting()
        self._active = False
        self._failed = False
        self._on_stack = False
        self._token: Token[Reception | None] | None = None

    @property
    def active(self) -> bool:
        """Whether the handler still runs: what it started may live on with a copy of its context."""
        return self._active

    def open(self) -> Spool:
        """Make the file for one part of the form."""
        if not self._spools:
            # FastAPI's own stack for closing the form. Being on it first, we come last: after the exception
            # handlers, which may read the form, and after the form has closed what it knows of.
            stack = self._scope.get("fastapi_middleware_astack")
            if isinstance(stack, AsyncExitStack):
                stack.callback(self._discard)
                self._on_stack = True
        spool = _ReceivedFile(self._staging, self._waiting)
        self._spools.append(spool)
        return spool

    def __enter__(self) -> "Reception":
        self._active = True
        self._token = receiving.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._active = False
        if self._token is not None:
            receiving.reset(self._token)
        self._failed = error is not None
        if error is None:
            self._spools = []
        else:
            if self._spools and isinstance(error.__cause__ or error, ClientDisconnect):  # FastAPI calls it a bad body
                cut = next(_cuts)
                _log.info(
                    "a client left in the middle of its upload; nothing was kept (%d so far in this process)", cut
                )
            if not self._on_stack:
                self._discard()

    def _discard(self) -> None:
        """After a failure, close what the parser left open: a client that went away, a cancelled request."""
        left = [spool for spool in self._spools if self._failed and not spool.closed]
        self._spools = []
        if left:
            # Removing a large file takes tens of milliseconds, and a cancelled request cannot wait for a thread.
            threading.Thread(target=_close_all, args=(left,), name="afterwards-discard").start()


_cuts = itertools.count(1)
receiving: ContextVar[Reception | None] = ContextVar("afterwards_receiving", default=None)


def _close_all(spools: list[Spool]) -> None:
    for spool in spools:
        spool.close()


class _ReceivedFile(Spool):
    """A spool whose storage errors reach the client: FastAPI calls any other error a mistake in the body."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except (StorageFull, StorageUnsure) as error:
            _log.error("an upload was refused: %s", error)
            raise HTTPException(HTTP_STATUS[error.code], _SORRY[error.code]) from error


_SORRY = {
    StorageFull.code: "There is no room left to store this upload. Nothing of it has been kept. Send it again later.",
    StorageUnsure.code: "This upload could not be stored. Nothing of it has been kept. Send it again later.",
}


def install() -> None:
    """Let the form parser ask us for its files. The first call counts; later ones do nothing.

    Raises:
        UnsupportedVersion: This starlette does not take them from where we looked.
    """
    original = getattr(formparsers, _NAME, None)
    if getattr(original, "is_ours", False):
        return
    reason: Exception | None = None
    if original is not None:
        setattr(formparsers, _NAME, _chooser(original))
        try:
            if _parser_asks_us():
                return
        except Exception as error:  # noqa: BLE001 - whatever an unknown parser does is the reason of the refusal
            reason = error
        setattr(formparsers, _NAME, original)
    raise UnsupportedVersion(
        library="starlette",
        found=starlette.__version__,
        problem=f"its form parser does not make files with starlette.formparsers.{_NAME}, so uploads cannot be stored",
        remedy="Install a FastAPI between 0.121.0 and the newest that this release of Afterwards was tested with.",
    ) from reason


def _chooser(original: Callable[..., Any]) -> Callable[..., Any]:
    def choose(*args: Any, **kwargs: Any) -> Any:
        reception = receiving.get()
        if reception is None or not reception.active:
            return original(*args, **kwargs)
        return reception.open()

    choose.is_ours = True  # type: ignore[attr-defined]
    return choose


def _parser_asks_us() -> bool:
    """Parse a form of one small file and see whether it rests on a spool of ours. Nothing touches the disk."""
    body = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nc\r\n--x--\r\n'

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    headers = Headers({"content-type": "multipart/form-data; boundary=x"})
    with Reception(Staging(Path(), new_id()), {}):
        parsing = formparsers.MultiPartParser(headers, stream()).parse()
        try:
            parsing.send(None)  # small files are received without waiting, so this is all it takes
        except StopIteration as ended:
            upload = ended.value["a"]
            return isinstance(upload.file, Spool) and upload.file.read() == b"c"
        finally:
            parsing.close()
    return False


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


def _kept(upload: UploadFile, staging: Staging, function: str, argument: str) -> PendingFile:
    known = getattr(upload, _KEPT, None)
    ours = isinstance(upload.file, Spool | StagedFile) and upload.file.root == staging.root
    if isinstance(known, PendingFile) and (known.held or known.stored) and (ours or not known.stored):
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


def reopen(stored: StoredFile, root: Path) -> UploadFile:
    """Open a stored upload for a task: name, size, content type and headers as they came, `.file` at its start.

    It can be read on any event loop and without one, and it cannot be written. The caller closes it.

    Raises:
        MissingFile, DamagedFile: See `StoredFile.open`.
    """
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in stored.headers]
    file: BinaryIO = stored.open(root)
    return UploadFile(file, size=stored.size, filename=stored.name, headers=Headers(raw=raw))
