"""Takes the bytes of one request into an upload, and stores what has come whatever ends the request.

What is small and comes whole is collected in memory and committed with its rows: neither a file nor a lock is needed,
because the fence and the state of the row let one of several win.
"""

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from afterwards._domain.checksums import Hashes, as_text
from afterwards._domain.uploads import Upload, UploadState
from afterwards._files.incoming import Incoming
from afterwards._files.parts import Part
from afterwards._files.sniffing import START
from afterwards._files.staging import INLINE_BYTES
from afterwards._store.contract import CallbackReply
from afterwards._web.bodies import INLINE, content_length, drain
from afterwards._web.finishing import Finishing, Keep, algorithms
from afterwards._web.holding import Held, Holding
from afterwards._web.leaving import is_stopping
from afterwards.errors import BodyTooLarge, Error, QuotaExceeded, Stopped, StorageFull, TakenOver, TypeRefused
from afterwards.errors.uploads import (
    FinalUpload,
    UploadEnded,
    WrongChecksum,
    WrongDigest,
    WrongLength,
    WrongOffset,
)

if TYPE_CHECKING:
    from afterwards._web.system import System

log = logging.getLogger("afterwards")

REMEMBERED = 256  # uploads whose digests so far stay in memory; others are read again at their end


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A checksum that came with the bytes of one request."""

    header: str
    algorithm: str
    value: str  # in base64


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a request says about the bytes in its body."""

    offset: int  # where they begin
    length: int | None = None  # of the whole upload, if it says so
    ends: bool | None = None  # they are the last ones; None: once the length is reached
    checks: tuple[Check, ...] = ()
    arrived: Callable[[Any], None] | None = None  # told of each block, on a thread, before it is written
    keep: Keep | None = None  # makes what is to be stored of the answer to a creation, with the end of the upload
    progress: Callable[[int], None] | None = None  # called on the event loop with what is on stable storage


