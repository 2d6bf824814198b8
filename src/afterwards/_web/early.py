"""Runs dependencies before the body of a request is read, as FastAPI itself would run them.

They are solved by FastAPI's own function, on FastAPI's own exit stacks, with the application's overrides, so that what
they yield is closed when and how it always is. FastAPI reads the body and solves the endpoint's dependencies after
that; one name is replaced, `fastapi.routing.solve_dependencies`, so that it then finds what has been solved: each
dependency runs once, and what the early ones set on the response is sent. Whether that works is tried out at import.
One that asks for the body all the same is told that there is none yet: what it read would be judged by nobody.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import fastapi
from fastapi import params, routing
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant, get_parameterless_sub_dependant
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from afterwards.errors import BodyTooEarly, UnsupportedVersion

_NAME = "solve_dependencies"
_SOLVED = "afterwards_early"  # in a request's scope: what FastAPI's function returned
_RECEIVE = "afterwards_receive"  # in a request's scope: how its body is read
_OWNER = "owner"


class InvalidEarly(RequestValidationError):
    """A parameter of a dependency that ran before the body is missing or wrong."""


class Early:
    """The dependencies of one route that run before its body, and the one that names the owner."""

    __slots__ = ("_dependant", "_names_owner")

    def __init__(self, before: Sequence[params.Depends], owner: params.Depends | None, path: str) -> None:
        self._dependant: Dependant = get_dependant(path=path, call=_nothing)
        self._dependant.dependencies += [get_parameterless_sub_dependant(depends=one, path=path) for one in before]
        self._names_owner = owner is not None
        if owner is not None:
            named = get_parameterless_sub_dependant(depends=owner, path=path)
            named.name = _OWNER
            self._dependant.dependencies.append(named)

    async def run(self, request: Request) -> Any:
        """Run them in their order; return what the owner's gave.

        Raises:
            InvalidEarly: A parameter is missing or wrong. What else they raise is raised.
            BodyTooEarly: One of them asks for the body.
        """
        if not self._dependant.dependencies:
            return None
        scope = request.scope
        with _without_body(request):
            solved = await getattr(routing, _NAME)(
                request=request,
                dependant=self._dependant,
                dependency_overrides_provider=scope.get("app"),
                async_exit_stack=scope["fastapi_inner_astack"],
                embed_body_fields=False,
            )
        if solved.errors:
            raise InvalidEarly(solved.errors)
        scope[_SOLVED] = solved
        return solved.values.get(_OWNER) if self._names_owner else None


@contextmanager
def _without_body(request: Request) -> Iterator[None]:
    receive, request._receive = request._receive, _refuse
    try:
        yield
    finally:
        request._receive = receive


async def _refuse() -> Any:
    raise BodyTooEarly


def without_body(guards: Sequence[Any]) -> list[Any]:
    """Return dependencies of an endpoint that reads its body by itself, held to the same rule."""

    async def close(request: Request) -> None:
        request.scope[_RECEIVE], request._receive = request._receive, _refuse

    async def open(request: Request) -> None:
        request._receive = request.scope.pop(_RECEIVE)

    return [fastapi.Depends(close), *guards, fastapi.Depends(open)]


def _nothing() -> None:
    """The endpoint of the early dependencies: it is never called."""


def declare(route: routing.APIRoute, before: Sequence[params.Depends]) -> None:
    """Make early dependencies the route's own, so that its OpenAPI document shows their parameters and security."""
    own = route.dependencies
    new = [one for one in before if one not in own]
    route.dependencies = [*new, *own]
    subs = [get_parameterless_sub_dependant(depends=one, path=route.path_format) for one in new]
    route.dependant.dependencies[:0] = subs


def install() -> None:
    """Replace the name, and try it out. The first call counts.

    Raises:
        UnsupportedVersion: This FastAPI does not use it as expected.
    """
    original: Callable[..., Awaitable[Any]] = getattr(routing, _NAME)
    if getattr(original, "is_ours", False):
        return

    def solve(**given: Any) -> Awaitable[Any]:
        solved = given["request"].scope.get(_SOLVED)
        if solved is not None:
            given["dependency_cache"] = solved.dependency_cache
            given["response"] = solved.response
            given["background_tasks"] = solved.background_tasks
        return original(**given)

    solve.is_ours = True  # type: ignore[attr-defined]
    setattr(routing, _NAME, solve)
    try:
        works = _works()
    except Exception as error:
        setattr(routing, _NAME, original)
        raise _unsupported() from error
    if not works:
        setattr(routing, _NAME, original)
        raise _unsupported()


def _unsupported() -> UnsupportedVersion:
    return UnsupportedVersion(
        library="fastapi",
        found=fastapi.__version__,
        problem="it solves dependencies in another way, so none could run before a body is read",
        remedy="Install a FastAPI between 0.121.0 and the newest that this release of Afterwards was tested with.",
    )


def _works() -> bool:
    """Send one request through a route of its own: its dependency must run once, early, and reach the endpoint."""
    seen: list[object] = []

    async def dependency(response: Response) -> str:
        seen.append("dependency")
        response.headers["x-early"] = "1"
        return "value"

    class Trying(routing.APIRoute):
        def get_route_handler(self) -> Any:
            handler = super().get_route_handler()

            async def answer(request: Request) -> Any:
                seen.append(await Early([], fastapi.Depends(dependency), "/").run(request))
                return await handler(request)

            return answer

    async def endpoint(value: str = fastapi.Depends(dependency)) -> None:
        seen.append(value)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            seen.append((b"x-early", b"1") in message["headers"])

    router = fastapi.APIRouter(route_class=Trying)
    router.add_api_route("/", endpoint)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "root_path": ""}
    call = fastapi.FastAPI(openapi_url=None, routes=router.routes)(scope, receive, send)
    try:
        call.send(None)  # it waits for nothing, so this is all it takes
    except StopIteration:
        return seen == ["dependency", "value", "value", True]
    finally:
        call.close()
    return False


def with_close(error: HTTPException, scope: Any) -> HTTPException:
    """Let the answer to a refused request end its connection, so that its body need not be read to its end."""
    if speaks_http1(scope):
        error.headers = {**(error.headers or {}), "Connection": "close"}
    return error


def speaks_http1(scope: Any) -> bool:
    """Tell whether a connection is of HTTP/1, whose answers can end it."""
    return str(scope.get("http_version", "1.1")).startswith("1")
