"""One installation in one process: its data directory, its engine, and what requests need of both."""

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from afterwards._domain.environment import misspelt
from afterwards._domain.files import Verdict
from afterwards._domain.options import CallOptions
from afterwards._domain.tasks import FINAL, TaskRow, TaskState
from afterwards._engine.engine import Engine, Settings
from afterwards._engine.files import File
from afterwards._engine.intake import Draft, Intake, Pending, Plan
from afterwards._engine.scanning import Scanning, check_verdict
from afterwards._engine.unsaved import Unsaved, UnsavedTask
from afterwards._files.comparison import open_compared
from afterwards._files.directory import load_key
from afterwards._files.entering import entering
from afterwards._files.pending import PendingFile
from afterwards._files.staging import Staging
from afterwards._files.stored import StoredFile
from afterwards._files.workspace import STORED_AS
from afterwards._store.contract import Stored
from afterwards._store.sqlite.store import SqliteStore
from afterwards._web.admitting import Admitting
from afterwards._web.artifacts import taken
from afterwards._web.collecting import Gathering
from afterwards._web.handing import as_upload, keep
from afterwards._web.injection import Handler, Route, collecting
from afterwards._web.keys import Keys, is_keyed
from afterwards._web.references import resolved
from afterwards._web.settings import Uploads
from afterwards._web.storing import Storing, release
from afterwards._web.tasks import Handle
from afterwards._web.upload_rules import UploadDoor
from afterwards._web.uploading import Uploading
from afterwards.errors import MissingFile, Stopped, UnknownTask

log = logging.getLogger("afterwards")


