"""The status routes: what a client may ask of a task, and what only an admin may.

They belong to the application like its own routes: its middleware, its dependencies and its root path hold for them.
An id opens its own task; see `access.py` for the rest. No read of the store blocks the event loop.
"""

import asyncio
from contextlib import nullcontext
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import blake3
import msgspec
from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response

from afterwards._domain.artifacts import single_artifact
from afterwards._domain.documents import TaskDocument, failure, hidden, plain_result
from afterwards._domain.ids import is_id
from afterwards._domain.tasks import FINAL, TaskState
from afterwards._engine.engine import Engine
from afterwards._store.contract import Filter, RunAgain, ask
from afterwards._web import events
from afterwards._web.downloads import file_response
from afterwards._web.finding import Found, Source, View
from afterwards._web.leaving import is_stopping, while_wanted
from afterwards._web.problems import NOSNIFF
from afterwards._web.routing import Answers, Routing, content, refusal
from afterwards._web.system import System
from afterwards.errors import InvalidRequest, TaskFailed, TaskNotStored, TaskOpen, UnknownTask

LONGEST_WAIT = 60.0  # seconds of one long poll: what proxies commonly allow

Prefer = Annotated[list[str] | None, Header(description="`wait=20`: answer when the task has ended, or after 20 s.")]
IfNoneMatch = Annotated[str | None, Header()]
Traceback = Annotated[bool, Query(description="Also show where errors came from; for admins only.")]
# Not the enum itself: it would become a schema in the application's OpenAPI document, beside schemas of its own.
State = Annotated[str | None, Query(json_schema_extra={"enum": [*TaskState]})]
LastHeader = Annotated[str | None, Header(alias="Last-Event-ID", description="The newest `id` seen.")]
LastQuery = Annotated[str | None, Query(description="The same, for clients that cannot set headers.")]


class Tasks(msgspec.Struct, frozen=True, kw_only=True):
    """A page of tasks, newest first."""

    tasks: list[TaskDocument]


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be."""

    code: str
    message: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether tasks are accepted, and if not, why."""

    status: Literal["ready", "unavailable"]
    reasons: list[Reason]  # why it is unavailable
    warnings: list[Reason]  # what else somebody should look at


