"""What `Uploads(...)` says about uploads that come in several requests, and who may create them.

Creating one takes up room, so it is closed by default: it needs the application's own rule, or the admin token, or a
client on this machine that no browser sent here from another site. The id of an upload carries 128 random bits and
opens it for everything else.

Everything that can be decided is decided before a byte of a body is read. An upload on record counts for its owner's
limits, so its bytes are promised nothing but room on the disk; the transaction that records it, or that it grows by,
decides about the limits.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request

from afterwards._domain.limits import Quota
from afterwards._domain.uploads import Upload
from afterwards._engine.ledger import Holding, Ledger
from afterwards._web.access import VARIABLE, Access, Credentials, is_local, is_loopback
from afterwards._web.admission import DISK_LOOK, Admission, clear_owner, shown
from afterwards._web.early import without_body
from afterwards._web.settings import Uploads
from afterwards.errors import DiskTooSmall, StorageFull, UploadTooLarge
from afterwards.errors.uploads import UploadsElsewhere

if TYPE_CHECKING:
    from afterwards._web.system import System

log = logging.getLogger("afterwards")

_OWNER = "afterwards_upload_owner"  # in a request's scope


class Entry:
    """What one request has been promised. Leaving it lets go of that."""

    def __init__(self, ledger: Ledger, holding: Holding, admission: Admission | None = None) -> None:
        self._ledger = ledger
        self._holding = holding
        self._admission = admission
        self._since_look = 0

    def __enter__(self) -> "Entry":
        return self

    def __exit__(self, *_: object) -> None:
        if self._admission is not None:
            self._admission.release()
        self._ledger.let_go(self._holding)

    def counted(self, coming: int) -> None:
        """Take note that the upload is on record and counts by itself; so many bytes of it come with this request.

        Raises:
            StorageFull: There is no room for them any more.
        """
        if self._admission is not None:
            self._admission.release()
        with _discreet():
            self._ledger.take(self._holding, coming)

    def arrived(self, block: Any) -> None:
        """Take note of bytes that are about to be written.

        Raises:
            StorageFull: Others have left no room for them.
        """
        count = len(block)
        self._ledger.wrote(self._holding, count)
        self._since_look += count
        if self._since_look >= DISK_LOOK:
            self._since_look = 0
            self._ledger.check_disk()


class UploadDoor:
    """The rules of one installation."""

    def __init__(self, system: "System", settings: Uploads) -> None:
        self._system = system
        self._limits = replace(settings.limits, max_request=None)  # they come in as many requests as they like
        self._quota = settings.quota

    @property
    def max_size(self) -> int | None:
        """The most bytes of one upload."""
        return self._limits.max_file

    @property
    def quota(self) -> Quota | None:
        """What must hold for all that is stored; None: nothing is limited."""
        return self._quota if self._quota.asks else None

    @property
    def judges_types(self) -> bool:
        """Whether the first bytes of an upload decide about it."""
        return self._limits.asks_for_types

    async def admit_creation(
        self, length: int | None, *, coming: int, name: str | None, kind: str | None, owner: str | None
    ) -> Entry:
        """Decide, before a byte of the body is read, whether an upload may be created.

        Args:
            length: Of the whole upload; None: not known yet.
            coming: The declared bytes of the request.
            name: What the client calls it.
            kind: The media type that the client says it has.
            owner: Whose limits it counts for.

        Raises:
            UploadTooLarge, TypeRefused, QuotaExceeded, UploadsUnderWay, StorageFull: It may not.
        """
        ledger = self._ledger
        self.check_size(length, name, at_least=coming)
        admission = Admission(self._limits, ledger, owner)
        await self._decide(lambda: admission.check_declared(length, form=False, kind=kind))
        return Entry(ledger, Holding(owner, is_counted=True), admission)

    async def admit_more(self, upload: Upload, length: int | None, coming: int) -> Entry:
        """Decide, before a byte of the body is read, whether an upload may go on.

        Args:
            upload: Which.
            length: Of the whole upload, as far as it is known with this request.
            coming: The declared bytes of the request.

        Raises:
            UploadTooLarge, QuotaExceeded, UploadsUnderWay, StorageFull: It may not.
        """
        ledger = self._ledger
        self.check_size(length, upload.name, at_least=upload.offset + coming)
        if upload.length is None and self._quota.asks:
            await self._decide(lambda: self._look(upload, coming if length is None else length - upload.offset))
        entry = Entry(ledger, Holding(upload.owner, is_counted=True))
        entry.counted(coming)
        return entry

    def admit_join(self) -> Entry:
        """Decide whether parts may become one upload. They count already, so only the disk is asked.

        Raises:
            StorageFull: It has no room.
        """
        self.check_disk()
        return Entry(self._ledger, Holding(None, is_counted=True))

    def check_disk(self) -> None:
        """See that the reserve of the disk is free, such as while parts are copied.

        Raises:
            StorageFull: It is not.
        """
        with _discreet():
            self._ledger.check_disk()

    def _look(self, upload: Upload, more: int) -> None:
        """See whether so much more would fit; the transaction that records it decides."""
        holding = Holding(upload.owner)
        try:
            self._ledger.take(holding, max(0, more))
        finally:
            self._ledger.let_go(holding)

    async def _decide(self, decision: Callable[[], object]) -> None:
        with _discreet():
            if self._quota.asks:
                await asyncio.to_thread(decision)  # it looks into the database
            else:
                decision()

    def check_size(self, length: int | None, name: str | None, *, at_least: int = 0) -> None:
        """See that an upload is not too large, as far as that is known.

        Args:
            length: Of the whole; None: not known yet.
            name: What the client calls it.
            at_least: Bytes it has where its length is not known.

        Raises:
            UploadTooLarge: It is.
        """
        if self.max_size is not None and (at_least if length is None else length) > self.max_size:
            what = "the upload" if name is None else f"the upload {shown(name)}"
            size = f"{at_least:,} bytes or more" if length is None else f"{length:,} bytes"
            raise UploadTooLarge(
                f"{what} has {size}, and a file may have at most "
                f"{self.max_size:,} here (max_file). Send a smaller file."
            )

    def judge(self, upload: Upload, start: bytes) -> None:
        """Decide about an upload's type by its first bytes.

        Raises:
            TypeRefused: It is not taken.
        """
        if self.judges_types:
            Admission(self._limits, self._ledger, upload.owner).judge(start, upload.name, upload.content_type)

    @property
    def _ledger(self) -> Ledger:
        ledger = self._system.admitting.ledger
        assert ledger is not None  # our routes start the engine
        return ledger


@contextmanager
def _discreet() -> Iterator[None]:
    """Tell a client that there is no room, and only the log how full which disk is."""
    try:
        yield
    except DiskTooSmall:
        raise
    except StorageFull as error:
        log.error("a part of an upload was refused: %s", error)
        raise StorageFull(
            "There is no room left for this upload. Nothing of this request has been kept. Send it again later."
        ) from error


def owner_of(request: Request) -> str | None:
    """Return whose upload a request creates; None: nobody's."""
    owner: str | None = request.scope.get(_OWNER)
    return owner