class System:
    """Started by the application's start-up, or by the first request when it has none."""

    def __init__(
        self,
        *,
        data: Path,
        prefix: str,
        strict: bool | None,
        settings: Settings,
        uploads: Uploads,
        adopting: Callable[[Any], bool],
    ) -> None:
        self.admitting = Admitting(uploads)
        self.scanning: Scanning | None = None
        self.data = self.root = data
        self.prefix = prefix
        self.settings = settings
        self._strict = strict
        self._adopting = adopting
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._stopped = False  # it has run, and does not any more
        self.upload_door = UploadDoor(self, uploads)
        self.uploading = Uploading(self)
        self.host: Any = None  # the application that has the status routes

    # -- life

    def overrule(self, *, strict: bool | None, data: Path | None, settings: dict[str, Any]) -> None:
        """Change, before the start, what is not None."""
        self.settings = replace(self.settings, **{name: value for name, value in settings.items() if value is not None})
        self._strict = self._strict if strict is None else strict
        self.data = data or self.data

    def retire(self) -> float:
        """Start nothing more; see `Engine.retire`. Returns the seconds that running tasks get."""
        if self._engine is not None:
            self._engine.retire()
        return self.settings.drain

    def start(self, loop: asyncio.AbstractEventLoop | None) -> Engine:
        """Open the data directory and start the engine; the first call counts until `stop`.

        Raises:
            StoreRefused: The data directory cannot be used.
        """
        with self._lock:
            if self._engine is None:
                engine = self._enter()
                self.staging = Staging(self.root, engine.worker)
                self.intake = Intake(engine)
                self.keys = Keys(engine, self.key, self.hidden_folder)
                self.storing = Storing(self.root, self.intake)
                self.unsaved = Unsaved(engine.clock)
                self.admitting.start(self)
                if (scan := self.admitting.settings.scan) is not None:
                    self.scanning = Scanning(engine, self.intake, scan, self._open_stored)
                engine.start(loop)
                self._tell_settings()
                self._engine = engine
                self._stopped = False
                atexit.register(self.stop)
            elif loop is not None:
                self._engine.adopt_loop(loop)
            return self._engine

    def _enter(self) -> Engine:
        with entering(self.data) as self.root:
            self.key = load_key(self.root)
            self.store = SqliteStore(self.root / "afterwards.db")
            return Engine(  # which holds a lock of its own from here on
                root=self.root,
                store=self.store,
                key=self.key,
                settings=self.settings,
                reopen=self._reopen,
                prefix=self.prefix,
            )

    def _tell_settings(self) -> None:
        log.info("kept after their end: %s; limits of uploads: %s", self.settings.keep, self.admitting.settings)
        for name, nearest in misspelt(os.environ):
            said = "" if nearest is None else f" Is {nearest} meant?"
            log.warning("the environment's %s is not known to Afterwards and changes nothing.%s", name, said)

    def stop(self) -> None:
        """Drain and close; see `Engine.stop`. Blocks."""
        with self._lock:
            engine = self._engine
            if engine is not None:
                atexit.unregister(self.stop)
                try:
                    engine.stop()
                finally:
                    self._stopped = True
                    self._engine = None  # not before: until then, it is what refuses new tasks
                self.storing.close()

    @property
    def stopping(self) -> bool:
        """Whether the engine has been told to stop, or does not run."""
        return self._engine is None or self._engine.stopping

    async def running(self, loop: asyncio.AbstractEventLoop | None) -> Engine:
        """Return the running engine, started now if nobody has, without blocking the running loop."""
        engine = self._engine
        return engine if engine is not None else await asyncio.to_thread(self.start, loop)

    @property
    def hidden_folder(self) -> str:
        """The folder that no answer may name."""
        return str(self.root)

    @property
    def engine(self) -> Engine:
        """The running engine, started now if nobody has."""
        return self._engine or self.start(None)

    async def enqueue(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Handle:
        """Store one call outside of any request."""
        await self.running(None)
        plan, files = self._plan(func, args, kwargs, options)
        await self.storing.store(plan, files)
        plan.start()
        return Handle(self, plan.tasks[-1].id)

    def enqueue_blocking(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Handle:
        """Do the same on a thread that may block."""
        self.engine  # noqa: B018 - starts it
        plan, files = self._plan(func, args, kwargs, options)
        self.storing.store_blocking(plan, files)
        plan.start()
        return Handle(self, plan.tasks[-1].id)

    def _plan(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> tuple[Plan, list[PendingFile]]:
        files: list[PendingFile] = []

        def keep_file(value: object, function: str) -> Pending | None:
            if (stored := taken(value, self.engine.shelf, function=function, argument="(a file)")) is not None:
                return stored
            kept = keep(value, self.staging, function=function, argument="(an upload)")
            if kept is not None:
                files.append(kept)
            return kept

        try:
            draft = self.intake.draft(func, args, kwargs, options, keep_file)
            return self.intake.plan([draft], first=self.scan_of(files)), files
        except BaseException:
            release(files)
            raise

    def scan_of(self, files: Sequence[PendingFile]) -> Draft | None:
        """Hold back files that are about to be stored, and return the scan to be stored with them, if they need one."""
        return None if self.scanning is None or not files else self.scanning.hold(files)

    # -- requests

    async def request(self, request: Request, handler: Handler, route: Route) -> Response:
        """Answer a request of an app of ours."""
        scope = request.scope
        uses = route.uses() or bool(scope["app"].dependency_overrides)
        concerned = self.admitting.concerns(request, route, uses=uses)
        # An endpoint that takes no tasks only queues what its response carries: a key is looked for unless it is a GET.
        has_key = not route.sees_to_keys and is_keyed(scope)
        if not uses and not concerned and (scope["method"] == "GET" or not has_key):
            response = await handler(request)
            if response.background is None:
                return response
            gathering = await self._gather(request, route)
            gathering.response = response
            return response
        # Before the gathering, which puts the commit on the same stack: what was promised holds until it is stored.
        opened = self.admitting.open(request, route) if concerned else None
        gathering = await self._gather(request, route)
        token = collecting.set(gathering)
        try:
            if opened is not None:
                gathering.admission = await opened.admit()
            if fields := route.upload_fields():
                handler = resolved(handler, fields, self)
            if has_key:  # around the other: a request whose uploads are gone is known by their ids
                handler = partial(self.keys.answer, handler, route, gathering)
            if opened is not None:
                response = await opened.answer(handler, self)
            else:
                response = await handler(request)
        finally:
            collecting.reset(token)
        gathering.response = response
        return response

    async def _gather(self, request: Request, route: Route) -> Gathering:
        loop = asyncio.get_running_loop()
        engine = self._engine or await self.running(loop)
        if engine.app_loop is not loop:
            engine.adopt_loop(loop)
        gathering = Gathering(self, request, strict=self._is_strict(route), live=False)
        gathering.put_on(request.scope["fastapi_function_astack"])
        return gathering

    async def websocket(self, websocket: WebSocket, app: Callable[[WebSocket], Any], route: Route) -> None:
        """Serve a WebSocket of an app of ours."""
        await self.running(asyncio.get_running_loop())
        token = collecting.set(Gathering(self, websocket, strict=self._is_strict(route), live=True))
        try:
            await app(websocket)
        finally:
            collecting.reset(token)

    def adopts(self, scope: Any) -> bool:
        """Tell whether plain background tasks of this request's app are ours."""
        return self._adopting(scope.get("app"))

    @property
    def refuses_plain(self) -> bool:
        """Whether a plain background task that cannot be stored is refused, instead of run unsaved."""
        return bool(self._strict)

    def href(self, scope: Any, id: str) -> str:
        """Return the path of a task's document as this request's client sees it."""
        return f"{self.base(scope)}/tasks/{id}"

    def base(self, scope: Any) -> str:
        """Return the path of our routes as this request's client sees it."""
        root = scope.get("app_root_path", scope.get("root_path", ""))
        if scope.get("app") is self.host and self.host is not None and scope.get("router") is not self.host.router:
            root = scope.get("root_path", "")  # the application with the status routes is itself mounted in another
        return f"{root}{self.prefix}"

    def run_unsaved(self, tasks: Sequence[UnsavedTask]) -> None:
        """Run unsaved tasks soon, on the application's loop."""
        loop = self.engine.for_tasks()
        for task in tasks:
            asyncio.run_coroutine_threadsafe(self.unsaved.run(task), loop)

    def _is_strict(self, route: Route) -> bool:
        return route.ours() if self._strict is None else self._strict

    # -- looking

    async def row(self, id: str) -> TaskRow:
        """Return a task's row.

        Raises:
            UnknownTask: There is none.
            Stopped: The program has stopped; looking must not start it again.
        """
        engine = None if self._stopped else self.engine
        try:
            found = None if engine is None else await engine.read(self.store.task, id)
        except RuntimeError:  # its threads have ended meanwhile
            if not self._stopped and not self.stopping:
                raise
            engine = None
        if engine is None:
            raise Stopped(
                f"the program has stopped before task {id} was seen to end. "
                "It goes on after the next start: ask for its result then, by its id."
            )
        if found is None:
            raise UnknownTask(task=id)
        return found

    async def file(self, id: str) -> File:
        """Return a stored file; see `Shelf.find`."""
        engine = await self.running(None)
        return await engine.read(engine.shelf.find, id)

    async def wait_for(self, ids: Sequence[str], *, timeout: float | None = None, retrying: bool = False) -> None:
        """Wait until tasks have ended, or no longer move by themselves soon, or the program stops.

        Args:
            ids: Their ids.
            timeout: Seconds at most.
            retrying: Wait for the ones that will be tried again later, too.
        """
        resting = FINAL if retrying else FINAL | {TaskState.RETRYING, TaskState.SCHEDULED}
        engine = self.engine
        try:
            async with asyncio.timeout(timeout):
                with engine.hub.listen() as listener:
                    for id in ids:
                        while (await self.row(id)).state not in resting and not engine.stopping:
                            await listener.wait(1.0)
        except TimeoutError:
            return

    def _reopen(self, id: str) -> Any:
        if (recent := self.storing.recent.pop(id)) is not None:
            return _as_stored(recent, recent.open(self.root))
        row = self.store.file(id)
        if row is None:
            raise MissingFile(id=id, name=None, path="row for it")
        if row.verdict not in (None, Verdict.CLEAN):
            check_verdict(row, self.store.finding(id))
        return self._open_stored(row)

    def _open_stored(self, row: Stored) -> UploadFile:
        stored = msgspec.convert(row, StoredFile, from_attributes=True)
        return _as_stored(stored, open_compared(stored, self.root))


def _as_stored(stored: StoredFile, file: BinaryIO) -> UploadFile:
    upload = as_upload(stored, file)
    setattr(upload, STORED_AS, stored.id)
    return upload
