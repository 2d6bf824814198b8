"""Durable background tasks for FastAPI: the `BackgroundTasks` to take as a parameter, and `Afterwards` for the rest.

Importing this module prepares FastAPI, once; see `_web/injection.py` for what that means and what it leaves alone.
"""

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from afterwards._domain import links
from afterwards._domain.ids import is_id
from afterwards._domain.options import PLAIN_CALL
from afterwards._domain.retention import Keep
from afterwards._domain.signing import Signer
from afterwards._engine.engine import Settings
from afterwards._engine.files import File
from afterwards._web import early, injection, receiving
from afterwards._web.access import Access
from afterwards._web.applications import OURS, asks_for_ours, mounted, refuse_early_routes
from afterwards._web.artifacts import answer_missing_files
from afterwards._web.files import Policy, add_file_routes
from afterwards._web.injection import Handler, Route
from afterwards._web.misuse import warn_of_idle_rules
from afterwards._web.options import check_options, seconds_to_drain
from afterwards._web.routes import add_routes
from afterwards._web.routing import Routing
from afterwards._web.settings import Uploads
from afterwards._web.system import System
from afterwards._web.tasks import BackgroundTasks, Handle
from afterwards._web.upload_routes import add_upload_routes
from afterwards.errors import Error, SecondAfterwards, SettingRefused

P = ParamSpec("P")

_UNKNOWN: Any = object()

__all__ = ["Afterwards", "BackgroundTasks", "Handle"]