def creation_guards(settings: Uploads, access: Access) -> list[Any]:
    """Return the dependencies that run before an upload is created: who may, what the program asks, whose it is."""
    guards = [_creation_guard(settings.allow, access), *settings.before]
    if settings.owner is not None:

        async def name(request: Request, owner: Any = settings.owner) -> None:
            request.scope[_OWNER] = clear_owner(owner, f"{request.method} {request.url.path}")

        guards.append(Depends(name))
    return without_body(guards)


def _creation_guard(allow: Any, access: Access) -> Any:
    """Return the dependency that lets those through who may create uploads."""
    if allow is None:

        async def local(request: Request, credentials: Credentials) -> None:
            if credentials is None and _is_ours(request):
                return
            if not access.is_configured and credentials is None:
                raise UploadsElsewhere(
                    "creating uploads is allowed to clients on the server's own machine only, because this program has "
                    f"not said who else may. Pass Afterwards(app, uploads=Uploads(allow=Depends(...))), or set "
                    f"{VARIABLE} and send it as `Authorization: Bearer TOKEN`."
                )
            await access.check(request, credentials)

        return Depends(local)

    async def check(verdict: Any = allow) -> None:
        if verdict is False:
            raise HTTPException(403, "You may not create uploads here.")

    return Depends(check)


def _is_ours(request: Request) -> bool:
    """Tell whether a request came from this machine, and not from a page of another site in a browser on it."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if not is_local(request) or not (host == "localhost" or is_loopback(host)):
        return False  # a name that leads here for the moment (DNS rebinding) is not ours
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
