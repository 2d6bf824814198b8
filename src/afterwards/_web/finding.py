"""Finds a task wherever it is: in the store, or among those that run unsaved in this process."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from afterwards._domain.documents import TaskDocument, document
from afterwards._domain.ids import is_id
from afterwards._domain.retention import Keep
from afterwards._domain.tasks import FINAL, AttemptRow, Event, TaskRow, TaskState
from afterwards._engine.engine import Engine
from afterwards._engine.unsaved import UnsavedTask
from afterwards._store.contract import Store
from afterwards.errors import UnknownTask

if TYPE_CHECKING:
    from afterwards._web.system import System


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a reader sees tasks."""

    base: str  # what links begin with
    traceback: bool = False  # an admin asked for it
    hide: str = ""  # a folder of the server that no text may name
    keep: Keep | None = None  # how long ended tasks stay


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A task with its attempts, as it was at one moment."""

    row: TaskRow
    attempts: list[AttemptRow] | None
    durable: bool = True

    def document(self, view: View) -> TaskDocument:
        """Describe it to a reader."""
        return document(
            self.row,
            base=view.base,
            attempts=self.attempts,
            durable=self.durable,
            traceback=view.traceback,
            hide=view.hide,
            keep=view.keep if self.durable else None,
        )


class Source:
    """One task, to be looked at again and again. The reads never block the running loop."""

    def __init__(self, system: "System", engine: Engine, id: str) -> None:
        self.id = id
        self._engine = engine
        self._store = system.store
        self._unsaved = system.unsaved.find(id)

    async def find(self) -> Found:
        """Return the task as it is now.

        Raises:
            UnknownTask: There is none of this id, or none any more.
        """
        if self._unsaved is not None:
            return Found(row=_row(self._unsaved), attempts=[], durable=False)
        found = await self._engine.read(_find, self._store, self.id) if is_id(self.id) else None
        if found is None:
            raise UnknownTask(task=self.id[:80])
        return found

    async def events(self, after: int, limit: int) -> list[Event]:
        """Return what happened to it after a position of the log, oldest first."""
        if self._unsaved is not None:
            return [event for event in _events(self._unsaved) if event.position > after]
        return await self._engine.read(lambda: self._store.events(after, task=self.id, limit=limit))

    async def reach(self, position: int) -> int:
        """Return the position, or 0 when the log does not reach so far: it was one of another data directory."""
        if self._unsaved is not None or position == 0:
            return position
        return position if position <= await self._engine.read(self._store.last_position) else 0

    @property
    def tells(self) -> bool:
        """Tell whether its changes are commits that wake a listener; otherwise it must be looked at."""
        return self._unsaved is None


def _find(store: Store, id: str) -> Found | None:
    """Read a task and then its attempts. Of one that was claimed in between, the new attempt is left out."""
    row = store.task(id)
    if row is None:
        return None
    found = Found(row=row, attempts=[])
    if row.attempt == 0:
        return found
    return replace(found, attempts=[one for one in store.attempts(id) if one.number <= row.attempt])


def _row(task: UnsavedTask) -> TaskRow:
    now = task.finished_at or task.started_at or task.created_at
    return TaskRow(
        id=task.id,
        name=task.name,
        state=_state(task),
        queue="default",
        priority=0,
        arguments="",
        signature="",
        attempt=0 if task.started_at is None else 1,
        max_attempts=1,
        failures=int(task.failure is not None),
        interruptions=0,
        created_at=task.created_at,
        run_at=task.created_at,
        started_at=task.started_at,
        finished_at=task.finished_at,
        updated_at=now,
        sequence=None,
        after=None,
        worker=None,
        progress=None,
        result=None,
        error=None if task.failure is None else msgspec.json.encode(task.failure).decode(),
    )


def _state(task: UnsavedTask) -> TaskState:
    """Its state and its end are set one after the other on another thread; only together they are final."""
    if task.finished_at is None:
        return TaskState.QUEUED if task.started_at is None else TaskState.RUNNING
    return task.state if task.state in FINAL else TaskState.CANCELLED  # with the program that it ran in


def _events(task: UnsavedTask) -> list[Event]:
    """What a log would say of it, with positions of its own."""
    row = _row(task)
    past = [(TaskState.QUEUED, 0, row.created_at), (TaskState.RUNNING, 1, row.started_at)]
    if row.state in FINAL:
        past.append((row.state, row.attempt, row.finished_at))
    return [
        Event(position=place, task=task.id, kind="state", at=at, data={"state": state, "attempt": attempt})
        for place, (state, attempt, at) in enumerate(past, 1)
        if at is not None
    ]