class Afterwards:
    """Afterwards in one application.

    Tasks of every plain `fastapi.BackgroundTasks` of the application become durable too, what was left undone by an
    earlier run is taken up at start-up, and the status routes are added below `prefix`.
    """

    def __init__(
        self,
        app: FastAPI | None = None,
        *,
        data: str | os.PathLike[str] | None = None,
        prefix: str = "/afterwards",
        strict: bool | None = None,
        runs_tasks: bool = True,
        concurrency: int = 100,
        threads: int = 40,
        drain: float | None = None,
        keep: timedelta | Keep | None = None,
        admin: Any = None,
        token: str | None = None,
        docs: bool = True,
        files: Policy = "open",
        uploads: Uploads | None = None,
    ) -> None:
        """Prepare an application; nothing is opened before its start-up.

        Args:
            app: The application; None for a program that only enqueues or works.
            data: The data directory. Default: the environment's AFTERWARDS_DATA, else ./afterwards-data.
            prefix: Where the status routes live. Default: /afterwards.
            strict: Refuse tasks that cannot be stored, also where plain `fastapi.BackgroundTasks` is asked for.
                Default: refuse where ours is asked for; run the others unsaved, with a warning.
            runs_tasks: False leaves the running to other processes of the same data directory.
            concurrency: `async def` tasks this process runs at once, from 1.
            threads: `def` tasks this process runs at once, from 1.
            drain: Seconds that running tasks get when the program stops. Default: 10, and 0 under `--reload`.
            keep: How long ended tasks are kept, or, with `Keep(...)`, each kind of what is stored. Default: the
                environment's AFTERWARDS_KEEP..., else 7 days for what succeeded and 30 for what did not.
            admin: The application's own `Depends(...)` or `Security(...)` that decides who may list tasks, run them
                again and see tracebacks: it raises, or returns False, for everybody else.
            token: An admin token instead, for `Authorization: Bearer`. Default: the environment's AFTERWARDS_TOKEN.
                Without either, only clients on this machine are answered, with the token that the log shows.
            docs: Show the status routes in the application's OpenAPI document.
            files: "open": who knows the id of a file may download it. "signed": only who has a link made with `link`
                may, until it expires, and admins.
            uploads: What may come in, from whom, and how much of it. Default: what the environment says; see `Uploads`.

        Raises:
            ValueError, TypeError: A value is out of its range, or is no such value; the message says what is wanted.
            SettingRefused: The same of a variable of the environment.
            RoutesTooEarly: The application has routes that were made before this package was imported.
            SecondAfterwards: The application has one already.
        """
        check_options(
            prefix=prefix,
            concurrency=concurrency,
            threads=threads,
            drain=drain,
            keep=keep,
            files=files,
            uploads=uploads,
        )
        settings = Settings(
            runs_tasks=runs_tasks,
            concurrency=concurrency,
            threads=threads,
            drain=seconds_to_drain(drain),
            keep=Keep.of(keep, os.environ),
        )
        folder = Path(data if data is not None else os.environ.get("AFTERWARDS_DATA", "afterwards-data"))
        self.app = app
        self._apps: weakref.WeakSet[Any] = weakref.WeakSet()
        self._system = System(
            data=folder,
            prefix=prefix.rstrip("/"),
            strict=strict,
            settings=settings,
            uploads=Uploads() if uploads is None else uploads,
            adopting=self._adopts,
        )
        self._access = Access(admin=admin, token=token, key=lambda: self._system.key)
        self._docs = docs
        self._files: Policy = files
        self._serves = True
        if app is not None:
            self._bind(app)
            self.show_on(app)
        _opener.remember(self)

    def show_on(self, app: FastAPI) -> None:
        """Add the status routes to an application, unless one has them already."""
        if self._system.host is None:
            self._system.host = app
            routing = Routing(app, self._system, self._access.guard(), docs=self._docs)
            add_routes(routing, self._system, opens_files=self._files == "open")
            add_file_routes(routing, self._system, policy=self._files, asks=self._access.has_rule)
            answer_missing_files(app, self._system)
            add_upload_routes(app, self._system, self._access, docs=self._docs)

    def _bind(self, app: FastAPI) -> None:
        other: Afterwards | None = getattr(app, OURS, None)
        if other is not None and other is not self:
            raise SecondAfterwards(app=app.title, data=other.data)
        refuse_early_routes(app)
        self._apps.add(app)
        setattr(app, OURS, self)  # looked at in every request: an attribute is the quickest place

    def _adopts(self, app: object) -> bool:
        return app in self._apps

    def bind_mounts(self) -> None:
        """Take in the applications mounted below ours; done at start-up, when all are there."""
        for app in self.mounted():
            if getattr(app, OURS, None) is None:
                self._bind(app)

    def mounted(self) -> list[FastAPI]:
        """Return the applications mounted below ours, at any depth, that have no Afterwards of their own."""
        return [] if self.app is None else list(mounted(self.app.routes, self))

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._system.data

    def overrule(
        self, *, serves: bool, strict: bool | None, data: str | os.PathLike[str] | None, **settings: Any
    ) -> None:
        """Let a launcher's word go before what the program says; None leaves it. Before the start.

        Args:
            serves: Whether requests are answered at all.
            strict: See `__init__`.
            data: See `__init__`.
            settings: `runs_tasks`, `concurrency`, `threads` and `drain`.
        """
        self._serves = serves
        self._system.overrule(strict=strict, data=None if data is None else Path(data), settings=settings)

    async def enqueue(self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Store a call to be made soon, outside of any request; it is durable when this returns.

        Raises:
            WrongArguments, UnstorableFunction, UnstorableArgument: The call can never be stored.
            StorageFull, StoreBusy, Stopped: Nothing was stored now.
            StorageUnsure: Whether it was stored is unknown.
        """
        return await self._system.enqueue(func, args, kwargs, PLAIN_CALL)

    def enqueue_blocking(self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Do the same from code that is not `async`."""
        return self._system.enqueue_blocking(func, args, kwargs, PLAIN_CALL)

    def link(self, file_id: str, *, expires_in: float | timedelta, inline: bool = False) -> str:
        """Make a link to a file that is good for a while, for whoever has it; the path, below the application.

        With `Afterwards(files="signed")` such links are the only way to a file. Otherwise its id opens it as well.

        Args:
            file_id: From a task's document. Whether there is such a file is not looked at.
            expires_in: Seconds, or a timedelta; up to ten years. A download that has begun is not cut off.
            inline: Let browsers show it, if it is an image or plain text, instead of saving it.

        Raises:
            ValueError: The id is none, or the time is out of range.
        """
        seconds = links.lifetime(expires_in)
        if not is_id(file_id):
            raise ValueError(f"link({file_id!r}): the id of a file is wanted here, such as a task's document shows")
        now = self._system.engine.clock.now()
        query = links.make(Signer(self._system.key), file_id, expires_in=seconds, inline=inline, now=now)
        return f"{self._system.prefix}/files/{file_id}?{query}"

    async def file(self, id: str) -> File:
        """Return a stored file by its id: what another task made, or an upload. A task can take it without a copy.

        Raises:
            UnknownFile: There is none. An endpoint that lets this through answers 404.
        """
        return await self._system.file(id)

    def file_blocking(self, id: str) -> File:
        """Do the same from code that is not `async`."""
        return self._system.engine.shelf.find(id)

    async def start(self) -> None:
        """Open the data directory and start the engine, with `async def` tasks on the running loop.

        An application's start-up calls this; call it yourself in a program without one.

        Raises:
            StoreRefused: The data directory cannot be used.
        """
        self.bind_mounts()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._system.start, loop)
        if self.app is not None and self._serves:
            self._access.announce()

    def retire(self) -> float:
        """Begin to stop while requests are still answered: start nothing more; return the drain's seconds."""
        return self._system.retire()

    async def stop(self) -> None:
        """Let running tasks finish for a while, give back the rest, close."""
        await asyncio.get_running_loop().run_in_executor(None, self._system.stop)


