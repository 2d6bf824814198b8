"""Answers errors of the status routes as RFC 9457 problem documents, whatever the application does with its own.

An error's `code` is its type's last word and never changes. What the application's own dependencies raise is left to
the application, and so are errors that nobody foresaw.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from afterwards._domain.documents import hidden
from afterwards._domain.tasks import Failure
from afterwards.errors import (
    HTTP_STATUS,
    AdminOnly,
    Error,
    FileHeld,
    InvalidRequest,
    KeyInUse,
    MethodRefused,
    RangeRefused,
    TaskFailed,
    TaskOpen,
)

if TYPE_CHECKING:
    from afterwards._web.system import System

log = logging.getLogger("afterwards")

MEDIA_TYPE = "application/problem+json"
NOSNIFF = {"X-Content-Type-Options": "nosniff"}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong, for programs and for people."""

    type: str  # a name, not an address: urn:afterwards:problem:CODE
    title: str
    status: int
    detail: str
    instance: str
    code: str
    state: str | None = None  # of the task, where that is the reason
    error: Failure | None = None  # why the task has no result


def problem(error: Error, instance: str, *, hide: str = "") -> Response:
    """Turn an error into an answer.

    Args:
        error: What was raised.
        instance: The path that was asked for.
        hide: A folder of the server that the answer must not name.
    """
    status = HTTP_STATUS[error.code]
    lines = (type(error).__doc__ or "").splitlines()
    failure = error.failure if isinstance(error, TaskFailed) else None
    if failure is not None:
        failure = Failure(type=failure.type, message=hidden(failure.message, hide))
    document = Problem(
        type=f"urn:afterwards:problem:{error.code}",
        title=lines[0].rstrip("."),
        status=status,
        detail=hidden(str(error), hide),
        instance=instance,
        code=error.code,
        state=error.state if isinstance(error, TaskFailed | TaskOpen) else None,
        error=failure,
    )
    headers = {**NOSNIFF, "Cache-Control": "no-store"}
    if isinstance(error, AdminOnly):
        headers["WWW-Authenticate"] = error.challenge
    if isinstance(error, MethodRefused):
        headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, RangeRefused):
        headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, TaskOpen | FileHeld | KeyInUse) or status == 503:
        headers["Retry-After"] = "1"
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return Response(msgspec.json.encode(document), status, headers, MEDIA_TYPE)


def plain(error: Error, hide: str) -> HTTPException:
    """Turn an error met by an endpoint of the application into what FastAPI answers, to be tried again."""
    return HTTPException(HTTP_STATUS[error.code], hidden(str(error), hide), headers={"Retry-After": "1"})


class ProblemRoute(APIRoute):
    """A route whose errors of ours are answered as problems."""

    system: "System"  # whose routes they are; set by a subclass
    sees_to_keys = True  # idempotency keys of endpoints are not for them: see `Keys.answered`
    known: dict[str, set[str]]  # the methods of each path, whichever route takes them; set by a subclass

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say which methods there are: each route takes one, and the path has several."""
        if scope["method"] in (self.methods or ()):
            return await super().handle(scope, receive, send)
        path = scope["path"]
        error = MethodRefused(method=scope["method"], path=path, allowed=sorted(self.known[self.path]))
        await problem(error, path)(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler, which knows parameters and dependencies, and start the engine if nobody has."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                await self.system.running(asyncio.get_running_loop())
                return await handler(request)
            except RequestValidationError as invalid:
                error: Error = InvalidRequest("; ".join(_complaint(one) for one in invalid.errors()))
            except Error as raised:
                error = raised
            if HTTP_STATUS[error.code] >= 500:
                log.error("%s %s could not be answered: %s", request.method, request.url.path, error)
            return problem(error, request.url.path, hide=self.system.hidden_folder)

        return answer


def _complaint(error: Any) -> str:
    """One sentence of what is wrong with a parameter; its value is the client's and is not repeated."""
    where = " ".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}"
