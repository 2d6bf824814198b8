"""Lets a form name a finished upload where an endpoint takes a file: `file=UPLOAD-ID` instead of the bytes.

The endpoint is given an `UploadFile` over the stored file: name, size, type and bytes are those of the upload, and it
cannot be written. A task that takes it takes the stored file, without a copy. Any other text in such a field is left
as it came, for FastAPI to complain about.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from afterwards._domain.files import FILE_GRACE, Verdict
from afterwards._domain.ids import is_id
from afterwards._domain.uploads import UploadState
from afterwards._files.pending import PendingFile
from afterwards._files.stored import StoredFile
from afterwards._store.contract import ask
from afterwards._store.upload_commands import KeepFile
from afterwards._web.handing import as_upload, settle_as

if TYPE_CHECKING:
    from afterwards._web.injection import Handler
    from afterwards._web.system import System


def resolved(handler: "Handler", fields: frozenset[str], system: "System") -> "Handler":
    """Let the forms that a handler is given name uploads in these fields."""

    async def answer(request: Request) -> Response:
        inner = request.form

        def form(**limits: Any) -> Any:
            return _Reading(request, inner(**limits), fields, system)

        request.form = form  # type: ignore[method-assign]
        return await handler(request)

    return answer


class _Reading:
    """What `request.form()` returns: awaited it gives the form, entered it closes the form at its end."""

    __slots__ = ("_fields", "_form", "_inner", "_request", "_system")

    def __init__(self, request: Request, inner: Any, fields: frozenset[str], system: "System") -> None:
        self._request = request
        self._inner = inner
        self._fields = fields
        self._system = system

    def __await__(self) -> Generator[Any, None, FormData]:
        return self._read().__await__()

    async def _read(self) -> FormData:
        form: FormData = await self._inner
        named = [value for name, value in form.multi_items() if name in self._fields and _names_upload(value)]
        if not named:
            return form
        opened: list[UploadFile] = []
        items: list[tuple[str, str | UploadFile]] = []
        try:
            for name, value in form.multi_items():
                if name in self._fields and isinstance(value, str) and is_id(value):
                    value = await _open(value, name, self._system)
                    opened.append(value)
                items.append((name, value))
        except BaseException:
            for one in opened:
                one.file.close()
            raise
        self._request._form = FormData(items)
        return self._request._form

    async def __aenter__(self) -> FormData:
        self._form = await self
        return self._form

    async def __aexit__(self, *_: object) -> None:
        await self._form.close()


def _names_upload(value: str | UploadFile) -> bool:
    return isinstance(value, str) and is_id(value)


async def _open(id: str, field: str, system: "System") -> UploadFile:
    """Open the stored file of a finished upload.

    Raises:
        HTTPException: There is none, or nobody may have it; the detail says why.
    """
    read = system.engine.read
    upload = await read(system.store.upload, id)
    where = f"The field {field} names upload {id}, "
    if upload is None:
        raise HTTPException(404, f"{where}and there is none. Upload the file again.")
    if upload.state is UploadState.OPEN:
        said = "a part of another" if upload.is_partial else f"{upload.offset} of {upload.length or 'its'} bytes"
        raise HTTPException(409, f"{where}which is not finished ({said}). Finish it, then send this form again.")
    now = system.engine.clock.now()
    row = await read(system.store.file, id) if upload.state is UploadState.FINISHED else None
    if row is not None and row.kept_until < now + FILE_GRACE:
        kept = await ask(system.store, KeepFile(id=id, until=now + FILE_GRACE))  # until its task is stored
        row = row if kept else None
    if row is None:
        raise HTTPException(410, f"{where}which was {upload.state} and is gone. Upload the file again.")
    if row.verdict is Verdict.HELD:
        raise HTTPException(409, f"{where}which has not been scanned yet. Send this form again in a moment.")
    if row.verdict is Verdict.INFECTED:
        raise HTTPException(422, f"{where}in which a scanner found something harmful. Nobody is given it.")
    stored = msgspec.convert(row, StoredFile, from_attributes=True)
    found = as_upload(stored, await read(stored.open, system.root))
    settle_as(found, PendingFile.of_stored(stored))
    return found