class Appending:
    """Receives bytes for the uploads of one installation."""

    def __init__(self, system: "System", holding: Holding, finishing: Finishing) -> None:
        self._system = system
        self._holding = holding
        self._finishing = finishing
        self._hashes: OrderedDict[str, Hashes] = OrderedDict()  # of uploads that came in order, through this process

    async def append(self, upload: Upload, request: Request, body: Body) -> Upload:
        """Add the body of a request to an upload; return the upload as it is then.

        Raises:
            UploadError: The request does not fit the upload, and nothing of it was read; or a checksum does not fit,
                and nothing of it was kept.
            Error: The request came to an early end, or the disk did; what has come is kept.
        """
        declared = declared_length(request.scope)
        if upload.state is UploadState.FINISHED:
            check_length(upload, body, declared)
            return upload
        if _is_small(upload, body, declared):
            length = body.length if upload.length is None else upload.length
            check_length(upload, body, declared)
            return await self._append_small(upload, request, body, length if length is not None else declared or 0)
        async with self._holding.hold(upload.id, create=declared != 0) as held:
            check_length(held.upload, body, declared)
            return await self._append(held, request, body)

    async def collect(self, request: Request, limit: int, checks: tuple[Check, ...]) -> bytes:
        """Return a small body, compared with its checksums.

        Raises:
            WrongChecksum, WrongDigest: It has others.
            Error: It came to an early end.
        """
        content = bytearray()
        await drain(request, content.extend, limit=limit, inline=INLINE)
        if checks:
            hashes = Hashes(check.algorithm for check in checks)
            hashes.update(content)
            compare(hashes, checks, 0)
        return bytes(content)

    async def _append_small(self, upload: Upload, request: Request, body: Body, length: int) -> Upload:
        content = bytearray()
        stop = threading.Event()
        try:
            with self._holding.writing(upload, stop):
                await drain(request, content.extend, limit=length, stop=stop, inline=INLINE)
        except Error:
            if content and not body.checks and not stop.is_set():
                await self._keep(upload, bytes(content))
            raise
        if body.checks:
            hashes = Hashes(check.algorithm for check in body.checks)
            hashes.update(content)
            compare(hashes, body.checks, 0)
        return await self._finishing.finish_small(upload, bytes(content), body.keep)

    async def _keep(self, upload: Upload, content: bytes) -> None:
        """Store the beginning of what was to come whole."""
        async with self._holding.hold(upload.id, create=True) as held:
            part = held.part
            if part is None or held.upload.offset or held.upload.writer != upload.writer:
                return  # another request has gone on, or was told that nothing had come

            def write() -> int:
                incoming = Incoming(part, 0, hashes=None, check=None, told=None)
                incoming.write(content)
                return incoming.end()

            await self._holding.keep(held.upload, part, await self._holding.on_thread(write))

    async def _append(self, held: Held, request: Request, body: Body) -> Upload:
        upload, part = held.upload, held.part
        if upload.state is UploadState.FINISHED:
            return upload
        if upload.length is None and body.length is not None:  # a quota may leave no room for it
            upload = held.upload = await self._holding.advance(upload, upload.offset, body.length)
        most = self._system.upload_door.max_size if upload.length is None else upload.length
        if part is not None:
            await self._receive(held, part, request, body, most)
            upload = held.upload
        else:
            await drain(request, bytes, limit=0)
        ends = upload.offset == upload.length if body.ends is None else body.ends
        if not ends or upload.is_partial:
            return upload
        if upload.length is not None and upload.offset != upload.length:
            raise WrongLength(
                f"upload {upload.id} was to have {upload.length:,} bytes, and its client says that it ends after "
                f"{upload.offset:,}. Send the rest of it, or begin a new one."
            )
        return await self._finishing.finish(held, self._hashes.pop(upload.id, None), body.keep)

    async def _receive(self, held: Held, part: Part, request: Request, body: Body, most: int | None) -> None:
        upload, holding = held.upload, self._holding
        start = upload.offset
        check = Hashes(one.algorithm for one in body.checks) if body.checks else None
        hashes = self._known(upload)
        stop = threading.Event()
        told = None if check is not None else partial(self._told, upload, body, asyncio.get_running_loop(), stop)
        incoming = Incoming(part, start, hashes=hashes, check=check, told=told)
        write = await self._judging(upload, part, body, incoming.write)
        failure: Error | None = None
        if check is not None:
            await holding.on_thread(part.begin_check)
        try:
            with holding.writing(upload, stop):
                try:
                    limit = None if most is None else most - start
                    await drain(request, write, limit=limit, stop=stop)
                except Error as error:
                    failure = error
        except BaseException:  # cancelled: what came is stored without us, and counts when somebody asks again
            held.part = None
            holding.later(_abandon, incoming, part, check is not None)
            raise
        if isinstance(failure, TypeRefused | BodyTooLarge):
            await holding.on_thread(incoming.give_up)
        if isinstance(failure, TypeRefused):
            await holding.fail(upload)
            raise failure
        if isinstance(failure, BodyTooLarge):
            await holding.fail(upload)
            if upload.length is None and most is not None:
                self._system.upload_door.check_size(None, upload.name, at_least=most + 1)
            raise WrongLength(
                f"upload {upload.id} has at most {most:,} bytes, and more came. It was given up. Begin a new one, with "
                "the length that it really has."
            ) from failure
        offset = await holding.on_thread(_end, incoming, part, failure, body.checks, start)
        if hashes is not None and hashes.size == offset:
            self._remember(upload.id, hashes)
        if offset > start:
            held.upload = await holding.keep(upload, part, offset)
        if check is not None:
            await holding.on_thread(part.end_check)
        if failure is not None:
            raise self._told_well(failure, held.upload) from failure

    def _told(
        self, upload: Upload, body: Body, loop: asyncio.AbstractEventLoop, stop: threading.Event, offset: int
    ) -> None:
        """Put on record, from a thread, what is on stable storage so far."""

        def answered(answer: Any) -> None:
            if answer is False or isinstance(answer, QuotaExceeded):  # the last word is that of the end
                stop.set()
            elif isinstance(answer, BaseException):  # it is only not promised yet
                log.warning("the progress of upload %s could not be stored: %s", upload.id, answer)
            elif body.progress is not None:
                try:
                    loop.call_soon_threadsafe(body.progress, offset)
                except RuntimeError:  # the server has ended
                    pass

        self._system.store.submit(self._holding.advancing(upload, offset, None), CallbackReply(answered))

    async def _judging(
        self, upload: Upload, part: Part, body: Body, write: Callable[[Any], None]
    ) -> Callable[[Any], None]:
        """Return a `write` that first has the bytes counted, and the type judged as soon as it can be known."""
        door, arrived = self._system.upload_door, body.arrived
        judges = door.judges_types and not upload.is_partial and upload.offset < START
        if not judges and arrived is None:
            return write
        before = await self._holding.on_thread(part.read_start, upload.offset) if judges and upload.offset else b""
        begin = bytearray(before)

        def judged(block: Any) -> None:
            if arrived is not None:
                arrived(block)
            if judges and len(begin) < START:
                begin.extend(memoryview(block).cast("B")[: START - len(begin)])
                if len(begin) >= START:
                    door.judge(upload, bytes(begin))
            write(block)

        return judged

    def _told_well(self, failure: Error, upload: Upload) -> Error:
        """Say of a failure what it means for an upload that can go on."""
        if isinstance(failure, TakenOver) and (self._system.stopping or is_stopping(self._system.engine)):
            return Stopped(
                f"the program is stopping. {upload.offset:,} bytes of upload {upload.id} are stored; go on from there "
                "in a moment."
            )
        if isinstance(failure, StorageFull):
            return StorageFull(
                f"there is no room for more of upload {upload.id}. {upload.offset:,} bytes of it are stored; go on "
                "from there once there is room."
            )
        return failure

    def _known(self, upload: Upload) -> Hashes | None:
        """Return the digests of an upload so far, if they are known; whoever goes on with it feeds them."""
        known = self._hashes.pop(upload.id, None)
        if known is None and upload.offset == 0:
            return Hashes(algorithms(upload))
        return known if known is not None and known.covers(algorithms(upload), upload.offset) else None

    def _remember(self, id: str, hashes: Hashes) -> None:
        self._hashes[id] = hashes
        while len(self._hashes) > REMEMBERED:
            self._hashes.popitem(last=False)


