"""Finds uploads, and takes one from whoever writes it at the moment.

Of the requests that want to write one upload, in any process, one holds the kernel's lock on its part file. Another
takes over: it says so in the upload's row (the fence), whoever has the lock looks there several times a second, stores
what has come and lets go. Nobody waits for a lock on the event loop, and nobody writes without it.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from afterwards._domain.files import FileKind
from afterwards._domain.uploads import Upload, UploadState, after_interruption
from afterwards._engine.clock import boot_id
from afterwards._files.parts import Part, remove_part
from afterwards._files.pools import Pool
from afterwards._files.sweep import remove
from afterwards._store.contract import CallbackReply, ask
from afterwards._store.upload_commands import AdvanceUpload, EndUpload, FenceUpload
from afterwards._web.leaving import is_stopping
from afterwards.errors import QuotaExceeded, StorageFull, TakenOver
from afterwards.errors.uploads import UnknownUpload, UploadBusy, UploadGone

if TYPE_CHECKING:
    from afterwards._web.system import System

log = logging.getLogger("afterwards")

T = TypeVar("T")
LOOK = 0.25  # seconds between looks at whether another process takes over
TRY = 0.01  # seconds between tries of a lock
AGAIN = 1.0  # seconds after which whoever holds an upload is told again to let go
PATIENCE = 10.0  # seconds in which whoever holds an upload must have stored what has come


@dataclass(slots=True)
class Held:
    """An upload that nobody else can write."""

    upload: Upload
    part: Part | None  # None: no byte of it has come


class Holding:
    """The uploads of one installation, as this process sees them."""

    def __init__(self, system: "System") -> None:
        self._system = system
        self._writing: dict[str, threading.Event] = {}  # by requests of this process: set to end them
        self._threads = Pool("uploads", 8)
        self._long = Pool("finishing", 4)

    async def on_thread(
        self, call: Callable[..., T], *args: object, unwanted: Callable[[T], object] | None = None
    ) -> T:
        """Make a call that may wait for the disk; see `on_long_thread`, and `ended` for what is `unwanted`."""
        return await self._threads.run(call, *args, unwanted=unwanted)

    async def on_long_thread(self, call: Callable[..., T], *args: object) -> T:
        """Make a call that reads or copies whole files, so that it keeps no short one waiting.

        It has come to its end when this returns or raises, also when the request is cancelled: files can be closed.
        """
        return await self._long.run(call, *args)

    def later(self, call: Callable[..., object], *args: object) -> None:
        """Make such a call while nobody waits for it."""
        self._threads.soon(call, *args)

    async def find(self, id: str) -> Upload:
        """Return an upload that is open or finished.

        Raises:
            UnknownUpload, UploadGone: There is none.
        """
        system = self._system
        upload = await system.engine.read(system.store.upload, id)
        if upload is None:
            raise UnknownUpload(upload=id)
        if upload.state is UploadState.OPEN and (upload.expires_at or 0) <= system.engine.clock.now():
            raise UploadGone(upload=id, state=UploadState.EXPIRED, at=upload.expires_at or 0)
        if upload.state not in (UploadState.OPEN, UploadState.FINISHED):
            raise UploadGone(upload=id, state=upload.state, at=upload.changed_at)
        return upload

    def is_written(self, id: str) -> bool:
        """Tell whether a request of this process writes an upload."""
        return id in self._writing

    @contextmanager
    def writing(self, upload: Upload, stop: threading.Event) -> Iterator[None]:
        """Let the request that holds an upload hear, by `stop`, that it must let go."""
        self._writing[upload.id] = stop
        watching = asyncio.ensure_future(self._watch(upload, stop))
        try:
            yield
        finally:
            watching.cancel()
            if self._writing.get(upload.id) is stop:
                del self._writing[upload.id]

    async def _watch(self, upload: Upload, stop: threading.Event) -> None:
        system = self._system
        while not stop.is_set():
            await asyncio.sleep(LOOK)
            if system.stopping or is_stopping(system.engine):
                stop.set()
                return
            try:
                row = await system.engine.read(system.store.upload, upload.id)
            except Exception:  # a read that fails now may work in a moment, and every write is fenced
                log.exception("upload %s could not be looked at", upload.id)
                continue
            if row is None or row.state is not UploadState.OPEN or row.writer != upload.writer:
                stop.set()

    async def fence(self, id: str) -> None:
        """Let nobody who writes an upload now record anything more."""
        if (stop := self._writing.get(id)) is not None:
            stop.set()
        await ask(self._system.store, FenceUpload(id))

    @asynccontextmanager
    async def hold(self, id: str, *, create: bool) -> AsyncIterator[Held]:
        """Take an upload from whoever writes it; it is settled then: its row knows of all bytes that count.

        Args:
            id: Which.
            create: Make its part file if there is none.

        Raises:
            UnknownUpload, UploadGone: There is none, or it ended meanwhile.
            UploadBusy: Whoever writes it does not let go.
        """
        part = await self._lock(id, create=create)
        held: Held | None = None
        try:
            upload = await self.find(id)
            if part is None and upload.offset and _is_open(upload):
                await self.fail(upload)  # its bytes are gone
                upload = await self.find(id)
            held = Held(upload, part)
            if part is not None and _is_open(upload):
                held.upload = await self._settle(upload, part)
            yield held
        finally:
            if held is not None:
                part = held.part  # None: somebody else closes it
            if part is not None:
                part.close()

    async def _lock(self, id: str, *, create: bool) -> Part | None:
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        fenced = 0.0
        while True:
            upload = await self.find(id)
            part = await self.on_thread(self._open, upload, create and _is_open(upload), unwanted=_close)
            if part is None:
                return None
            try:
                while not part.lock():
                    if loop.time() - fenced > AGAIN:  # a third may have come between
                        fenced = loop.time()
                        await self.fence(id)
                    if loop.time() > end:
                        raise UploadBusy(upload=id, seconds=PATIENCE)
                    await asyncio.sleep(TRY)
                if part.is_there:
                    return part
            except BaseException:
                part.close()
                raise
            part.close()  # the upload has ended meanwhile

    def _open(self, upload: Upload, create: bool) -> Part | None:
        return Part.open(upload.id, self._system.root, create=create, named=upload.offset > 0)

    async def _settle(self, upload: Upload, part: Part) -> Upload:
        """Find out what an interrupted request left, and put it on record."""
        checked = part.is_checked
        kept = after_interruption(upload, size=part.size, boot=boot_id(), checked=checked)
        if kept is None:
            await self.fail(upload)
            return await self.find(upload.id)

        def cut_and_sync() -> None:
            part.cut(kept.size)
            if checked:
                part.end_check()
            if kept.sync:
                part.sync()

        if kept.sync or checked or part.size > kept.size:
            await self.on_thread(cut_and_sync)
        if not kept.sync:
            return upload
        try:
            return await self.keep(upload, part, kept.size)
        except QuotaExceeded:
            return await self.find(upload.id)

    async def keep(self, upload: Upload, part: Part, offset: int, length: int | None = None) -> Upload:
        """Put on record how many bytes are on stable storage, or forget those for which a quota leaves no room.

        Raises:
            UnknownUpload, UploadGone, TakenOver: As `advance`.
            QuotaExceeded: They were forgotten.
        """
        try:
            return await self.advance(upload, offset, length)
        except QuotaExceeded:
            row = await self.find(upload.id)
            await self.on_thread(part.cut, row.offset)
            raise

    async def advance(self, upload: Upload, offset: int, length: int | None = None) -> Upload:
        """Put on record how many bytes are on stable storage; return the upload as it is then.

        Raises:
            UnknownUpload, UploadGone: It ended meanwhile.
            TakenOver: Another request has it now.
            QuotaExceeded: Its owner has no room for more.
        """
        command = self.advancing(upload, offset, length)
        if await ask(self._system.store, command):
            return msgspec.structs.replace(
                upload,
                offset=offset,
                length=command.length if upload.length is None else upload.length,
                boot=command.boot,
                changed_at=command.now,
                expires_at=command.expires_at,
            )
        await self.find(upload.id)
        raise TakenOver(received=offset - upload.offset)

    def advancing(self, upload: Upload, offset: int, length: int | None) -> AdvanceUpload:
        """Say what a row will know once this is stored."""
        now = self._system.engine.clock.now()
        return AdvanceUpload(
            id=upload.id,
            writer=upload.writer,
            offset=offset,
            boot=boot_id(),
            length=length,
            now=now,
            expires_at=self._system.settings.keep.file_until(FileKind.UPLOAD, now),
            quota=self._system.upload_door.quota if upload.length is None else None,
        )

    async def fail(self, upload: Upload) -> None:
        """End an upload that can never be finished, and free its room."""
        await self._end(upload.id, UploadState.FAILED)

    def fail_later(self, upload: Upload) -> None:
        """Do that while nobody waits for it. Where the store cannot, the upload ends with this process, or expires."""

        def ended(freed: Any) -> None:
            if isinstance(freed, BaseException):
                log.warning("upload %s, which was cut off, could not be ended: %s", upload.id, freed)
            else:
                self.later(self._free, upload.id, freed)

        now = self._system.engine.clock.now()
        command = EndUpload(id=upload.id, state=UploadState.FAILED, now=now)
        self._system.store.submit(command, CallbackReply(ended))

    async def terminate(self, id: str) -> None:
        """End an upload, finished or not, and free its room, unless a task has its file.

        Where the disk is too full to say so, the bytes of an unfinished one go first. Should its row still say then
        that it is open, whoever asks is told that it is over, because its bytes are gone.

        Raises:
            UnknownUpload, UploadGone: There is none.
            StorageFull: There is no room even to say that it is over.
        """
        upload = await self.find(id)
        if (stop := self._writing.get(id)) is not None:
            stop.set()
        try:
            await self._end(id, UploadState.TERMINATED)
        except StorageFull:
            if not _is_open(upload):  # a row without its file must not be
                raise
            await self.on_thread(remove_part, id, self._system.root)
            await self._end(id, UploadState.TERMINATED)

    async def _end(self, id: str, state: UploadState) -> None:
        system = self._system
        now = system.engine.clock.now()
        freed: bool | None = await ask(system.store, EndUpload(id=id, state=state, now=now))
        await self.on_thread(self._free, id, freed)

    def _free(self, id: str, freed: bool | None) -> None:
        root = self._system.root
        remove_part(id, root)
        try:
            remove([id] if freed else [], root)
        except OSError as error:
            log.warning("the file of upload %s, which is over, cannot be removed now: %s", id, error)


def _close(part: Part | None) -> None:
    if part is not None:
        part.close()


def _is_open(upload: Upload) -> bool:
    return upload.state is UploadState.OPEN
