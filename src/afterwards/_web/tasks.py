"""The `BackgroundTasks` that endpoints are given, and the handles it returns."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, cast

import fastapi
import msgspec
from starlette.background import BackgroundTask

from afterwards._domain.options import PLAIN_CALL, CallOptions
from afterwards._domain.tasks import FINAL, Failure, TaskState
from afterwards._domain.values import decode_result
from afterwards.errors import Stopped, TaskFailed

if TYPE_CHECKING:
    from afterwards._web.collecting import After, Gathering
    from afterwards._web.system import System

P = ParamSpec("P")

log = logging.getLogger("afterwards")


class Handle:
    """A task that was added: known by its id from now on, stored when the request is answered."""

    __slots__ = ("_gathering", "_system", "durable", "id")

    def __init__(
        self, system: "System", id: str, *, durable: bool = True, gathering: "Gathering | None" = None
    ) -> None:
        self._system = system
        self._gathering = gathering  # of the request that added it
        self.id = id
        self.durable = durable  # False: it could not be stored and is lost with the process

    @property
    def url(self) -> str:
        """The path of the task's document, below the application."""
        return f"{self._system.prefix}/tasks/{self.id}"

    async def state(self) -> TaskState:
        """Return the state the task is in.

        Raises:
            UnknownTask: It has not been stored (yet), or was deleted.
        """
        return (await self._system.row(self.id)).state

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for the end of the task and return what it returned.

        A streamed response that waits here for a task of its own request does not hold it back until its end.

        Args:
            timeout: Seconds to wait at most; None waits for ever.

        Raises:
            TaskFailed: It ended in another state than succeeded.
            TimeoutError: It had not ended in time. It goes on.
            Stopped: The program stops before it has ended. It goes on after the next start.
            UnknownTask: It has not been stored (yet), or was deleted.
        """
        if self._gathering is not None:
            self._gathering.begin()
        await self._system.wait_for([self.id], timeout=timeout, retrying=True)
        row = await self._system.row(self.id)
        if row.state not in FINAL:
            if self._system.stopping:
                raise Stopped(
                    f"the program is stopping and task {self.id} is still {row.state}. "
                    "It goes on after the next start: ask for its result then, by its id."
                )
            raise TimeoutError(f"task {self.id} is still {row.state} after {timeout:g} s")
        if row.state is not TaskState.SUCCEEDED:
            failure = None if row.error is None else msgspec.json.decode(row.error, type=Failure)
            raise TaskFailed(task=self.id, name=row.name, state=row.state.value, failure=failure)
        return decode_result(row.result or "null", self._system.engine.shelf.among(row.files))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield what an endpoint that returns the handle answers: its id and its URL."""
        yield "id", self.id
        yield "url", self.url

    def __repr__(self) -> str:
        return f"Handle(id={self.id!r}, durable={self.durable})"


class BackgroundTasks(fastapi.BackgroundTasks):
    """FastAPI's `BackgroundTasks`, kept: what is added is on disk before the response starts.

    Annotate a parameter with it in place of FastAPI's. One made by hand works where FastAPI's would: attached to a
    returned response.
    """

    is_durable = True

    def __init__(self, tasks: Any = None) -> None:
        super().__init__(tasks)
        self._gathering: Gathering | None = None
        self._own: System | None = None
        self.after: After | None = None
        self._called = False

    def add_task(  # type: ignore[override]
        self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle:
        """Add a call to be made after the response.

        The call is checked and its arguments are written down now, while the client can still be told.

        Raises:
            WrongArguments: The arguments do not fit the function.
            UnstorableFunction, UnstorableArgument: It could not be made again after a restart.
        """
        return self._add(PLAIN_CALL, func, args, kwargs)

    def options(
        self,
        *,
        delay: float | timedelta = 0.0,
        priority: int | None = None,
        at_most_once: bool = False,
        on_error: Literal["continue", "stop"] = "continue",
        parallel: bool = False,
    ) -> "Adder":
        """Say how the next call differs: `background_tasks.options(delay=60).add_task(...)`.

        Args:
            delay: Seconds before it may start, from 0.
            priority: Higher is claimed first; None takes the function's.
            at_most_once: Never run it again after an interruption.
            on_error: "stop" cancels the tasks that wait for this one when it does not succeed.
            parallel: Do not wait for the task added before it in the same request.
        """
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        if not 0 <= seconds < 3.2e9:
            raise ValueError(f"options(delay={delay!r}): seconds from 0, or a timedelta, are wanted here")
        if on_error not in ("continue", "stop"):
            raise ValueError(f'options(on_error={on_error!r}): "continue" or "stop" is wanted here')
        options = CallOptions(
            delay=seconds, priority=priority, at_most_once=at_most_once, on_error=on_error, parallel=parallel
        )
        return Adder(self, options)

    def _add(
        self, options: CallOptions, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Handle:
        if self._gathering is None:
            self.tasks.append(BackgroundTask(func, *args, **kwargs))
            return cast(Handle, None)
        added = self._gathering.add(func, args, kwargs, options)
        durable = not hasattr(added, "failure")
        return Handle(self._gathering.system, added.id, durable=durable, gathering=self._gathering)

    async def __call__(self) -> None:
        """Start what was stored, then run what was not; called after the response has been sent."""
        self._called = True
        if self.after is not None:
            await self.after()
        await super().__call__()

    def __del__(self) -> None:
        if self._gathering is None and self.tasks and not self._called:
            names = ", ".join(getattr(task.func, "__qualname__", repr(task.func)) for task in self.tasks)
            log.warning(
                "a BackgroundTasks() made by hand was dropped, so these tasks never ran: %s. "
                "Take it as a parameter of the endpoint (`background_tasks: BackgroundTasks`) instead.",
                names,
            )


class Adder:
    """`BackgroundTasks` with other options for one call."""

    __slots__ = ("_options", "_tasks")

    def __init__(self, tasks: BackgroundTasks, options: CallOptions) -> None:
        self._tasks = tasks
        self._options = options

    def add_task(self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Add a call; see `BackgroundTasks.add_task`."""
        return self._tasks._add(self._options, func, args, kwargs)


def injected(gathering: "Gathering") -> BackgroundTasks:
    """Make the object for one request."""
    tasks = BackgroundTasks()
    tasks._gathering = gathering
    return tasks
