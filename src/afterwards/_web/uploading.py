"""Uploads that may come in several requests: how they are made, and what takes their bytes and ends them."""

from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request

from afterwards._domain.files import FileKind
from afterwards._domain.ids import new_id
from afterwards._domain.uploads import Upload, UploadState
from afterwards._engine.clock import boot_id
from afterwards._files.staging import INLINE_BYTES
from afterwards._store.contract import ask
from afterwards._store.upload_commands import Beside, CreateUpload
from afterwards._web.appending import Appending, Body, declared_length
from afterwards._web.finishing import Finishing, Keep
from afterwards._web.holding import Holding
from afterwards.errors import Error

if TYPE_CHECKING:
    from afterwards._web.system import System


class Uploading:
    """The uploads of one installation."""

    def __init__(self, system: "System") -> None:
        self._system = system
        self.holding = Holding(system)
        self.finishing = Finishing(system, self.holding)
        self.appending = Appending(system, self.holding, self.finishing)

    def new(
        self,
        *,
        explicit: bool,
        length: int | None,
        concat: str | None = None,
        metadata: str | None = None,
        name: str | None = None,
        content_type: str | None = None,
        owner: str | None = None,
        digests: dict[str, str | None] | None = None,
    ) -> Upload:
        """Describe an upload that is to be created."""
        now = self._system.engine.clock.now()
        return Upload(
            id=new_id(),
            concat=concat,
            explicit=explicit,
            metadata=metadata,
            name=name,
            content_type=content_type,
            owner=owner,
            digests=digests or {},
            length=length,
            boot=boot_id(),
            created_at=now,
            changed_at=now,
            expires_at=self._system.settings.keep.file_until(FileKind.UPLOAD, now),
        )

    async def create(self, upload: Upload, keep: Keep | None = None) -> Upload:
        """Make an upload known; it is finished at once when it is empty by its length.

        Args:
            upload: Which.
            keep: Makes what is to be stored with it of the answer to its creation.

        Raises:
            WrongDigest, TypeRefused: It is empty and was announced as something else. Nothing is stored.
            QuotaExceeded, KeyLost: Nothing is stored.
        """
        if upload.ends_by_itself:
            return await self.finishing.create_small(upload, b"", keep)
        key = None if keep is None else await keep(upload)
        beside = Beside(quota=self._system.upload_door.quota, key=key)
        await ask(self._system.store, CreateUpload(upload=upload, beside=beside))
        return upload

    async def create_whole(self, upload: Upload, request: Request, body: Body, keep: Keep | None) -> Upload | None:
        """Store an upload that comes whole with this request; None, and nothing is read, where it is not small.

        Nobody knows its id before it is stored, so nothing is kept of one that does not come whole.
        """
        declared = declared_length(request.scope)
        if declared is None or declared > INLINE_BYTES or declared != upload.length or upload.concat is not None:
            return None
        content = await self.appending.collect(request, declared, body.checks)
        return await self.finishing.create_small(upload, content, keep)

    async def create_unnamed(self, upload: Upload) -> Upload:
        """Make an upload known whose id its client does not learn before it is whole; it ends with this process."""
        return await self.create(msgspec.structs.replace(upload, worker=self._system.engine.worker))

    async def append_or_fail(self, upload: Upload, request: Request, body: Body) -> Upload:
        """Add what comes to such an upload; where it does not come whole, nothing is left."""
        try:
            return await self.appending.append(upload, request, body)
        except Error:
            await self.holding.fail(upload)
            raise
        except BaseException:  # cancelled, or an error nobody foresaw: there may be no time to wait
            self.holding.fail_later(upload)
            raise

    async def settled(self, id: str) -> Upload:
        """Return an upload that nobody writes any more: whoever did is stopped, and what has come is on record.

        Raises:
            UnknownUpload, UploadGone: There is none.
            UploadBusy: Whoever writes it does not let go.
        """
        upload = await self.holding.find(id)
        if upload.state is UploadState.FINISHED:
            return upload
        async with self.holding.hold(id, create=False) as held:
            if held.part is None:
                await self.holding.fence(id)  # a small body may be on its way into memory
            if held.upload.ends_by_itself:  # a crash came between its last byte and its end
                return await self.finishing.finish(held)
            return held.upload
