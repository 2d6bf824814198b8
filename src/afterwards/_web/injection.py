"""Puts our BackgroundTasks where FastAPI puts its own, and commits before the response starts.

Three names are replaced, once, when the package is imported: `APIRoute.get_route_handler`, which FastAPI documents
for this purpose; `fastapi.routing.get_websocket_app`; and the class that `fastapi.dependencies.utils` makes for a
request. Requests of apps that are not ours get exactly what they got. Whether the three still work so is tried out at
import, and a FastAPI in which they do not is refused.

The commit is put on FastAPI's own exit stack before the endpoint is called, so it comes last: after every
`scope="function"` dependency has ended, and only when none of them, nor the endpoint, nor the response model, raised.
"""

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import Any, Protocol

import fastapi
from fastapi import params, routing
from fastapi.dependencies import utils
from fastapi.dependencies.models import Dependant
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from afterwards._web.early import declare
from afterwards._web.misuse import refuse_stored_files, single_files, upload_fields
from afterwards._web.settings import declared_by
from afterwards.errors import UnsupportedVersion

_NAME = "BackgroundTasks"  # in fastapi.dependencies.utils

Handler = Callable[[Request], Awaitable[Response]]


class Collector(Protocol):
    """Gathers the tasks of one request."""

    def make(self) -> StarletteBackgroundTasks:
        """Return the object to inject."""
        ...


class Opener(Protocol):
    """Decides per request whether it is ours."""

    async def request(self, request: Request, handler: Handler, route: "Route") -> Response:
        """Answer a request."""
        ...

    async def websocket(
        self, websocket: WebSocket, app: Callable[[WebSocket], Awaitable[None]], route: "Route"
    ) -> None:
        """Serve a WebSocket."""
        ...


collecting: ContextVar[Collector | None] = ContextVar("afterwards_collecting", default=None)


class Route:
    """What is known of a route before its first request."""

    __slots__ = (
        "_dependant",
        "_ours",
        "_single_files",
        "_takes_form",
        "_upload_fields",
        "_uses",
        "sees_to_keys",
        "told",
    )

    def __init__(self, dependant: Dependant, *, sees_to_keys: bool = False) -> None:
        self._dependant = dependant
        self.sees_to_keys = sees_to_keys  # itself: it is a route of ours that has idempotency keys, or needs none
        self._uses: bool | None = None
        self._ours: bool | None = None
        self._single_files: frozenset[str] | None = None
        self._takes_form: bool | None = None
        self._upload_fields: frozenset[str] | None = None
        self.told: set[str] = set()  # fields of which files were dropped, and the log says so

    @property
    def endpoint(self) -> object:
        """The function that answers."""
        return self._dependant.call

    @property
    def path(self) -> str:
        """Its path, with the names of its parameters."""
        return self._dependant.path or "/"

    @property
    def dependants(self) -> list[Dependant]:
        """The endpoint and everything it depends on."""
        return _flat(self._dependant)

    def uses(self) -> bool:
        """Tell whether the endpoint or a dependency takes background tasks."""
        if self._uses is None:
            self._look()
        return bool(self._uses)

    def ours(self) -> bool:
        """Tell whether one of them asks for our class."""
        if self._ours is None:
            self._look()
        return bool(self._ours)

    def single_files(self) -> frozenset[str]:
        """Return the form fields of which it takes one file."""
        if self._single_files is None:
            self._single_files = single_files(_flat(self._dependant))
        return self._single_files

    def takes_form(self) -> bool:
        """Tell whether FastAPI reads its body as a form."""
        if self._takes_form is None:
            fields = [field for one in _flat(self._dependant) for field in one.body_params]
            self._takes_form = any(isinstance(field.field_info, params.Form) for field in fields)
        return self._takes_form

    def upload_fields(self) -> frozenset[str]:
        """Return the form fields in which it takes uploads, one or several."""
        if self._upload_fields is None:
            self._upload_fields = upload_fields(_flat(self._dependant))
        return self._upload_fields

    def _look(self) -> None:
        found = [one for one in _flat(self._dependant) if one.background_tasks_param_name]
        self._uses = bool(found)
        self._ours = any(_asks_for_ours(one) for one in found)


