"""Gathers the tasks that one request adds, stores them before its response starts, and starts them after it.

A request that raises, fails validation or whose function-scoped dependencies fail leaves nothing behind. Once stored,
the tasks run whatever becomes of the response. After the commit, and on a WebSocket, where there is no answer to wait
for, a task is stored the moment it is added.
"""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import HTTPException
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.requests import HTTPConnection
from starlette.responses import Response

from afterwards._domain.limits import Quota
from afterwards._domain.options import CallOptions
from afterwards._engine.intake import Draft, Pending, Plan
from afterwards._engine.unsaved import UnsavedTask
from afterwards._files.pending import PendingFile
from afterwards._web.admission import Admission
from afterwards._web.artifacts import taken
from afterwards._web.handing import keep
from afterwards._web.keys import Slot
from afterwards._web.misuse import refuse_bytes_for_uploads
from afterwards._web.problems import plain
from afterwards._web.refusing import refused
from afterwards._web.storing import release
from afterwards._web.tasks import injected
from afterwards.errors import (
    HTTP_STATUS,
    KeyLost,
    QuotaExceeded,
    Stopped,
    StorageFull,
    StorageUnsure,
    StoreBusy,
    TooManyOpenFiles,
    UnknownFile,
    Unstorable,
)

if TYPE_CHECKING:
    from afterwards._web.system import System

log = logging.getLogger("afterwards")

_GONE = (
    "File {file}, which a task of this request was to take, was deleted while the request was being answered. "
    "Nothing of the request was stored. Upload the file again, then send the request again."
)
MOST_LINKS = 16  # in one answer: many clients and proxies refuse one with more than a hundred headers, or 8 KiB of them


