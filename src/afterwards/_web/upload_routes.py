"""The routes of uploads that come in several requests: tus 1.0.0 and the IETF's drafts on the same addresses.

What the protocols have in common is in `uploading.py`. A HEAD, and a GET by a client of a protocol, ends a request that
still writes the upload, because the offset it tells must hold; any other GET only looks.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from afterwards._domain import upload_headers as headers
from afterwards._domain.uploads import Upload, UploadState
from afterwards._store.keys import KeepAnswer
from afterwards._web import upload_answers as answers
from afterwards._web import upload_requests as requests
from afterwards._web.access import Access
from afterwards._web.appending import Body, declared_length
from afterwards._web.keys import Slot
from afterwards._web.routing import Answers, Routing, content, refusal
from afterwards._web.system import System
from afterwards._web.upload_requests import Append, Creation, Protocol
from afterwards._web.upload_rules import Entry, creation_guards, owner_of
from afterwards.errors import HTTP_STATUS, ClientLeft, Error, TakenOver
from afterwards.errors.uploads import BadUploadHeader, WrongLength

log = logging.getLogger("afterwards")

Work = Callable[["_Asked"], Awaitable[Response]]


class _Asked:
    """A request, and what has been found out about its upload, for an answer that says what went wrong."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.upload: Upload | None = None
        self.location: str | None = None