class _Opener:
    """Finds whose request it is."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[Afterwards] = weakref.WeakSet()
        self._default: Afterwards | None = None
        self._lock = threading.Lock()

    def remember(self, afterwards: Afterwards) -> None:
        """Make it the one for applications that have none of their own."""
        with self._lock:
            self._all.add(afterwards)
            if self._default is None:
                self._default = afterwards

    def default(self) -> Afterwards:
        """Return the first one made, or make one with the default settings."""
        if self._default is None:
            Afterwards()
        assert self._default is not None
        return self._default

    async def request(self, request: Request, handler: Handler, route: Route) -> Response:
        """Answer a request: ours when its app is, or when its route asks for our class."""
        afterwards = self._of(request.scope["app"], route)
        if afterwards is None:
            warn_of_idle_rules(route)
            return await handler(request)
        return await afterwards._system.request(request, handler, route)

    async def websocket(self, websocket: WebSocket, app: Callable[[WebSocket], Awaitable[None]], route: Route) -> None:
        """Serve a WebSocket by the same rule."""
        afterwards = self._of(websocket.scope["app"], route)
        if afterwards is None:
            return await app(websocket)
        await afterwards._system.websocket(websocket, app, route)

    def _of(self, app: Any, route: Route) -> Afterwards | None:
        afterwards: Afterwards | None = getattr(app, OURS, _UNKNOWN)
        if afterwards is _UNKNOWN:
            afterwards = self._look_for(app)
        return self.default() if afterwards is None and route.ours() else afterwards

    def _look_for(self, app: Any) -> Afterwards | None:
        """Find an application's Afterwards when no start-up has: it may be mounted in one of ours."""
        with self._lock:
            found = next((one for one in list(self._all) if app in one.mounted()), None)
            if found is None:
                setattr(app, OURS, None)  # known to have none: a start-up can still bind it
            else:
                found._bind(app)
        return found


_opener = _Opener()


def _prepare_lifespan() -> None:
    """Start and stop the engine with the application: after its own start-up, before its own shutdown."""
    original = Router.lifespan

    async def lifespan(self: Router, scope: Scope, receive: Receive, send: Send) -> None:
        app = scope.get("app")
        afterwards = getattr(app, OURS, None)
        if afterwards is None and asks_for_ours(self.routes):  # with nothing but the import changed
            try:
                afterwards = _opener.default()
            except SettingRefused as error:
                await receive()
                return await send({"type": "lifespan.startup.failed", "message": f"afterwards: {error}"})
            if afterwards.app is None and isinstance(app, FastAPI):
                afterwards.show_on(app)
        if afterwards is None:
            return await original(self, scope, receive, send)
        guest = afterwards.app is not None and getattr(app, OURS, None) is None  # of another application's engine
        own = self.lifespan_context
        refusal: list[Error] = []

        @asynccontextmanager
        async def both(app: Any) -> AsyncIterator[Any]:
            async with own(app) as state:
                try:
                    await afterwards.start()
                except Error as error:
                    refusal.append(error)
                    raise
                try:
                    yield state
                finally:
                    if not guest:
                        await afterwards.stop()

        async def in_one_sentence(message: Message) -> None:
            """The server logs what a failed start-up says, and ours need no traceback to be understood."""
            if refusal and message["type"] == "lifespan.startup.failed":
                message = {**message, "message": f"afterwards: {refusal[0]}"}
            await send(message)

        self.lifespan_context = both
        try:
            await original(self, scope, receive, in_one_sentence)
        finally:
            self.lifespan_context = own

    Router.lifespan = lifespan  # type: ignore[method-assign]


early.install()
injection.install(_opener)
receiving.check()
_prepare_lifespan()
