"""Uploads that may come in several requests: what the routes of every protocol do with them."""

from typing import TYPE_CHECKING

from starlette.requests import Request

from afterwards._domain.ids import new_id
from afterwards._domain.uploads import Upload, UploadState
from afterwards._engine.clock import boot_id
from afterwards._files.staging import INLINE_BYTES
from afterwards._store.contract import ask
from afterwards._store.upload_commands import CreateUpload
from afterwards._web.appending import Appending, Body, declared_length
from afterwards._web.finishing import Finishing
from afterwards._web.holding import Holding
from afterwards.errors import Error

if TYPE_CHECKING:
    from afterwards._web.system import System


class Uploading:
    """The uploads of one installation."""

    def __init__(self, system: "System") -> None:
        self._system = system
        self.holding = Holding(system)
        self._finishing = Finishing(system, self.holding)
        self._appending = Appending(system, self.holding, self._finishing)

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
            expires_at=now + self._system.upload_rules.unfinished,
        )

    async def create(self, upload: Upload) -> Upload:
        """Make an upload known; it is finished at once when it is empty by its length.

        Raises:
            WrongDigest: It is empty and was announced as something else. Nothing is stored.
        """
        if upload.ends_by_itself:
            return await self._finishing.create_small(upload, b"")
        await ask(self._system.store, CreateUpload(upload=upload))
        return upload

    async def create_whole(self, upload: Upload, request: Request, body: Body) -> Upload | None:
        """Store an upload that comes whole with this request; None, and nothing is read, where it is not small.

        Nobody knows its id before it is stored, so nothing is kept of one that does not come whole.
        """
        declared = declared_length(request.scope)
        if declared is None or declared > INLINE_BYTES or declared != upload.length or upload.concat is not None:
            return None
        content = await self._appending.collect(request, declared, body.checks)
        return await self._finishing.create_small(upload, content)

    async def create_unknown(self, upload: Upload, request: Request, body: Body) -> Upload:
        """Store an upload whose id its client does not learn before it is whole: nothing is left of it otherwise."""
        await ask(self._system.store, CreateUpload(upload=upload))
        try:
            return await self._appending.append(upload, request, body)
        except Error:
            await self.holding.fail(upload)
            raise

    async def append(self, upload: Upload, request: Request, body: Body) -> Upload:
        """Add the body of a request to an upload; see `Appending.append`."""
        return await self._appending.append(upload, request, body)

    async def join(self, upload: Upload, ids: list[str]) -> Upload:
        """Make one upload of others; see `Finishing.join`."""
        return await self._finishing.join(upload, ids)

    async def find(self, id: str) -> Upload:
        """Return an upload as its row says; its bytes may go on coming.

        Raises:
            UnknownUpload, UploadGone: There is none.
        """
        return await self.holding.find(id)

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
                return await self._finishing.finish(held)
            return held.upload

    async def terminate(self, id: str) -> None:
        """End an upload and free its room."""
        await self.holding.terminate(id)