def declared_length(scope: Any) -> int | None:
    """Return how many bytes the body of a request has, as far as its headers say so."""
    declared = content_length(scope)
    if declared is None and scope["http_version"].startswith("1"):
        return None if any(name == b"transfer-encoding" for name, _ in scope["headers"]) else 0
    return declared


def check_length(upload: Upload, body: Body, declared: int | None) -> None:
    """See, before anything is read, that a request fits its upload.

    Raises:
        UploadError: It does not.
    """
    if upload.concat is not None and not upload.is_partial:
        raise FinalUpload(f"upload {upload.id} was made of others and takes no bytes of its own.")
    if body.offset != upload.offset:
        raise WrongOffset(upload=upload.id, offset=upload.offset, given=body.offset)
    if upload.state is UploadState.FINISHED and declared != 0:
        raise UploadEnded(f"upload {upload.id} is complete with {upload.offset:,} bytes and takes nothing more.")
    if body.length is not None and upload.length is not None and body.length != upload.length:
        raise WrongLength(
            f"upload {upload.id} was announced with {upload.length:,} bytes, and now with {body.length:,}. The length "
            "of an upload never changes."
        )
    length = body.length if upload.length is None else upload.length
    end = None if declared is None else upload.offset + declared
    if length is not None and length < upload.offset:
        raise WrongLength(f"upload {upload.id} has {upload.offset:,} bytes already, more than the {length:,} now told.")
    if length is not None and end is not None and (end > length or (body.ends is True and end != length)):
        raise WrongLength(
            f"upload {upload.id} has {length:,} bytes, and with the {declared:,} of this request it would end at "
            f"{end:,}. Send what is missing and no more."
        )


def compare(hashes: Hashes, checks: tuple[Check, ...], offset: int) -> None:
    """See that the bytes of a request are those that were sent.

    Raises:
        WrongChecksum, WrongDigest: They are not; the second where the header is of RFC 9530.
    """
    for check in checks:
        found = as_text(hashes[check.algorithm])
        if found == check.value:
            continue
        if check.header == "Upload-Checksum":
            raise WrongChecksum(algorithm=check.algorithm, given=check.value, found=found, offset=offset)
        raise WrongDigest(
            what="the content of this request",
            algorithm=check.algorithm,
            given=check.value,
            found=found,
            remedy=f"None of it was kept: send it again from byte {offset} on.",
        )


def _is_small(upload: Upload, body: Body, declared: int | None) -> bool:
    """Tell whether the whole of an upload comes now, and fits into its row."""
    length = body.length if upload.length is None else upload.length
    whole = declared is not None and (declared == length or (length is None and body.ends is True))
    return (
        whole
        and body.ends is not False
        and body.offset == upload.offset == 0
        and upload.concat is None
        and (declared or 0) <= INLINE_BYTES
    )


def _end(incoming: Incoming, part: Part, failure: Error | None, checks: tuple[Check, ...], start: int) -> int:
    """Store what has come, or forget it where it is not what was sent."""
    if not checks:
        return incoming.end()
    try:
        if failure is not None or incoming.check is None:
            incoming.give_up()
            part.cut(start)  # nobody can tell whether these bytes are right
            return start
        compare(incoming.check, checks, start)
        return incoming.end()
    except Error:
        incoming.give_up()
        part.cut(start)
        part.end_check()
        raise


def _abandon(incoming: Incoming, part: Part, checked: bool) -> None:
    try:
        if checked:
            incoming.give_up()
        else:
            incoming.end()
    except Error as error:
        log.error("what had come of an upload could not be stored: %s", error)
    finally:
        part.close()
