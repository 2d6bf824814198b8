"""Turns uploads whose last byte has come into stored files, of which tasks can be made.

The bytes are on stable storage under the file's name before the rows say so, and both rows are written in one
transaction. Until then the upload is still whole: whoever asks again after a crash in between finds it finished, or
finishes it.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from afterwards._domain.checksums import Hashes, as_text
from afterwards._domain.files import FileKind
from afterwards._domain.uploads import Upload, UploadState
from afterwards._files.joining import append
from afterwards._files.parts import Part, remove_part
from afterwards._files.staging import INLINE_BYTES
from afterwards._files.stored import StoredFile
from afterwards._files.sweep import remove
from afterwards._store.contract import ask
from afterwards._store.upload_commands import CreateUpload, FinishUpload, JoinUploads
from afterwards._web.holding import Held, Holding
from afterwards.errors import TakenOver
from afterwards.errors.uploads import UnfinishedUpload, WrongDigest

if TYPE_CHECKING:
    from afterwards._web.system import System

log = logging.getLogger("afterwards")


class _Ready(NamedTuple):
    """What can be committed."""

    file: StoredFile
    digests: dict[str, str]  # those that the client announced or wants to be told


class Finishing:
    """Ends uploads of one installation well."""

    def __init__(self, system: "System", holding: Holding) -> None:
        self._system = system
        self._holding = holding

    async def finish(self, held: Held, hashes: Hashes | None = None) -> Upload:
        """Store what a held upload has as its file. Its length is its offset.

        Args:
            held: The upload, settled.
            hashes: What is known of its bytes; they are read again where that is not enough.

        Raises:
            WrongDigest: It is not what its client announced. The upload has failed.
            StorageFull, StorageUnsure: It is not stored yet; asking again tries again.
        """
        upload, part = held.upload, held.part
        if part is None:
            return await self.finish_small(upload, b"")

        def prepare() -> _Ready:
            known = hashes
            if known is None or not known.covers(algorithms(upload), upload.offset):
                known = Hashes(algorithms(upload))
                part.read_into(known)
            small = part.read_all() if upload.offset <= INLINE_BYTES else None
            ready = self._file(upload, known, small)
            if small is None:
                part.store()
            return ready

        ready = await self._checked(upload, prepare)
        done = await self._commit(upload, ready, offset=None)
        await self._holding.on_thread(remove_part, upload.id, self._system.root)
        return done

    async def finish_small(self, upload: Upload, content: bytes) -> Upload:
        """Store the whole of an upload of which no byte has been written anywhere.

        Raises:
            WrongDigest: As `finish`.
            TakenOver: Another request has it now.
        """
        ready = await self._checked(upload, lambda: self._small(upload, content))
        return await self._commit(upload, ready, offset=0)

    async def create_small(self, upload: Upload, content: bytes) -> Upload:
        """Store an upload that came whole with the request that creates it.

        Raises:
            WrongDigest: It is not what its client announced, and nothing is stored.
        """
        ready = self._small(upload, content)
        done = _finished(upload, ready)
        await ask(self._system.store, CreateUpload(upload=done, file=ready.file))
        return done

    async def join(self, upload: Upload, ids: Sequence[str]) -> Upload:
        """Make one upload of others, in this order; they end with that.

        Raises:
            UnfinishedUpload: One of them is not complete, or is no part.
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

            def prepare() -> _Ready:
                target = Part.open(upload.id, system.root)
                assert target is not None
                try:
                    at = 0
                    for id in ids:
                        source, size = parts[id].part, parts[id].upload.offset
                        if source is not None:
                            append(target, at, source, size)
                        at += size
                    hashes = Hashes(algorithms(upload))
                    target.read_into(hashes)
                    small = target.read_all() if at <= INLINE_BYTES else None
                    ready = self._file(upload, hashes, small)
                    if small is None:
                        target.store()
                    return ready
                except BaseException:
                    target.remove()
                    raise
                finally:
                    target.close()

            ready = await holding.on_long_thread(prepare)
            upload = _finished(upload, ready)
            joined = await ask(system.store, JoinUploads(upload=upload, file=ready.file, parts=tuple(parts)))

            def clear() -> None:
                for id in (upload.id, *parts):
                    self._clear(id)

            await holding.on_thread(clear)
        if not joined:
            raise UnfinishedUpload("one of the parts has ended or was used for another upload meanwhile")
        return upload

    async def _checked(self, upload: Upload, prepare: Callable[[], _Ready]) -> _Ready:
        try:
            return await self._holding.on_long_thread(prepare)
        except WrongDigest:
            await self._holding.fail(upload)
            raise

    async def _commit(self, upload: Upload, ready: _Ready, *, offset: int | None) -> Upload:
        now = self._system.engine.clock.now()
        command = FinishUpload(id=upload.id, writer=upload.writer, offset=offset, file=ready.file, now=now)
        if await ask(self._system.store, command):
            return _finished(upload, ready)
        await self._holding.on_thread(self._clear, upload.id)
        await self._holding.find(upload.id)
        raise TakenOver(received=0)

    def _clear(self, id: str) -> None:
        """Remove what the rows say nobody needs. Only after a commit that was refused for sure."""
        system = self._system
        row = system.store.upload(id)
        if row is None or row.state is not UploadState.OPEN:
            remove_part(id, system.root)
        if row is not None and row.state is not UploadState.FINISHED and not system.store.known_files([id]):
            remove([id], system.root)

    def _small(self, upload: Upload, content: bytes) -> _Ready:
        hashes = Hashes(algorithms(upload))
        hashes.update(content)
        return self._file(upload, hashes, content)

    def _file(self, upload: Upload, hashes: Hashes, content: bytes | None) -> _Ready:
        """Describe the stored file, after comparing what the client announced.

        Raises:
            WrongDigest: The bytes are others.
        """
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
            owner=upload.owner,
            kept_until=self._system.engine.clock.now() + self._system.upload_rules.finished,
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
    )
