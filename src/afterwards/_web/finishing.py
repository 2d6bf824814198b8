"""Turns uploads whose last byte has come into stored files, of which tasks can be made.

The bytes are on stable storage under the file's name before the rows say so, and both rows are written in one
transaction, with the scan that the file waits for where the program has a scanner. Until then the upload is still
whole: whoever asks again after a crash in between finds it finished, or finishes it.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from afterwards._domain.checksums import Hashes, as_text
from afterwards._domain.files import FileKind, Verdict
from afterwards._domain.uploads import Upload, UploadState
from afterwards._files import promises
from afterwards._files.disk import honest_errors
from afterwards._files.joining import append
from afterwards._files.parts import Part, part_path, remove_part
from afterwards._files.sniffing import START, sniff
from afterwards._files.staging import INLINE_BYTES
from afterwards._files.stored import StoredFile
from afterwards._files.sweep import remove
from afterwards._store.contract import ask
from afterwards._store.keys import KeepAnswer
from afterwards._store.upload_commands import Beside, CreateUpload, FinishUpload, JoinUploads
from afterwards._web.holding import Held, Holding
from afterwards._web.storing import NOT_STORED
from afterwards.errors import TakenOver, TypeRefused
from afterwards.errors.uploads import UnfinishedUpload, WrongDigest

if TYPE_CHECKING:
    from afterwards._web.system import System

log = logging.getLogger("afterwards")

Keep = Callable[[Upload], Awaitable[KeepAnswer | None]]  # makes what is stored of the answer about a finished upload


class _Ready(NamedTuple):
    """What can be committed."""

    file: StoredFile
    digests: dict[str, str]  # those that the client announced or wants to be told


class Finishing:
    """Ends uploads of one installation well."""

    def __init__(self, system: "System", holding: Holding) -> None:
        self._system = system
        self._holding = holding

    async def finish(self, held: Held, hashes: Hashes | None = None, keep: Keep | None = None) -> Upload:
        """Store what a held upload has as its file. Its length is its offset.

        Args:
            held: The upload, settled.
            hashes: What is known of its bytes; they are read again where that is not enough.
            keep: Makes what is to be stored with it of the answer to its creation.

        Raises:
            WrongDigest, TypeRefused: It is not what its client announced, or not taken. The upload has failed.
            StorageFull, StorageUnsure: It is not stored yet; asking again tries again.
        """
        upload, part = held.upload, held.part
        if part is None:
            return await self.finish_small(upload, b"", keep)

        def prepare() -> _Ready:
            known = hashes
            if known is None or not known.covers(algorithms(upload), upload.offset):
                known = Hashes(algorithms(upload))
                part.read_into(known)
            small = part.read_all() if upload.offset <= INLINE_BYTES else None
            ready = self._file(upload, known, small, part.read_start(START))
            if small is None:
                part.store()
            return ready

        ready = await self._checked(upload, prepare)
        done = await self._commit(upload, ready, keep, offset=None)
        await self._holding.on_thread(remove_part, upload.id, self._system.root)
        return done

    async def finish_small(self, upload: Upload, content: bytes, keep: Keep | None = None) -> Upload:
        """Store the whole of an upload of which no byte has been written anywhere.

        Raises:
            WrongDigest, TypeRefused: As `finish`.
            QuotaExceeded: Nobody knew its length before, and there is no room for it. It stays open, without a byte.
            TakenOver: Another request has it now.
        """
        ready = await self._checked(upload, lambda: self._small(upload, content))
        done = await self._commit(upload, ready, keep, offset=0)
        if os.path.lexists(part_path(upload.id, self._system.root)):  # of a request that was killed with its process
            await self._holding.on_thread(remove_part, upload.id, self._system.root)
        return done

    async def create_small(self, upload: Upload, content: bytes, keep: Keep | None) -> Upload:
        """Store an upload that came whole with the request that creates it.

        Raises:
            WrongDigest, TypeRefused: It is not what its client announced, or not taken, and nothing is stored.
            QuotaExceeded, KeyLost: Nothing is stored.
        """
        ready = self._small(upload, content)
        done = _finished(upload, ready)
        beside = await self._beside(done, keep)
        await ask(self._system.store, CreateUpload(upload=done, file=ready.file, beside=beside))
        self._stored(beside)
        return done

    async def join(self, upload: Upload, ids: Sequence[str], keep: Keep | None) -> Upload:
        """Make one upload of others, in this order; they end with that.

        Raises:
            UnfinishedUpload: One of them is not complete, or is no part.
            UploadTooLarge, TypeRefused, QuotaExceeded, KeyLost: Nothing is stored, and the parts are as before.
            StorageFull, StorageUnsure: Nothing is stored, and the parts are as before.
        """
        system, holding = self._system, self._holding
        async with AsyncExitStack() as stack:
            parts: dict[str, Held] = {}
            for id in sorted(set(ids)):  # in one order, so that two such requests do not wait for each other
                held = await stack.enter_async_context(holding.hold(id, create=False))
                if not (held.upload.is_partial and held.upload.is_complete):
                    raise UnfinishedUpload(
                        f"upload {id} has {held.upload.offset} of {held.upload.length or 'an unknown number of'} bytes"
                        if held.upload.is_partial
                        else f"upload {id} was not created with `Upload-Concat: partial`"
                    )
                parts[id] = held
            upload = msgspec.structs.replace(upload, length=sum(parts[id].upload.offset for id in ids))
            system.upload_door.check_size(upload.length, upload.name)

            def forget() -> None:
                self._clear(upload.id)
                promises.end([upload.id])

            def prepare() -> _Ready:
                target = Part.open(upload.id, system.root)
                assert target is not None
                try:
                    at = 0
                    for id in ids:
                        source, size = parts[id].part, parts[id].upload.offset
                        if source is not None:
                            append(target, at, source, size, check=system.upload_door.check_disk)
                        at += size
                    hashes = Hashes(algorithms(upload))
                    target.read_into(hashes)
                    small = target.read_all() if at <= INLINE_BYTES else None
                    ready = self._file(upload, hashes, small, target.read_start(START))
                    if small is None:
                        with honest_errors("storing joined uploads", system.root):
                            promises.promise([upload.id], system.root)  # it has no row yet that an open upload has
                        target.store()
                    return ready
                except BaseException:
                    target.remove()
                    forget()
                    raise
                finally:
                    target.close()

            ready = await holding.on_long_thread(prepare)
            upload = _finished(upload, ready)

            def clear() -> None:
                for id in parts:
                    self._clear(id)
                forget()

            try:
                beside = await self._beside(upload, keep)
                command = JoinUploads(upload=upload, file=ready.file, parts=tuple(parts), beside=beside)
                joined = await ask(system.store, command)
            except NOT_STORED:
                await holding.on_thread(clear)
                raise
            await holding.on_thread(clear)
        if joined:
            self._stored(beside)
        else:
            raise UnfinishedUpload("one of the parts has ended or was used for another upload meanwhile")
        return upload

    async def _checked(self, upload: Upload, prepare: Callable[[], _Ready]) -> _Ready:
        try:
            return await self._holding.on_long_thread(prepare)
        except (WrongDigest, TypeRefused):
            await self._holding.fail(upload)
            raise

    async def _commit(self, upload: Upload, ready: _Ready, keep: Keep | None, *, offset: int | None) -> Upload:
        now = self._system.engine.clock.now()
        done = _finished(upload, ready)
        beside = await self._beside(done, keep)
        command = FinishUpload(
            id=upload.id, writer=upload.writer, offset=offset, file=ready.file, now=now, beside=beside
        )
        if await ask(self._system.store, command):
            self._stored(beside)
            return done
        await self._holding.on_thread(self._clear, upload.id)
        await self._holding.find(upload.id)
        raise TakenOver(received=0)

    async def _beside(self, done: Upload, keep: Keep | None) -> Beside:
        """Say what is stored in one transaction with a finished upload."""
        scanning = self._system.scanning
        return Beside(
            quota=self._system.upload_door.quota,
            scan=None if scanning is None else scanning.of_upload(done.id),
            key=None if keep is None else await keep(done),
        )

    def _stored(self, beside: Beside) -> None:
        if beside.scan is not None:
            self._system.intake.stored(beside.scan)

    def _clear(self, id: str) -> None:
        """Remove what the rows say nobody needs. Only after a commit that was refused for sure."""
        system = self._system
        row = system.store.upload(id)
        if row is None or row.state is not UploadState.OPEN:
            remove_part(id, system.root)
        if (row is None or row.state is not UploadState.FINISHED) and not system.store.known_files([id]):
            remove([id], system.root)

    def _small(self, upload: Upload, content: bytes) -> _Ready:
        hashes = Hashes(algorithms(upload))
        hashes.update(content)
        return self._file(upload, hashes, content, content[:START])

    def _file(self, upload: Upload, hashes: Hashes, content: bytes | None, start: bytes) -> _Ready:
        """Describe the stored file, after comparing what the client announced.

        Raises:
            WrongDigest: The bytes are others.
            TypeRefused: Their type is not taken here.
        """
        self._system.upload_door.judge(upload, start)
        digests = {algorithm: as_text(hashes[algorithm]) for algorithm in upload.digests}
        for algorithm, found in digests.items():
            given = upload.digests[algorithm]
            if given is not None and found != given:
                raise WrongDigest(
                    what=f"upload {upload.id}, {hashes.size:,} bytes long,",
                    algorithm=algorithm,
                    given=given,
                    found=found,
                    remedy="Nothing of it was kept. Send the file again in a new upload.",
                )
        file = StoredFile(
            id=upload.id,
            name=upload.name,
            size=hashes.size,
            content_type=upload.content_type,
            headers=() if upload.content_type is None else (("content-type", upload.content_type),),
            digest=f"blake3:{hashes['blake3'].digest().hex()}",
            content=content,
            kind=FileKind.UPLOAD,
            type=sniff(start, upload.name),
            owner=upload.owner,
            kept_until=self._system.settings.keep.file_until(FileKind.UPLOAD, self._system.engine.clock.now()),
            verdict=None if self._system.scanning is None else Verdict.HELD,
        )
        return _Ready(file, digests)


def algorithms(upload: Upload) -> list[str]:
    """Return the digests that an upload needs at its end."""
    return ["blake3", *upload.digests]


def _finished(upload: Upload, ready: _Ready) -> Upload:
    size = ready.file.size
    return msgspec.structs.replace(
        upload,
        state=UploadState.FINISHED,
        offset=size,
        length=size,
        digests=dict(ready.digests),
        expires_at=None,
        verdict=ready.file.verdict,
        kept_until=ready.file.kept_until,
    )
