"""Answers a request that is refused before, or while, its body is read: at once, as a problem, and for good.

The server is told to read no more (`afterwards.refuse`, where it offers that) and the answer ends the connection, so
that a client that is still sending hears it and nobody reads the rest. The error is raised, not returned, so that what
the request has opened (a database session of a dependency) meets an error and not a success.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from afterwards._web.early import InvalidEarly, speaks_http1, with_close
from afterwards._web.problems import problem
from afterwards.errors import (
    HTTP_STATUS,
    BodyTooLarge,
    BodyTooSlow,
    DiskTooSmall,
    Error,
    QuotaExceeded,
    StorageFull,
    StorageUnsure,
    TooManyOpenFiles,
    TypeRefused,
    UploadsUnderWay,
    UploadTooLarge,
)

log = logging.getLogger("afterwards")

REFUSALS = (
    UploadTooLarge,
    TypeRefused,
    QuotaExceeded,
    UploadsUnderWay,
    StorageFull,
    StorageUnsure,
    TooManyOpenFiles,
    BodyTooLarge,
    BodyTooSlow,
)
_REFUSED = frozenset({401, 403, 413, 415, 422, 429, 507})
_HANDLERS = "starlette.exception_handlers"
_SORRY: dict[str, type[Error]] = {kind.code: kind for kind in (StorageFull, StorageUnsure, TooManyOpenFiles)}
_TEXTS = {
    StorageFull.code: "There is no room left to store this request. Nothing of it has been kept. Send it again later.",
    StorageUnsure.code: "This request could not be stored. Nothing of it has been kept. Send it again later.",
    TooManyOpenFiles.code: "Too many files are open here. Nothing of this request has been kept. Send it again later.",
}
_UNKNOWN = (
    "The disk failed while this request was being stored, so whether it was is unknown. Send it again with the same "
    "Idempotency-Key; without one, look whether its task exists before sending it again."
)


class Refusal(HTTPException):
    """An upload is refused; answered as a problem, or by the application's own handler for its status."""

    def __init__(self, error: Error) -> None:
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        super().__init__(HTTP_STATUS[error.code], str(error), headers=headers)
        self.error = error


def refused(request: HTTPConnection, error: Error, *, late: bool = False) -> Refusal:
    """Stop the reading, and return what is to be raised; `late`: the database may have been asked to store it."""
    stop_reading(request)
    # How full which disk is concerns whoever runs the server.
    if error.code in _SORRY and not isinstance(error, DiskTooSmall):
        log.error("a request was refused: %s", error)
        unknown = late and isinstance(error, StorageUnsure)
        error = _SORRY[error.code](_UNKNOWN if unknown else _TEXTS[error.code])
    refusal = Refusal(error)
    with_close(refusal, request.scope)
    return refusal


def stop_reading(request: HTTPConnection) -> None:
    """Tell the server that nobody wants the rest of the body, and see that our refusals are answered by us."""
    refuse = (request.scope.get("extensions") or {}).get("afterwards.refuse")
    if refuse is not None:
        refuse()
    handlers = request.scope.get(_HANDLERS)
    if handlers:  # else starlette answers them with their text alone
        handlers[0].setdefault(Refusal, _answer)
        handlers[0].setdefault(InvalidEarly, _answer_invalid)


def at_once(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Let the requests that a handler of ours refuses end there, whatever they still send."""

    async def answer(request: Request) -> Response:
        try:
            response = await handler(request)
        except HTTPException as error:
            stop_reading(request)
            raise with_close(error, request.scope) from error.__cause__
        except Exception:
            stop_reading(request)
            raise
        if response.status_code in _REFUSED:
            stop_reading(request)
            if speaks_http1(request.scope):
                response.headers["Connection"] = "close"
        return response

    return answer


async def _answer(request: Request, refusal: Refusal) -> Response:
    response = problem(refusal.error, request.url.path)
    response.headers.update(refusal.headers or {})
    return response


async def _answer_invalid(request: Request, error: InvalidEarly) -> Response | None:
    """Answer as the application answers invalid parameters, and end the connection."""
    handler: Any = request.scope[_HANDLERS][0].get(RequestValidationError)
    if handler is None:
        raise error
    if inspect.iscoroutinefunction(handler):
        response: Response | None = await handler(request, error)
    else:
        response = await run_in_threadpool(handler, request, error)
    if response is not None and speaks_http1(request.scope):
        response.headers["Connection"] = "close"
    return response
