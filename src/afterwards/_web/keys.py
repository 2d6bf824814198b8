"""Answers a request that was sent before, and says so by its `Idempotency-Key`, with the answer that it got then.

The key is taken before the endpoint runs, and its answer is stored in one transaction with the tasks it speaks of:
both are there or neither. Where nothing was stored, the key is free again: after an exception, an error before any
task, an endpoint that queues none, the end of the process. Whether a commit that failed is there after all is left to
the store: what is freed then is the hold on a key, never an answer.

Routes of ours that store something else use `Keys.answered`.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from afterwards._domain.ids import random_bytes
from afterwards._domain.keys import KEPT, BodyDigest, fingerprint, form_parts, key_id, read_key
from afterwards._engine.again import PASSING
from afterwards._engine.engine import Engine
from afterwards._files.spool import Spool
from afterwards._files.staging import CHUNK, INLINE_BYTES, StagedFile
from afterwards._store.contract import CallbackReply, FutureReply, ask
from afterwards._store.keys import Answered, FreeKey, KeepAnswer, TakeKey
from afterwards._web.handing import stored_digest
from afterwards._web.problems import plain, problem
from afterwards.errors import Error, InvalidKey, KeyInUse, KeyReused, Stopped, StorageUnsure

if TYPE_CHECKING:
    from afterwards._web.collecting import Gathering
    from afterwards._web.injection import Handler, Route

log = logging.getLogger("afterwards")

HEADER = b"idempotency-key"
REPLAYED = (b"idempotent-replayed", b"true")  # the name that Stripe gave it, and most who have one took over
LARGEST = 1 << 20  # bytes of a body that is kept; of a larger one the retry gets what is known of a stream
# What a header says of a body that is not sent again.
_OF_THE_BODY = frozenset(
    {
        "accept-ranges",
        "content-digest",
        "content-disposition",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "etag",
        "last-modified",
        "transfer-encoding",
    }
)
# Who asks, by the first of these that a request has. What changes from try to try must not come before what does not.
_CREDENTIALS = (b"authorization", b"x-api-key", b"api-key", b"x-auth-token", b"cookie")


def is_keyed(scope: Any) -> bool:
    """Tell whether a request has an idempotency key."""
    for name, _ in scope["headers"]:  # noqa: SIM110 - a generator would take twice the time
        if name == HEADER:
            return True
    return False


def caller(scope: Any, owner: str | None = None) -> bytes:
    """Return who sent a request: whose it is, else what it shows of that. Of two alike one gets the others answer."""
    if owner is not None:
        return b"owner\n" + owner.encode()
    for wanted in _CREDENTIALS:
        shown = [value for name, value in scope["headers"] if name == wanted]
        if shown:
            return b"\n".join([wanted, *shown])
    return b""


def route_of(scope: Any) -> str:
    """Name a request's route: method and path, with the names of its parameters in the place of their values."""
    path: str = scope["path"]
    route = scope.get("route")
    pattern = getattr(route, "path_regex", None)
    # Newer FastAPIs give a route without the prefix that its router was included with.
    found = None if pattern is None else re.search(pattern.pattern.removeprefix("^"), path)
    own = path if found is None else f"{path[: found.start()]}{getattr(route, 'path_format', '')}"
    return f"{scope['method']} {own}"


