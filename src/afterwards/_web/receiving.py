"""Receives the files of a request into staging: what the request's form gives are uploads that rest there.

FastAPI reads a form with `request.form(...)`, as programs do. For the requests that are ours that one call is answered
here, on the request object itself, so programs, routes and requests that are not ours see no change. Whether FastAPI
still asks so is tried out, not assumed. Closing is left to FastAPI; only where the handler of a request failed does
the `Reception` look after what was left open.
"""

import itertools
import logging
import math
from collections.abc import Generator
from contextlib import AsyncExitStack
from typing import Any

import fastapi
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from afterwards._files.pools import Pool
from afterwards._files.spool import Spool
from afterwards._files.spooled import Memory
from afterwards._files.staging import Staging
from afterwards._web.admission import Admission, Arriving
from afterwards._web.bodies import INLINE, drain
from afterwards._web.forms import MAX_FIELD_BYTES, MAX_FIELDS, MAX_FILES, Form
from afterwards._web.refusing import REFUSALS, refused
from afterwards.errors import ClientLeft, UnsupportedVersion

log = logging.getLogger("afterwards")

_discards = Pool("discard", 2)


class Reception:
    """Receives the files of one request, for as long as its handler runs: `with Reception(...)`."""

    __slots__ = (
        "_active",
        "_admission",
        "_failed",
        "_memory",
        "_on_form",
        "_on_stack",
        "_request",
        "_spools",
        "_staging",
    )

    def __init__(self, staging: Staging, request: Request, admission: Admission | None = None) -> None:
        self._admission = admission
        self._staging = staging
        self._request = request
        self._spools: list[Spool] = []
        self._memory = Memory()
        self._active = False
        self._failed = False
        self._on_form = False  # a form of ours has been begun
        self._on_stack = False

    def open(self) -> Spool:
        """Make the file for one part of the form."""
        kind = Spool if self._admission is None else _Judged
        spool = kind(self._staging, self._memory)
        self._spools.append(spool)
        return spool

    def __enter__(self) -> "Reception":
        self._active = True
        request = self._request
        if type(request).form is Request.form:  # else the program reads forms in a way of its own
            request.form = self.form  # type: ignore[method-assign]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._active = False
        vars(self._request).pop("form", None)  # the two would keep each other until the garbage collector comes by
        self._failed = error is not None
        if error is None:
            self._spools = []
        else:
            if self._on_form and isinstance(error.__cause__ or error, ClientDisconnect):  # FastAPI calls it a bad body
                cut = next(_cuts)
                log.info("a client left in the middle of its upload; nothing was kept (%d so far in this process)", cut)
            if not self._on_stack:
                self._discard()

    def form(
        self, *, max_files: float = MAX_FILES, max_fields: float = MAX_FIELDS, max_part_size: int = MAX_FIELD_BYTES
    ) -> Any:
        """Do what `Request.form` does, the files resting in staging."""
        limits = {"max_files": max_files, "max_fields": max_fields, "max_part_size": max_part_size}
        kind = self._request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not self._active or kind != "multipart/form-data":
            return Request.form(self._request, **limits)  # type: ignore[arg-type]
        return _Reading(self, limits)

    async def read(self, limits: dict[str, Any]) -> FormData:
        """Receive the form, or return it when that has been done."""
        if self._request._form is None:
            self._on_form = True
            self._look_after()
            try:
                self._request._form = await self._receive(limits)
            except BaseException:
                self._discard_all()
                raise
        return self._request._form

    async def _receive(self, limits: dict[str, Any]) -> FormData:
        request, admission = self._request, self._admission
        most = judge = None
        if admission is not None:
            judge = _Judge(admission)
            most = admission.limits.max_request
            if limits["max_files"] == MAX_FILES < admission.limits.max_files:
                limits["max_files"] = math.inf  # the program wants more than starlette takes by itself
        try:
            form = Form(request.headers.get("content-type"), self.open, judge=judge, **limits)
            await drain(request, form.feed, limit=most, inline=INLINE)
            parsed = form.finish()
            if admission is not None:
                admission.done()
            return parsed
        except MultiPartException as error:
            if "app" in request.scope:
                raise HTTPException(400, error.message) from error
            raise
        except REFUSALS as error:
            raise refused(request, error) from error
        except ClientLeft as error:
            raise ClientDisconnect(str(error)) from None

    def _look_after(self) -> None:
        # FastAPI's own stack for closing the form. Being on it first, we come last: after the exception
        # handlers, which may read the form, and after the form has closed what it knows of.
        stack = self._request.scope.get("fastapi_middleware_astack")
        if isinstance(stack, AsyncExitStack) and not self._on_stack:
            stack.callback(self._discard)
            self._on_stack = True

    def _discard(self) -> None:
        if self._failed:
            self._discard_all()

    def _discard_all(self) -> None:
        spools, self._spools = self._spools, []
        for spool in spools:
            if not spool.closed:
                # Removing a large file takes tens of milliseconds, and a cancelled request cannot wait for a thread.
                _discards.soon(spool.close)


class _Reading:
    """What `request.form()` returns: awaited it gives the form, entered it closes the form at its end."""

    __slots__ = ("_form", "_limits", "_reception")

    def __init__(self, reception: Reception, limits: dict[str, Any]) -> None:
        self._reception = reception
        self._limits = limits

    def __await__(self) -> Generator[Any, None, FormData]:
        return self._reception.read(self._limits).__await__()

    async def __aenter__(self) -> FormData:
        self._form = await self
        return self._form

    async def __aexit__(self, *_: object) -> None:
        await self._form.close()


_cuts = itertools.count(1)


class _Judged(Spool):
    """A spool whose bytes are judged as they arrive; afterwards its program may write to it what it likes."""

    arriving: Arriving | None = None

    def write(self, data: Any, /) -> int:
        if self.arriving is not None:
            self.arriving.arrived(data)
        return super().write(data)


class _Judge:
    """Brings a form's files before an admission."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def begins(self, file: _Judged, name: str, declared: str | None) -> None:
        file.arriving = self._admission.opening(name, declared)

    def ended(self, file: _Judged) -> None:
        if file.arriving is not None:
            file.arriving.ended()
            file.arriving = None


def check() -> None:
    """Send one form through a route of its own and see that FastAPI asks the request for it.

    Raises:
        UnsupportedVersion: It reads forms in another way, so uploads could not be received where they rest.
    """
    asked: list[object] = []

    async def form(**limits: object) -> FormData:
        asked.append(limits)
        return FormData()

    class Trying(APIRoute):
        def get_route_handler(self) -> Any:
            handler = super().get_route_handler()

            async def answer(request: Request) -> Any:
                request.form = form  # type: ignore[method-assign, assignment]
                return await handler(request)

            return answer

    async def endpoint(file: fastapi.UploadFile | None = None) -> None:
        asked.append(file)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        asked.append(message["type"])

    router = fastapi.APIRouter(route_class=Trying)
    router.add_api_route("/", endpoint, methods=["POST"])
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b"", "root_path": ""}
    call = fastapi.FastAPI(openapi_url=None, routes=router.routes)(scope, receive, send)
    try:
        call.send(None)  # it waits for nothing, so this is all it takes
    except StopIteration:
        if len(asked) > 2 and isinstance(asked[0], dict) and asked[1:3] == [None, "http.response.start"]:
            return
    finally:
        call.close()
    raise UnsupportedVersion(
        library="fastapi",
        found=fastapi.__version__,
        problem="it does not read forms with request.form(), so uploads could not be received where they rest",
        remedy="Install a FastAPI between 0.121.0 and the newest that this release of Afterwards was tested with.",
    )