class Gathering:
    """The tasks of one request or WebSocket."""

    def __init__(self, system: "System", connection: HTTPConnection, *, strict: bool, live: bool) -> None:
        self.system = system
        self._connection = connection
        self._strict = strict
        self._live = live  # store each task when it is added
        self._injected: StarletteBackgroundTasks | None = None
        self._drafts: list[Draft] = []
        self._files: list[PendingFile] = []
        self._unsaved: list[UnsavedTask] = []
        self._after: After | None = None  # once the tasks are stored
        self._last: str | None = None
        self.response: Response | None = None
        self.slot: Slot | None = None  # of its idempotency key, where it has one
        self.admission: Admission | None = None  # of the files that the request brought

    def make(self) -> StarletteBackgroundTasks:
        """Return the object that FastAPI injects for this request."""
        if self._injected is None:
            self._injected = injected(self)
        return self._injected

    def add(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Draft | UnsavedTask:
        """Check a call and keep it until the commit; afterwards, store it at once."""
        system = self.system
        try:
            draft = system.intake.draft(function, args, kwargs, options, self._keep)
            if self._strict:
                refuse_bytes_for_uploads(function, draft.known.name, args, kwargs)
        except Unstorable as error:
            if self._strict:
                raise
            unsaved = system.unsaved.add(function, args, kwargs, error)
            if not self._live:
                self._unsaved.append(unsaved)
            elif self._after is None or not self._after.keep_unsaved(unsaved):
                system.run_unsaved([unsaved])
            return unsaved
        except Stopped as error:
            raise HTTPException(HTTP_STATUS[error.code], str(error), headers={"Retry-After": "1"}) from error
        if self._live:
            self._store_now(draft)
        else:
            self._drafts.append(draft)
        return draft

    def begin(self) -> None:
        """Start what is held back until the response has been sent."""
        if self._after is not None:
            self._after.start()

    def _keep(self, value: object, function: str) -> Pending | None:
        if (stored := taken(value, self.system.engine.shelf, function=function, argument="(a file)")) is not None:
            return stored
        kept = keep(value, self.system.staging, function=function, argument="(an upload)")
        if kept is not None:
            self._files.append(kept)
            if self.admission is not None:
                kept.owner = self.admission.owner
        return kept

    async def _leave(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """End the request's handler: commit when nothing raised, drop everything when something did."""
        try:
            if error is None and self.response is not None:
                await self.commit(self.response)
            else:
                self._live = True
                self._drop()
        finally:
            if self.slot is not None:
                await self.slot.leave()
                self.slot = None
        # The two would keep each other, and the response, until the garbage collector comes by.
        self.response = self._injected = None

    def put_on(self, stack: AsyncExitStack) -> None:
        """Come last on FastAPI's stack of function-scoped exits."""
        stack.push_async_exit(self._leave)

    async def commit(self, response: Response) -> None:
        """Store what was added. What the response itself carries is stored too, where it is ours to store."""
        if type(response.background) is After:
            response.background.take_off(response)  # an earlier request was answered with the same object
        own = response.background
        try:
            self._adopt(response)
        except BaseException:
            self._drop()
            raise
        self._live = True
        streamed = type(response).__call__ is not Response.__call__
        plan = None
        if self._drafts:
            try:
                plan = await self._store(response, held=streamed)
            except (QuotaExceeded, StorageFull, TooManyOpenFiles) as error:
                raise refused(self._connection, error) from error  # another process has used up the room meanwhile
            except StorageUnsure as error:
                raise refused(self._connection, error, late=True) from error
            except UnknownFile as error:
                raise HTTPException(410, _GONE.format(file=error.file)) from error
            except (StoreBusy, Stopped, KeyLost) as error:
                raise plain(error, self.system.hidden_folder) from error
        if plan is not None or self._unsaved or (streamed and self._injected is not None):
            self._hook(response, plan, own)

    async def _store(self, response: Response, *, held: bool) -> Plan:
        key = None if self.slot is None else await self.slot.part(response, self._links())
        plan = self.system.intake.plan(self._drafts, held=held, first=self.system.scan_of(self._files))
        plan.key = key
        self._last = self._drafts[-1].id  # what is added later, by a stream or an exit, comes after it
        files, self._files = self._files, []
        plan.quota = self._quota
        await self.system.storing.store(plan, files)
        if self.slot is not None:
            self.slot.kept()
        return plan

    def _store_now(self, draft: Draft) -> None:
        """Store one task while the caller waits: there is no later moment at which it could be told."""
        after = self._after if self._after is not None and not self._after.begun else None
        before = None if draft.options.parallel else self._last
        first = self.system.scan_of(self._files)
        plan = self.system.intake.plan([draft], after=before, held=after is not None, first=first)
        files, self._files = self._files, []
        plan.quota = self._quota
        self.system.storing.store_blocking(plan, files, late=True)
        self._last = draft.id
        if after is None or not after.keep(plan):
            plan.start()

    @property
    def _quota(self) -> Quota | None:
        """What must still hold when files are stored that the request brought."""
        quota = self.system.admitting.settings.quota
        return quota if self.admission is not None and quota.asks else None

    def _adopt(self, response: Response) -> None:
        """Take over plain background tasks, where the app's are ours: of the response, and put on the injected list."""
        injected, background = self._injected, response.background
        given: list[BackgroundTask] = []
        if injected is not None and injected.tasks:
            given += injected.tasks
            injected.tasks.clear()
        if background is not None and background is not injected and self.system.adopts(self._connection.scope):
            if isinstance(background, StarletteBackgroundTasks):
                given += background.tasks
                response.background = None
                if hasattr(background, "_called"):  # one of ours, made by hand, has found its way
                    background._called = True
            elif type(background) is BackgroundTask:
                given.append(background)
                response.background = None
        if given:
            self._strict = self.system.refuses_plain  # they never asked to be stored
            for task in given:
                self.add(task.func, task.args, task.kwargs, CallOptions())

    def _hook(self, response: Response, plan: Plan | None, own: BackgroundTask | None) -> None:
        scope, injected = self._connection.scope, self._injected
        rest = response.background
        self._after = after = After(
            self.system,
            plan,
            self._unsaved,
            own=None if own is injected else own,
            rest=None if rest is injected else rest,
            in_process=_in_process(scope),
        )
        response.background = after
        if isinstance(injected, StarletteBackgroundTasks):
            injected.after = after  # type: ignore[attr-defined]  # ours has it; FastAPI's takes it like any object
        for link in self._links():
            after.put_link(response, link)
        # Whatever becomes of the response, the request's own stack is left when it is over.
        scope["fastapi_inner_astack"].callback(after.start)

    def _links(self) -> list[str]:
        scope = self._connection.scope
        return [f'<{self.system.href(scope, draft.id)}>; rel="status"' for draft in self._drafts[:MOST_LINKS]]

    def _drop(self) -> None:
        self._drafts = []
        self._unsaved = []
        files, self._files = self._files, []
        release(files)


class After(BackgroundTask):
    """What happens when the response has been sent: the stored tasks start, then comes what the response asked for.

    Should nobody call it (the client left in the middle of a stream, the server failed), the tasks start at the end
    of the request all the same: they are stored, and somebody was told so.
    """

    def __init__(
        self,
        system: "System",
        plan: Plan | None,
        unsaved: list[UnsavedTask],
        *,
        own: BackgroundTask | None,
        rest: BackgroundTask | None,
        in_process: bool,
    ) -> None:
        self._system = system
        self._plans = [] if plan is None else [plan]
        self._unsaved = unsaved
        self._own = own  # what the response carried when the endpoint returned it
        self._rest = rest  # what of it is not ours to store
        self._in_process = in_process
        self._links: list[tuple[bytes, bytes]] = []
        self.begun = False

    def keep(self, plan: Plan) -> bool:
        """Start a plan with the others; False when they have been started."""
        if not self.begun:
            self._plans.append(plan)
        return not self.begun

    def keep_unsaved(self, task: UnsavedTask) -> bool:
        """Run a task with the others; False when they have been started."""
        if not self.begun:
            self._unsaved.append(task)
        return not self.begun

    def put_link(self, response: Response, link: str) -> None:
        """Tell the client where a task can be followed."""
        header = (b"link", link.encode("latin-1"))
        self._links.append(header)
        response.raw_headers.append(header)

    def take_off(self, response: Response) -> None:
        """Make a response again what it was: programs return one object from many requests.

        The header list is replaced, not changed: the earlier request's answer may still be on its way with it.
        """
        response.background = self._own
        response.raw_headers = [header for header in response.raw_headers if header not in self._links]
        vars(response).pop("_headers", None)  # starlette's view of the list

    async def __call__(self) -> None:
        """Start everything; within the same process as the client, as in tests, also wait for its end."""
        plans, unsaved = self._begin()
        for task in unsaved:
            await self._system.unsaved.run(task)
        if self._in_process and plans:
            await self._system.wait_for([task.id for plan in plans for task in plan.tasks])
        if self._rest is not None:
            await self._rest()

    def start(self) -> None:
        """Start what nobody has started. Does not wait."""
        _, unsaved = self._begin()
        if unsaved:
            self._system.run_unsaved(unsaved)

    def _begin(self) -> tuple[list[Plan], list[UnsavedTask]]:
        self.begun = True
        plans, self._plans = self._plans, []
        unsaved, self._unsaved = self._unsaved, []
        for plan in plans:
            plan.start()
        return plans, unsaved


def _in_process(scope: Any) -> bool:
    """Tell whether the client is in this process: test clients name no ASGI specification, servers do."""
    return "spec_version" not in scope.get("asgi", {})