class Slot:
    """What one request knows of its key: that it is the request's own until it is kept or left, or its answer."""

    def __init__(self, keys: "Keys", id: bytes, token: str, found: Answered | None = None) -> None:
        self._keys = keys
        self._id = id
        self._token = token
        self._found = found
        self._held = bool(id) and found is None
        self.body: _Body | None = None  # where the fingerprint is known when the body has come whole
        self.fingerprint: bytes | None = None

    @property
    def is_answered(self) -> bool:
        """Whether an earlier request with this key has an answer."""
        return self._found is not None

    def replay(self, fingerprint: bytes | None) -> Response:
        """Answer as the earlier request was answered.

        Raises:
            KeyReused: That was another request.
        """
        found = self._found
        assert found is not None
        if None not in (fingerprint, found.fingerprint) and fingerprint != found.fingerprint:
            raise KeyReused()
        response = Response(status_code=found.status)
        headers = found.headers
        if found.body is not None:
            response.body = found.body
        elif found.status >= 200 and found.status not in (204, 304):
            headers = [header for header in headers if header[0] not in _OF_THE_BODY] + [("content-length", "0")]
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        response.raw_headers = [*raw, REPLAYED]
        return response

    async def part(self, response: Response, links: Iterable[str] = ()) -> KeepAnswer | None:
        """Return what the transaction has to store beside what the request made; None for a request without a key.

        When it is stored, call `kept`.

        Args:
            response: As it will be sent.
            links: `Link` headers that it will have besides.
        """
        if not self._held:
            return None
        if self.body is not None:
            self.fingerprint = await self.body.fingerprint()
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
        streamed = type(response).__call__ is not Response.__call__
        body = None if streamed or len(response.body) > LARGEST else bytes(response.body)
        return KeepAnswer(
            id=self._id,
            token=self._token,
            fingerprint=self.fingerprint,
            status=response.status_code,
            headers=headers + [("link", link) for link in links],
            body=body,
            expires_at=self._keys.engine.clock.now() + KEPT,
        )

    def kept(self) -> None:
        """Take note that the answer is stored."""
        self._held = False

    async def keep(self, response: Response) -> None:
        """Store the answer by itself, where there is no transaction that it could be part of."""
        part = await self.part(response)
        if part is not None:
            await ask(self._keys.engine.store, part)
            self.kept()

    async def leave(self) -> None:
        """Free the key, unless it has an answer. Once this has returned, a new try can begin."""
        if self._held:
            self._held = False
            await self._keys.free(FreeKey(id=self._id, token=self._token))