class UploadRoutes:
    """The answers of one installation."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def create(self, request: Request) -> Response:
        """Create an upload, with its first bytes, all of them, or none."""
        return await self._answer(request, self._create)

    async def append(self, id: str, request: Request) -> Response:
        """Add bytes to an upload at its offset."""
        return await self._answer(request, lambda asked: self._append(id, asked))

    async def offset(self, id: str, request: Request) -> Response:
        """Tell how many bytes of an upload are stored; a request that still sends some is ended."""
        return await self._answer(request, lambda asked: self._offset(id, asked))

    async def show(self, id: str, request: Request) -> Response:
        """Show an upload."""
        return await self._answer(request, lambda asked: self._show(id, asked))

    async def terminate(self, id: str, request: Request) -> Response:
        """End an upload and free its room; a task that has its file keeps it."""
        return await self._answer(request, lambda asked: self._terminate(id, asked))

    async def options(self, request: Request) -> Response:
        """Tell which protocols, extensions and checksums are known here, and the limits."""
        return Response(status_code=204, headers=answers.server(self._system.upload_door.max_size))

    async def overridden(self, id: str, request: Request) -> Response:
        """Do what `X-HTTP-Method-Override` says, for clients that can only POST."""
        methods = {"PATCH": self.append, "DELETE": self.terminate, "HEAD": self.offset}
        method = methods.get(request.headers.get(requests.METHOD_OVERRIDE, "").strip().upper())
        if method is not None:
            return await method(id, request)

        async def refuse(asked: _Asked) -> Response:
            raise BadUploadHeader(
                "POST creates uploads at the address above this one; here, send PATCH, HEAD or DELETE."
            )

        return await self._answer(request, refuse)

    # -- each

    async def _create(self, asked: _Asked) -> Response:
        request, system = asked.request, self._system
        wanted = requests.creation(request)
        owner = owner_of(request)
        async with system.keys.answered(request, lambda: requests.fingerprint_of(request), owner) as (slot, replayed):
            if replayed is not None:
                return replayed
            door = system.upload_door
            if wanted.parts:
                entry = door.admit_join()
            else:
                coming = declared_length(request.scope) or 0
                entry = await door.admit_creation(
                    wanted.length, coming=coming, name=wanted.name, kind=wanted.content_type, owner=owner
                )
            with entry:
                return await self._create_as(wanted, owner, entry, slot, asked)

    async def _create_as(
        self, wanted: Creation, owner: str | None, entry: Entry, slot: Slot, asked: _Asked
    ) -> Response:
        request, uploading = asked.request, self._system.uploading
        upload = uploading.new(
            explicit=wanted.protocol is not Protocol.TUS,
            length=wanted.length,
            concat=wanted.concat,
            metadata=wanted.metadata,
            name=wanted.name,
            content_type=wanted.content_type,
            owner=owner,
            digests=wanted.digests,
        )
        location = f"{self._base(request)}/uploads/{upload.id}"

        async def kept(upload: Upload) -> KeepAnswer | None:
            return await slot.part(self._created(upload, wanted, location, asked))

        keep = kept if slot.is_held else None

        if wanted.parts:
            done = await uploading.finishing.join(upload, list(wanted.parts), keep)
            slot.kept()
            return self._created(done, wanted, location, asked)
        body = Body(
            offset=0,
            length=wanted.length,
            ends=wanted.ends,
            checks=wanted.checks,
            arrived=entry.arrived,
            progress=self._progress(request, wanted.interop),
        )
        whole = wanted.has_body or (wanted.ends is True)
        coming = declared_length(request.scope) or 0
        if whole and wanted.ends is not False and body.progress is None:
            small = await uploading.create_whole(upload, request, body, keep)
            if small is not None:
                slot.kept()
                return self._created(small, wanted, location, asked)
            if wanted.ends:  # its client cannot learn the address before the answer
                upload = await uploading.create_unnamed(upload)
                entry.counted(coming)
                done = await uploading.append_or_fail(upload, request, replace(body, keep=keep))
                slot.kept()
                return self._created(done, wanted, location, asked)
        upload = asked.upload = await uploading.create(upload, keep)
        slot.kept()
        asked.location = location
        entry.counted(coming)
        if upload.state is UploadState.OPEN and whole:
            if body.progress is not None:
                found = {"location": location, "upload-limit": self._limit(upload)}
                await _interim(request, wanted.interop, found)
            upload = await uploading.appending.append(upload, request, body)
        return self._created(upload, wanted, location, asked)

    def _created(self, upload: Upload, wanted: Creation, location: str, asked: _Asked) -> Response:
        asked.upload = upload
        found = self._state(upload, wanted.interop) | {"Location": location}
        if wanted.protocol is Protocol.TUS or not upload.is_complete:
            return Response(status_code=201, headers=found)
        return self._document(upload, asked.request, 201, found)

    async def _append(self, id: str, asked: _Asked) -> Response:
        request, uploading = asked.request, self._system.uploading
        wanted = requests.append(request)
        upload = asked.upload = await uploading.holding.find(id)
        length = wanted.length if upload.length is None else upload.length
        coming = declared_length(request.scope) or 0
        with await self._system.upload_door.admit_more(upload, length, coming) as entry:
            body = Body(
                offset=wanted.offset,
                length=wanted.length,
                ends=wanted.ends,
                checks=wanted.checks,
                arrived=entry.arrived,
                progress=self._progress(request, wanted.interop),
            )
            try:
                upload = asked.upload = await uploading.appending.append(upload, request, body)
            except WrongLength:
                if wanted.protocol is Protocol.IETF and upload.state is UploadState.OPEN:
                    await uploading.holding.fail(upload)  # the drafts want it so: nobody knows any more what is right
                raise
        return self._appended(upload, wanted, asked)

    def _appended(self, upload: Upload, wanted: Append, asked: _Asked) -> Response:
        found = self._state(upload, wanted.interop)
        if wanted.protocol is Protocol.TUS or not upload.is_complete:
            return Response(status_code=204, headers=found)
        return self._document(upload, asked.request, 200, found)

    async def _offset(self, id: str, asked: _Asked) -> Response:
        if "tus-resumable" in asked.request.headers:
            requests.check_version(asked.request)
        upload = await self._system.uploading.settled(id)
        return Response(status_code=204, headers=self._state(upload, requests.interop(asked.request)))

    async def _show(self, id: str, asked: _Asked) -> Response:
        uploading, request = self._system.uploading, asked.request
        upload = await (uploading.settled(id) if requests.speaks(request) else uploading.holding.find(id))
        return self._document(upload, request, 200, self._state(upload, requests.interop(request)))

    async def _terminate(self, id: str, asked: _Asked) -> Response:
        if "tus-resumable" in asked.request.headers:
            requests.check_version(asked.request)
        await self._system.uploading.holding.terminate(id)
        return Response(status_code=204, headers=answers.COMMON)

    # -- common to them

    async def _answer(self, request: Request, work: Work) -> Response:
        asked = _Asked(request)
        try:
            return await work(asked)
        except Error as error:
            status = HTTP_STATUS[error.code]
            if isinstance(error, ClientLeft | TakenOver):
                log.info("%s %s: %s", request.method, request.url.path, error)
            elif status >= 500:
                log.error("%s %s could not be answered: %s", request.method, request.url.path, error)
            answer = answers.refused(
                error,
                request.url.path,
                hide=self._system.hidden_folder,
                upload=asked.upload,
                max_size=self._system.upload_door.max_size,
            )
            if asked.location is not None:
                answer.headers["Location"] = asked.location
            return answer

    def _base(self, request: Request) -> str:
        return self._system.base(request.scope)

    def _limit(self, upload: Upload) -> str:
        max_size = self._system.upload_door.max_size
        return answers.limits(max_size, expires_at=upload.until, now=self._system.engine.clock.now())

    def _state(self, upload: Upload, interop: int | None) -> dict[str, str]:
        old = interop is not None and interop <= headers.OLD_NAME_INTEROP
        found = answers.state(upload, limit=self._limit(upload), old=old)
        known = [f"{name}=:{value}:" for name, value in upload.digests.items() if value is not None]
        if known and upload.state is UploadState.FINISHED:
            found["Repr-Digest"] = ", ".join(known)
        return found

    def _document(self, upload: Upload, request: Request, status: int, found: dict[str, str]) -> Response:
        return Response(answers.document(upload, self._base(request)), status, found, "application/json")

    def _progress(self, request: Request, interop: int | None) -> Callable[[int], None] | None:
        """Return what sends interim answers with the offset, where server and client have them."""
        if interop is None or _interim_of(request) is None:
            return None
        sending: set[asyncio.Task[None]] = set()

        def tell(offset: int) -> None:
            task = asyncio.ensure_future(_interim(request, interop, {"upload-offset": str(offset)}))
            sending.add(task)
            task.add_done_callback(sending.discard)

        return tell


def _interim_of(request: Request) -> Any:
    return (request.scope.get("extensions") or {}).get("afterwards.interim")


async def _interim(request: Request, interop: int | None, found: dict[str, str]) -> None:
    found = {**found, "upload-draft-interop-version": str(interop)}
    await _interim_of(request)(104, [(name.encode(), value.encode("latin-1")) for name, value in found.items()])


def add_upload_routes(app: FastAPI, system: System, access: Access, *, docs: bool) -> None:
    """Add the routes to an application, before its own."""
    routing = Routing(app, system, access.guard(), docs=docs)
    routes = UploadRoutes(system)
    settings, before = system.admitting.settings, system.admitting.settings.before
    nothing = refusal("A parameter means nothing here.")
    gone: Answers = {404: refusal("No upload has this id."), 410: refusal("It is over."), 422: nothing}
    bad: Answers = {400: refusal("A header means nothing here."), 412: refusal("Another version of tus is wanted.")}
    created: Answers = {201: {"description": "Created; `Location` is where it goes on."}, 403: refusal("Not allowed.")}
    room: Answers = {
        413: refusal("It is too large, or its owner has no room for it."),
        415: refusal("Its type, or that of the request, is not taken here."),
        429: refusal("It would fit, but others that are on their way need the room."),
        507: refusal("There is no room."),
    }
    keyed: Answers = {409: refusal("An earlier request with its Idempotency-Key still runs."), 422: nothing}
    stored: Answers = {
        200: content("The upload, complete.", answers.UploadDocument),
        204: {"description": "Stored; `Upload-Offset` says how far."},
        409: refusal("Its offset is another one."),
        460: refusal("The bytes do not have the checksum that came with them."),
    }
    shown: Answers = {200: content("The upload.", answers.UploadDocument)}
    done: Answers = {204: {"description": "Done."}}
    one = "/uploads/{id}"
    with routing.first():
        add = routing.add
        add(
            "/uploads",
            routes.create,
            "Create an upload",
            {**created, **bad, **room, **keyed},
            method="POST",
            status=201,
            guards=creation_guards(settings, access),
            bodies=True,
        )
        add("/uploads", routes.options, "Tell how uploads are taken", done, method="OPTIONS", status=204)
        add(
            one,
            routes.append,
            "Add bytes to an upload",
            {**stored, **gone, **bad, **room},
            method="PATCH",
            guards=before,
            bodies=True,
        )
        add(one, routes.offset, "Tell the offset of an upload", {**done, **gone}, method="HEAD", status=204)
        add(one, routes.show, "Show an upload", {**shown, **gone})
        add(one, routes.terminate, "End an upload", {**done, **gone}, method="DELETE", status=204)
        add(one, routes.options, "Tell how uploads are taken", done, method="OPTIONS", status=204)
        told = "Do what X-HTTP-Method-Override says"
        add(one, routes.overridden, told, {**stored, **gone, **bad, **room}, method="POST", guards=before, bodies=True)