def _flat(dependant: Dependant) -> list[Dependant]:
    return [dependant, *(one for below in dependant.dependencies for one in _flat(below))]


def _asks_for_ours(dependant: Dependant) -> bool:
    call, name = dependant.call, dependant.background_tasks_param_name
    if call is None or name is None:
        return False
    for one in (inspect.unwrap(call), type(call).__call__):
        try:
            annotation = utils.get_typed_signature(one).parameters[name].annotation
        except (KeyError, TypeError, ValueError):
            continue
        while hasattr(annotation, "__metadata__") or hasattr(annotation, "__value__"):  # Annotated, or `type X = ...`
            annotation = annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation.__value__
        return getattr(annotation, "is_durable", False)
    return False


def is_wrapped(route: routing.APIRoute) -> bool:
    """Tell whether a route was made after this package was imported."""
    return getattr(route, "_afterwards", False)


def install(opener: Opener) -> None:
    """Replace the three names and try them out. The first call counts.

    Raises:
        UnsupportedVersion: This FastAPI does not use them as expected.
    """
    get_route_handler = routing.APIRoute.get_route_handler
    if getattr(get_route_handler, "is_ours", False):
        return
    get_websocket_app = routing.get_websocket_app
    native = getattr(utils, _NAME)

    def durable_route_handler(self: routing.APIRoute) -> Any:
        if (said := declared_by(self.endpoint)) is not None and not is_wrapped(self):
            declare(self, said.given.get("before", ()))
        refuse_stored_files(self.path, _flat(self.dependant))
        handler = get_route_handler(self)
        route = Route(self.dependant, sees_to_keys=getattr(self, "sees_to_keys", False))
        self._afterwards = True  # type: ignore[attr-defined]

        async def answer(request: Request) -> Response:
            return await opener.request(request, handler, route)

        return answer

    def durable_websocket_app(*args: Any, **kwargs: Any) -> Any:
        app = get_websocket_app(*args, **kwargs)
        route = Route(kwargs["dependant"] if "dependant" in kwargs else args[0])

        async def serve(websocket: WebSocket) -> None:
            await opener.websocket(websocket, app, route)

        return serve

    def make() -> StarletteBackgroundTasks:
        collector = collecting.get()
        made: StarletteBackgroundTasks = native() if collector is None else collector.make()
        return made

    durable_route_handler.is_ours = True  # type: ignore[attr-defined]
    routing.APIRoute.get_route_handler = durable_route_handler  # type: ignore[method-assign]
    routing.get_websocket_app = durable_websocket_app
    setattr(utils, _NAME, make)
    if not _works():
        routing.APIRoute.get_route_handler = get_route_handler  # type: ignore[method-assign]
        routing.get_websocket_app = get_websocket_app
        setattr(utils, _NAME, native)
        raise UnsupportedVersion(
            library="fastapi",
            found=fastapi.__version__,
            problem="it makes BackgroundTasks or calls route handlers in another way, so tasks could not be saved",
            remedy="Install a FastAPI between 0.121.0 and the newest that this release of Afterwards was tested with.",
        )


def _works() -> bool:
    """Send one request through a route of its own and see that the injected object came from here."""
    injected: list[object] = []
    marker = StarletteBackgroundTasks()

    class Marking:
        def make(self) -> StarletteBackgroundTasks:
            return marker

    async def endpoint(request: Request, tasks: StarletteBackgroundTasks) -> Response:
        injected.append(tasks)
        injected.append(isinstance(request.scope.get("fastapi_function_astack"), AsyncExitStack))
        return Response()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        injected.append(message["type"])

    router = fastapi.APIRouter()
    router.add_api_route("/", endpoint)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "root_path": ""}
    token = collecting.set(Marking())
    call = fastapi.FastAPI(openapi_url=None, routes=router.routes)(scope, receive, send)
    try:
        call.send(None)  # it waits for nothing, so this is all it takes
    except StopIteration:
        wrapped = all(is_wrapped(route) for route in router.routes if isinstance(route, routing.APIRoute))
        return wrapped and injected[:3] == [marker, True, "http.response.start"]
    finally:
        call.close()
        collecting.reset(token)
    return False