class Keys:
    """The idempotency keys of one installation."""

    def __init__(self, engine: Engine, secret: bytes, hide: str) -> None:
        """Prepare.

        Args:
            engine: Whose worker takes them.
            secret: Makes what is stored of a key something that nobody can guess it from; up to 64 bytes.
            hide: A folder that no answer may name.
        """
        self.engine = engine
        self._secret = secret
        self._hide = hide

    async def take(self, scope: Any, owner: str | None = None) -> Slot:
        """Take the key of a request that has one, or find what it was answered.

        Raises:
            InvalidKey: It is none.
            KeyInUse: The earlier request still runs.
            StorageFull, StorageUnsure, StoreBusy, Stopped: It could not be taken.
        """
        key = read_key([value for name, value in scope["headers"] if name == HEADER])
        id = key_id(key, caller=caller(scope, owner), route=route_of(scope), secret=self._secret)
        engine, token = self.engine, random_bytes().hex()
        reply = FutureReply(asyncio.get_running_loop())
        engine.accept(TakeKey(id=id, worker=engine.worker, token=token, now=engine.clock.now()), reply)
        try:
            found = await reply.future
        except (StorageUnsure, asyncio.CancelledError):  # it may have been taken
            self._free(FreeKey(id=id, token=token), asyncio.Event())
            raise
        if isinstance(found, str):
            raise KeyInUse()
        return Slot(self, id, token, found)

    async def free(self, command: FreeKey) -> None:
        """Free a key. Whoever waits here may be cancelled, and a store that fails is asked until it answers."""
        told = asyncio.Event()
        self._free(command, told)
        await told.wait()

    def _free(self, command: FreeKey, told: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()

        def freed(answer: Any) -> None:
            if isinstance(answer, PASSING):
                self.engine.later(command, CallbackReply(freed))
            elif isinstance(answer, BaseException) and not isinstance(
                answer, Stopped
            ):  # then the worker's end frees it
                log.error("an idempotency key stays in use until this process ends: %s", answer)
            try:
                loop.call_soon_threadsafe(told.set)
            except RuntimeError:  # the loop was closed, and whoever waited is gone
                pass

        self.engine.store.submit(command, CallbackReply(freed))

    @asynccontextmanager
    async def answered(
        self, request: Request, fingerprint: bytes, owner: str | None = None
    ) -> AsyncIterator[tuple[Slot, Response | None]]:
        """Look after the key of a request to a route of ours, and do nothing for one without.

            async with keys.answered(request, fingerprint("POST", path, metadata)) as (slot, replayed):
                if replayed is not None:
                    return replayed
                response = ...
                await ask(store, Create(..., key=await slot.part(response)))   # stored together, by `keep_answer`
                slot.kept()                                                    # or, apart: await slot.keep(response)
                return response

        What leaves the block without `kept` or `keep`, by an exception or not, frees the key.

        Args:
            request: The request.
            fingerprint: What makes it this request; see `_domain/keys.py`.
            owner: Whose it is, where that is known.

        Raises:
            InvalidKey, KeyInUse, KeyReused: To be answered as problems.
            StorageFull, StorageUnsure, StoreBusy, Stopped: The key could not be taken.
        """
        slot = await self.take(request.scope, owner) if is_keyed(request.scope) else Slot(self, b"", "")
        slot.fingerprint = fingerprint
        try:
            yield slot, slot.replay(fingerprint) if slot.is_answered else None
        finally:
            await slot.leave()

    async def answer(self, handler: "Handler", route: "Route", gathering: "Gathering", request: Request) -> Response:
        """Answer a request with a key to an endpoint of the application; `gathering` keeps or leaves the key."""
        try:
            admission = gathering.admission
            owner = None if admission is None else admission.owner
            gathering.slot = slot = await self.take(request.scope, owner)
            if route.takes_form():
                _watch_form(request, slot)
            else:
                slot.body = _Body(request)
                if slot.is_answered:
                    return slot.replay(await slot.body.fingerprint())
        except (InvalidKey, KeyInUse, KeyReused) as error:
            return problem(error, request.scope["path"])
        except Error as error:
            raise plain(error, self._hide) from error
        try:
            return await handler(request)
        except _Known as known:
            return known.response


class _Known(HTTPException):
    """Ends the reading of a form whose answer is known. FastAPI calls any other exception a mistake in the body."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def _watch_form(request: Request, slot: Slot) -> None:
    """Take the fingerprint when FastAPI has the form, before it calls anything with it."""
    before = vars(request).get("form")  # uploads are received by one of our own

    async def watched(**limits: Any) -> FormData:
        vars(request).pop("form", None)  # once is enough, and the two would keep each other
        if before is not None:
            request.form = before  # type: ignore[method-assign]
        form = await request.form(**limits)
        slot.fingerprint = await _of_form(request.scope, form)
        if slot.is_answered:
            try:
                response = slot.replay(slot.fingerprint)
            except KeyReused as error:
                response = problem(error, request.scope["path"])
            await form.close()
            raise _Known(response)
        return form

    request.form = watched  # type: ignore[method-assign, assignment]


async def _of_form(scope: Any, form: FormData) -> bytes:
    items: list[tuple[str, str | tuple[str, ...]]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            digest = stored_digest(value)
            if digest is None:
                is_small = (value.size or 0) <= INLINE_BYTES
                digest = _digest(value.file) if is_small else await asyncio.to_thread(_digest, value.file)
            items.append((name, (value.filename or "", value.content_type or "", digest)))
        else:
            items.append((name, value))
    return fingerprint(*_of_scope(scope), "form", *form_parts(items))


def _of_scope(scope: Any) -> tuple[str | bytes, ...]:
    return scope["method"], scope["path"], scope.get("query_string", b""), _content_type(scope)[0]


def _content_type(scope: Any) -> tuple[bytes, bytes]:
    """Return the type of a body, and its boundary."""
    value = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    kind, parameters = parse_options_header(value)
    return kind.lower(), parameters.get(b"boundary", b"") if kind.lower().startswith(b"multipart/") else b""


def _digest(file: Any) -> str:
    """Return the digest of a file of a form, which stands at its start before and after."""
    if isinstance(file, Spool | StagedFile):
        return file.digest_now()
    body = BodyDigest()
    file.seek(0)
    while chunk := file.read(CHUNK):
        body.update(chunk)
    file.seek(0)
    return f"blake3:{body.digest().hex()}"


class _Body:
    """A body on its way to the endpoint, whoever reads it and however: nothing of it is kept."""

    def __init__(self, request: Request) -> None:
        self._scope = request.scope
        self._digest = BodyDigest(_content_type(request.scope)[1])
        self._receive = request.receive
        self._is_whole = hasattr(request, "_body")  # read before, by a route class of the application's own
        self._is_cut = request._stream_consumed and not self._is_whole
        if self._is_whole:
            self._digest.update(request._body)
        request._receive = self.receive

    async def receive(self) -> Any:
        """Receive a message, as the application would without us."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._digest.update(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)
        else:
            self._is_cut = not self._is_whole
        return message

    async def fingerprint(self) -> bytes | None:
        """Return the fingerprint of the request, once its body has come whole; None when that never will be."""
        while not (self._is_whole or self._is_cut):
            await self.receive()
        return None if self._is_cut else fingerprint(*_of_scope(self._scope), "body", self._digest.digest())