class Routes:
    """The answers of one installation."""

    def __init__(self, system: System, *, opens_files: bool) -> None:
        self._system = system
        self._opens_files = opens_files  # else only signed links do, and a result shows the file's document

    def view(self, request: Request, *, traceback: bool = False) -> View:
        """How the sender of a request sees tasks."""
        base = f"{request.scope.get('root_path', '')}{self._system.prefix}"
        return View(base=base, traceback=traceback, hide=self._system.hidden_folder, keep=self._system.settings.keep)

    async def task(
        self,
        id: str,
        request: Request,
        prefer: Prefer = None,
        if_none_match: IfNoneMatch = None,
        traceback: Traceback = False,
    ) -> Response:
        """Show a task, in whatever state it is. The id is all it takes."""
        return await self._task(id, request, prefer, if_none_match, traceback=False)

    async def task_with_traceback(
        self, id: str, request: Request, prefer: Prefer = None, if_none_match: IfNoneMatch = None
    ) -> Response:
        """Show a task with tracebacks, to an admin."""
        return await self._task(id, request, prefer, if_none_match, traceback=True)

    async def _task(
        self, id: str, request: Request, prefer: list[str] | None, if_none_match: str | None, *, traceback: bool
    ) -> Response:
        engine = self._system.engine
        source = Source(self._system, engine, id)
        found = await source.find()
        headers = {"Vary": "Prefer"}
        seconds = _wait(prefer or [])
        if seconds is not None:
            headers["Preference-Applied"] = f"wait={seconds:g}"
            if found.row.state not in FINAL:
                await while_wanted(_ended(source, engine, seconds), request.receive, engine)
                found = await source.find()
        if found.row.state not in FINAL:
            headers["Retry-After"] = "1"
        body = msgspec.json.encode(found.document(self.view(request, traceback=traceback)))
        return _tagged(body, if_none_match, headers)

    async def events(
        self,
        id: str,
        request: Request,
        header: LastHeader = None,
        last_event_id: LastQuery = None,
        traceback: Traceback = False,
    ) -> Response:
        """Stream what happened to a task and what happens from now on; 204 when it is over and all was seen."""
        return await self._events(id, header, last_event_id, self.view(request))

    async def events_with_tracebacks(
        self, id: str, request: Request, header: LastHeader = None, last_event_id: LastQuery = None
    ) -> Response:
        """Stream the same with tracebacks, to an admin."""
        return await self._events(id, header, last_event_id, self.view(request, traceback=True))

    async def _events(self, id: str, header: str | None, query: str | None, view: View) -> Response:
        engine = self._system.engine
        return await events.stream(Source(self._system, engine, id), engine, view, header or query)

    async def result(self, id: str, request: Request, if_none_match: IfNoneMatch = None) -> Response:
        """Return what the task came to: its one file, as `/files` gives it, or plain JSON. A conflict until it has."""
        found = await Source(self._system, self._system.engine, id).find()
        row = found.row
        if row.state not in FINAL:
            raise TaskOpen(task=id, state=row.state.value)
        if row.state is not TaskState.SUCCEEDED:
            raise TaskFailed(task=id, name=row.name, state=row.state.value, failure=failure(row.error))
        if not found.durable:
            raise TaskNotStored(task=id, problem="what it returned was not kept")
        if self._opens_files and (file := single_artifact(row)) is not None:
            return await file_response(self._system, request, file)
        shown = plain_result(row, base=self.view(request).base)
        return _tagged(msgspec.json.encode(shown), if_none_match, {})

    async def tasks(
        self,
        request: Request,
        state: State = None,
        name: str | None = None,
        queue: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        before: Annotated[str | None, Query(description="The id of the last task of the page before.")] = None,
    ) -> Response:
        """List tasks, newest first, to an admin."""
        engine, store = self._system.engine, self._system.store
        if state is not None and state not in list(TaskState):
            raise InvalidRequest(f"query state: one of {', '.join(TaskState)} is wanted here")
        if before is not None and not is_id(before):
            raise InvalidRequest("query before: it is not the id of a task")
        if before is not None and await engine.read(store.task, before) is None:
            raise UnknownTask(task=before)  # a page after it would be the first one again
        only = None if state is None else TaskState(state)
        wanted = Filter(state=only, name=name, queue=queue, before=before, limit=limit + 1)
        rows = await engine.read(store.tasks, wanted)
        view = self.view(request, traceback=True)
        shown = [Found(row=row, attempts=None).document(view) for row in rows[:limit]]
        headers = {**NOSNIFF, "Cache-Control": "no-store"}
        if len(rows) > limit:
            asked = {"state": state, "name": name, "queue": queue, "limit": limit, "before": rows[limit - 1].id}
            query = urlencode({key: value for key, value in asked.items() if value is not None})
            headers["Link"] = f'<{view.base}/tasks?{query}>; rel="next"'
        return Response(msgspec.json.encode(Tasks(tasks=shown)), 200, headers, "application/json")

    async def retry(self, id: str, request: Request) -> Response:
        """Run a task again that has ended, with its counters at zero, for an admin."""
        engine = self._system.engine
        source = Source(self._system, engine, id)
        found = await source.find()
        if not found.durable:
            raise TaskNotStored(task=id, problem="it cannot be run again")
        if found.row.state not in FINAL:
            raise TaskOpen(task=id, state=found.row.state.value)
        if await ask(self._system.store, RunAgain(id=id, now=engine.clock.now())) is None:
            raise UnknownTask(task=id)
        body = msgspec.json.encode((await source.find()).document(self.view(request, traceback=True)))
        return Response(body, 202, {**NOSNIFF, "Cache-Control": "no-store"}, "application/json")

    async def health(self) -> Response:
        """Tell whether tasks are accepted at present. Names no function and no folder."""
        engine = self._system.engine
        reasons, warnings = [], []
        if is_stopping(engine):
            reasons.append(Reason(code="stopping", message="the program has been told to stop"))
        if (trouble := self._system.store.health()) is not None:
            reasons.append(Reason(code="store", message=hidden(trouble, self._system.hidden_folder)))
        if missing := len(engine.registry.missing()):
            text = f"this program does not have {missing} of the functions that were queued; tasks of those would wait"
            warnings.append(Reason(code="missing_functions", message=text))
        health = Health(status="unavailable" if reasons else "ready", reasons=reasons, warnings=warnings)
        headers = {**NOSNIFF, "Cache-Control": "no-store"}
        if reasons:
            headers["Retry-After"] = "1"
        return Response(msgspec.json.encode(health), 503 if reasons else 200, headers, "application/json")


