"""Gathers the tasks that one request adds, stores them before its response starts, and starts them after it.

A request that raises, fails validation or whose function-scoped dependencies fail leaves nothing behind. Once stored,
the tasks run whatever becomes of the response. After the commit, and on a WebSocket, where there is no answer to wait
for, a task is stored the moment it is added.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import HTTPException
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.requests import HTTPConnection
from starlette.responses import Response

from afterwards._domain.options import CallOptions
from afterwards._engine.intake import Draft, Plan
from afterwards._engine.unsaved import UnsavedTask
from afterwards._files.pending import PendingFile
from afterwards._files.promotion import demote, promote
from afterwards._web.uploads import keep
from afterwards.errors import HTTP_STATUS, Stopped, StorageFull, StorageUnsure, StoreBusy, Unstorable

if TYPE_CHECKING:
    from afterwards._web.system import System

log = logging.getLogger("afterwards")


class Gathering:
    """The tasks of one request or WebSocket."""

    def __init__(self, system: "System", connection: HTTPConnection, *, strict: bool, live: bool) -> None:
        self.system = self._system = system
        self._connection = connection
        self._strict = strict
        self._live = live  # store each task when it is added
        self._injected: StarletteBackgroundTasks | None = None
        self._drafts: list[Draft] = []
        self._files: list[PendingFile] = []
        self._unsaved: list[UnsavedTask] = []
        self._plan: Plan | None = None
        self._last: str | None = None
        self.response: Response | None = None

    def make(self) -> StarletteBackgroundTasks:
        """Return the object that FastAPI injects for this request."""
        if self._injected is None:
            self._injected = self._system.tasks_class(self)
        return self._injected

    def add(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Draft | UnsavedTask:
        """Check a call and keep it until the commit; afterwards, store it at once."""
        system = self._system
        try:
            draft = system.intake.draft(function, args, kwargs, options, self._keep)
        except Unstorable as error:
            if self._strict:
                raise
            unsaved = system.unsaved.add(function, args, kwargs, error)
            if self._live:
                system.run_unsaved([unsaved])
            else:
                self._unsaved.append(unsaved)
            return unsaved
        except Stopped as error:
            raise HTTPException(HTTP_STATUS[error.code], str(error), headers={"Retry-After": "1"}) from error
        if self._live:
            self._store_now(draft)
        else:
            self._drafts.append(draft)
        return draft

    def _keep(self, value: object, function: str) -> PendingFile | None:
        kept = keep(value, self._system.staging, function=function, argument="an argument")
        if kept is not None:
            self._files.append(kept)
        return kept

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """End the request's handler: commit when nothing raised, drop everything when something did."""
        if error is None and self.response is not None:
            await self.commit(self.response)
        else:
            self._live = True
            self._drop()

    def put_on(self, stack: AsyncExitStack) -> None:
        """Come last on FastAPI's stack of function-scoped exits."""
        stack.push_async_exit(self)

    async def commit(self, response: Response) -> None:
        """Store what was added. What the response itself carries is stored too, where it is ours to store."""
        self._adopt(response)
        self._live = True
        if self._drafts:
            streamed = type(response).__call__ is not Response.__call__
            try:
                await self._store(held=streamed)
            except (StorageFull, StorageUnsure, StoreBusy, Stopped) as error:
                headers = {"Retry-After": "1"}
                raise HTTPException(HTTP_STATUS[error.code], str(error), headers=headers) from error
            for draft in self._drafts:
                link = f'<{self._system.href(self._connection.scope, draft.id)}>; rel="status"'
                response.raw_headers.append((b"link", link.encode("latin-1")))
        if self._drafts or self._unsaved:
            self._hook(response)

    async def _store(self, *, held: bool) -> None:
        plan = self._system.intake.plan(self._drafts, held=held, open=True)
        self._last = self._drafts[-1].id
        if not self._files:
            await self._system.intake.store(plan)
        else:
            try:
                stored = await asyncio.get_running_loop().run_in_executor(
                    self._system.promoters, promote, self._files, self._system.root
                )
            except BaseException:
                plan.give_up()
                self._drop()
                raise
            try:
                await self._system.intake.store(plan, stored)
            except (StorageFull, StoreBusy, Stopped):
                demote(self._files)
                raise
            finally:
                self._release()
        self._plan = plan

    def _store_now(self, draft: Draft) -> None:
        """Store one task while the caller waits: there is no later moment at which it could be told."""
        plan = self._system.intake.plan([draft], after=None if draft.options.parallel else self._last, open=True)
        stored = promote(self._files, self._system.root) if self._files else []
        try:
            self._system.intake.store_blocking(plan, stored, late=True)
        finally:
            self._release()
        self._last = draft.id
        plan.start()

    def _adopt(self, response: Response) -> None:
        """Take over plain background tasks that the response carries, where the app's plain tasks are ours."""
        background = response.background
        if background is None or background is self._injected or not self._system.adopts(self._connection.scope):
            return
        if isinstance(background, StarletteBackgroundTasks):
            given = list(background.tasks)
        elif type(background) is BackgroundTask:
            given = [background]
        else:
            return
        response.background = None
        for task in given:
            self.add(task.func, task.args, task.kwargs, CallOptions())

    def _hook(self, response: Response) -> None:
        own = response.background
        after = After(self._system, self._plan, self._unsaved, in_process=_in_process(self._connection.scope))
        if own is None or own is self._injected:
            response.background = after
        else:
            response.background = _Both(after, own)
        if isinstance(self._injected, StarletteBackgroundTasks):
            self._injected.after = after  # type: ignore[attr-defined]

    def _drop(self) -> None:
        self._drafts = []
        self._unsaved = []
        self._release()

    def _release(self) -> None:
        files, self._files = self._files, []
        for file in files:
            file.release()


class After(BackgroundTask):
    """What happens when the response has been sent: the stored tasks start.

    Should nobody call it (the client left in the middle of a stream, the server failed), the tasks start when it is
    dropped: they are stored, and somebody was told so.
    """

    def __init__(self, system: "System", plan: Plan | None, unsaved: list[UnsavedTask], *, in_process: bool) -> None:
        self._system = system
        self._plan = plan
        self._unsaved = unsaved
        self._in_process = in_process

    async def __call__(self) -> None:
        """Start everything; within the same process as the client, as in tests, also wait for its end."""
        plan, self._plan = self._plan, None
        unsaved, self._unsaved = self._unsaved, []
        if plan is not None:
            plan.start()
        for task in unsaved:
            await self._system.unsaved.run(task)
        if self._in_process and plan is not None:
            await self._system.wait_for([task.id for task in plan.tasks])

    def __del__(self) -> None:
        if self._plan is not None:
            self._plan.start()
        if self._unsaved:
            self._system.run_unsaved(self._unsaved)


class _Both(BackgroundTask):
    """Our start, then what the endpoint's own response asked for."""

    def __init__(self, after: After, own: Callable[[], Any]) -> None:
        self._after = after
        self._own = own

    async def __call__(self) -> None:
        await self._after()
        await self._own()


def _in_process(scope: Any) -> bool:
    """Tell whether the client is in this process: test clients name no ASGI specification, servers do."""
    return "spec_version" not in scope.get("asgi", {})


