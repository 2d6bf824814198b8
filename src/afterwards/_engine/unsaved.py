"""Tasks that could not be stored and run as the web framework would have run them.

They are lost with the process, and say so: one warning a function, and a record here for whoever asks by id. Their
exceptions are logged and kept, and never reach the server.
"""

import asyncio
import functools
import inspect
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import anyio.to_thread

from afterwards._domain.ids import new_id
from afterwards._domain.tasks import Failure, TaskState
from afterwards._engine.clock import Clock
from afterwards._engine.outcomes import describe

log = logging.getLogger("afterwards")

MOST = 1_000  # records kept


class UnsavedTask:
    """One such task."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], now: int) -> None:
        self.id = new_id()
        self.name = (
            f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__qualname__)}"
        )
        self.state = TaskState.QUEUED
        self.created_at = now
        self.started_at: int | None = None
        self.finished_at: int | None = None
        self.failure: Failure | None = None
        self.function = function
        self.args = args
        self.kwargs = kwargs


class Unsaved:
    """Runs them and remembers the last of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tasks: OrderedDict[str, UnsavedTask] = OrderedDict()
        self._warned: set[str] = set()

    def add(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], why: Exception
    ) -> UnsavedTask:
        """Remember a task that will run unsaved, and warn about its function once."""
        task = UnsavedTask(function, args, kwargs, self._clock.now())
        with self._lock:
            self._tasks[task.id] = task
            while len(self._tasks) > MOST:
                self._tasks.popitem(last=False)
            first = task.name not in self._warned
            self._warned.add(task.name)
        if first:
            log.warning(
                "task %s runs without being saved, and is lost if the process ends before it does: %s", task.name, why
            )
        return task

    def find(self, id: str) -> UnsavedTask | None:
        """Return a task that ran or runs in this process."""
        return self._tasks.get(id)

    async def run(self, task: UnsavedTask) -> None:
        """Run it on this loop, or, when it is a plain function, on a thread of those that FastAPI runs it on."""
        task.started_at, task.state = self._clock.now(), TaskState.RUNNING
        try:
            call = getattr(task.function, "__call__", None)  # noqa: B004 - an object may have an async __call__
            if inspect.iscoroutinefunction(task.function) or inspect.iscoroutinefunction(call):
                await task.function(*task.args, **task.kwargs)
            else:
                await anyio.to_thread.run_sync(functools.partial(task.function, *task.args, **task.kwargs))
            task.state = TaskState.SUCCEEDED
        except asyncio.CancelledError as error:
            task.state, task.failure = TaskState.CANCELLED, describe(error)
            raise
        except (Exception, SystemExit) as error:  # it belongs to nobody else; raised further it would end the server
            task.state, task.failure = TaskState.FAILED, describe(error)
            log.error("task %s failed; it was not saved and is not run again", task.name, exc_info=error)
        finally:
            task.finished_at = self._clock.now()
            task.function, task.args, task.kwargs = _gone, (), {}


def _gone() -> None:
    """What is left of a function after its task has ended, so that its arguments can be freed."""