def add_routes(routing: Routing, system: System, *, opens_files: bool) -> None:
    """Give an application the status routes, before its own: a catch-all, or a file server at its root, hides nothing.

    Args:
        routing: Where to.
        system: Whose tasks they show.
        opens_files: Whether the id of a file, or of the task that came to it, opens it.
    """
    with routing.first():
        _add_task_routes(routing, Routes(system, opens_files=opens_files))


def _add_task_routes(routing: Routing, routes: Routes) -> None:
    add, traced = routing.add, routing.with_traceback
    same = {"description": "Nothing has changed since the `ETag` that was sent."}
    unknown: Answers = {404: refusal("No task has this id."), 422: refusal("A parameter means nothing here.")}
    refused: Answers = {401: refusal("The admin token is missing or wrong."), 403: refusal("Admins only.")}
    shown: Answers = {200: content("The task, in whatever state it is.", TaskDocument), 304: same}
    stream: Answers = {
        200: {"description": "Events `state`, `progress`, `log` and `done`.", "content": {"text/event-stream": {}}},
        204: {"description": "The task has ended and every event was seen."},
    }
    result: Answers = {
        200: content("What the task returned, or the one file that it came to.", Any),
        304: same,
        409: refusal("The task has no result (yet)."),
    }
    again: Answers = {
        202: content("The task, queued again.", TaskDocument),
        409: refusal("The task has not ended."),
    }
    listed: Answers = {200: content("A page of tasks; `Link: rel=next` leads on.", Tasks)}
    health: Answers = {200: content("Tasks are accepted.", Health), 503: content("They are not; see why.", Health)}
    add("/tasks/{id}", routes.task_with_traceback, "", {}, admin=True, kind=traced)
    add("/tasks/{id}/events", routes.events_with_tracebacks, "", {}, admin=True, kind=traced)
    add("/tasks/{id}", routes.task, "Show a task", {**shown, **unknown})
    add("/tasks/{id}/events", routes.events, "Stream a task's events", {**stream, **unknown})
    add("/tasks/{id}/result", routes.result, "Get a task's result", {**result, **unknown})
    add("/tasks/{id}/result", routes.result, "", {}, method="HEAD", kind=routing.plain)
    add(
        "/tasks/{id}/retry",
        routes.retry,
        "Run a task again",
        {**again, **unknown, **refused},
        method="POST",
        status=202,
        admin=True,
    )
    add("/tasks", routes.tasks, "List tasks", {**listed, **refused, **unknown}, admin=True)
    add("/health", routes.health, "Tell whether tasks are accepted", health)


def _tagged(body: bytes, if_none_match: str | None, headers: dict[str, str]) -> Response:
    """Answer with a document, or with 304 to a client that has it. Its hash is a strong tag: equal bytes, equal tag."""
    tag = f'"{blake3.blake3(body).hexdigest(length=16)}"'
    headers = {**NOSNIFF, "Cache-Control": "private, no-cache", "ETag": tag, **headers}
    known = [one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")]
    if tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, "application/json")


def _wait(prefer: list[str]) -> float | None:
    """Return the seconds of `Prefer: wait=SECONDS` (RFC 7240); what means nothing is ignored, as it asks for."""
    for preference in ",".join(prefer).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        text = value.strip().strip('"')
        if name.strip().lower() == "wait" and text.isascii() and text.isdecimal() and len(text) < 10:
            return min(float(text), LONGEST_WAIT)
    return None


async def _ended(source: Source, engine: Engine, seconds: float) -> None:
    """Return when a task is final, or when the time has passed."""
    pause = 0.0
    try:
        async with asyncio.timeout(seconds):
            with engine.hub.listen() if source.tells else nullcontext() as listener:
                while (await source.find()).row.state not in FINAL:
                    await events.news(listener, seconds, pause)
                    pause = min(events.LONGEST_PAUSE, pause + 0.02)
    except TimeoutError:
        return
