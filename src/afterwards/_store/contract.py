"""What a store promises the engine, whichever database is behind it.

Writes are commands, handed over from any thread with `submit` and answered through a `Reply` once they
are on stable storage; a store may put everything that waits into one transaction. Reads are plain calls
that block briefly and are made on threads of their own. `tests/contract` runs the same suite on every store.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from afterwards._domain.files import FileKind, Verdict
from afterwards._domain.limits import Quota, Usage
from afterwards._domain.tasks import (
    AttemptRow,
    Event,
    NewTask,
    Note,
    Settlement,
    TaskRow,
    TaskState,
    WorkerInfo,
)
from afterwards._domain.uploads import Upload
from afterwards._store.keys import KeepAnswer, KeyCommand
from afterwards._store.upkeep import Judge, Prune, Purge, Purgeable, Recount
from afterwards._store.upload_commands import UploadCommand


class Stored(Protocol):
    """A file that is safe on disk, or small enough to travel inside its row."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def size(self) -> int: ...
    @property
    def content_type(self) -> str | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, str]]: ...
    @property
    def digest(self) -> str: ...
    @property
    def content(self) -> bytes | None: ...  # None: the bytes are in the files folder
    @property
    def kind(self) -> FileKind: ...
    @property
    def type(self) -> str | None: ...  # its media type, as its bytes say
    @property
    def owner(self) -> str | None: ...  # whose limits it counts for
    @property
    def kept_until(self) -> int | None: ...  # it stays at least this long; None: as long as an answer may take
    @property
    def verdict(self) -> Verdict | None: ...  # of a scanner; None: not asked


class Accept(msgspec.Struct, frozen=True, kw_only=True):
    """Store the tasks of one request, or none of them. Answer: None, or UnknownFile when a file is gone."""

    tasks: Sequence[NewTask]
    files: Sequence[Stored] = ()
    functions: Sequence[tuple[str, str]] = ()  # (name, signature) of functions seen for the first time
    late: bool = False  # the task before may have ended already: tasks are added one by one, as on a WebSocket
    key: KeepAnswer | None = None  # what the client will be told, under its idempotency key; KeyLost: nothing is stored
    quota: Quota | None = None  # decided once more, beside what other processes have stored: QuotaExceeded


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTasks:
    """Begin attempts of the most urgent queued tasks of these functions. Answer: list[Claim].

    The attempts and the new state are on stable storage before the answer, so nothing runs that is not on record.
    Also makes queued what has become due.
    """

    worker: str
    lanes: tuple[tuple[tuple[str, ...], int], ...]  # (function names, at most so many), of two kinds at most
    now: int


class Settle(msgspec.Struct, frozen=True):
    """Record how an attempt ended, with the files it made. Answer: None, or LeaseLost raised at the asker.

    An output that has no row is answered with UnknownFile. Whatever is refused stores nothing, files included.
    """

    settlement: Settlement
    followed: bool = False  # a hint: another task waits for this one's end
    files: Sequence[Stored] = ()  # new ones, safe on disk already
    outputs: Sequence[str] = ()  # ids of files that the task keeps from now on, new or not


class Tell(msgspec.Struct, frozen=True):
    """Record progress or a log line of a running attempt. Answer: None, or LeaseLost."""

    note: Note


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """Queue tasks that this worker held back until their response was sent. Answer: None."""

    worker: str
    ids: tuple[str, ...]
    now: int


@dataclass(frozen=True, slots=True)
class Register:
    """Make a worker known. Answer: None."""

    worker: WorkerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Know:
    """Record that a worker can run these functions. Answer: None."""

    worker: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """Prolong a worker's lease. Answer: True, or False when the worker has been given up for dead."""

    worker: str
    lease_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """Record that a worker was told to stop: what it still holds at its end is released, not interrupted."""

    worker: str
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """End a worker that is dead or silent and free the tasks and keys it held, and end uploads only it knew of.

    Answer: list[Rescued]. Of two that rescue the same worker, one gets None for an answer.
    """

    worker: str
    now: int
    reason: str  # "its process ended", for the record


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAgain:
    """Queue a final task again, with its counters at zero. Answer: the state it is in now, None if unknown."""

    id: str
    now: int


Command = (
    Accept
    | ClaimTasks
    | Settle
    | Tell
    | LetGo
    | Register
    | Know
    | Renew
    | Stopping
    | Rescue
    | RunAgain
    | Prune
    | Judge
    | Recount
    | Purge
    | KeyCommand
    | UploadCommand
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """What became of one attempt whose process is gone."""

    id: str
    name: str
    attempt: int
    state: TaskState


def is_patient(command: Command) -> bool:
    """Tell whether nobody waits for the answer, so that a store may hold a command back for a moment."""
    return isinstance(command, Tell) or (isinstance(command, Settle) and not command.followed)


class Reply:
    """Where the answer to a command goes. The store calls `deliver` once, from a thread of its own."""

    __slots__ = ("loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop  # deliver must be called there; None: on the store's thread

    def deliver(self, answer: Any) -> None:
        """Take the answer, or the exception."""
        raise NotImplementedError

    def dropped(self, answer: Any) -> None:
        """Take note, on the store's thread, of an answer that came after the loop was closed."""


class FutureReply(Reply):
    """Resolves an asyncio future on its own loop."""

    __slots__ = ("future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.future: asyncio.Future[Any] = loop.create_future()

    def deliver(self, answer: Any) -> None:
        """Resolve the future, unless its waiter has gone."""
        if self.future.done():
            return
        if isinstance(answer, BaseException):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class CallbackReply(Reply):
    """Calls a function on the store's thread: it must be short and must not raise."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[Any], None]) -> None:
        super().__init__()
        self._call = call

    def deliver(self, answer: Any) -> None:
        """Hand the answer on."""
        self._call(answer)


class ThreadReply(Reply):
    """Lets the calling thread wait."""

    __slots__ = ("_answer", "_ready")

    def __init__(self) -> None:
        super().__init__()
        self._ready = threading.Event()
        self._answer: Any = None

    def deliver(self, answer: Any) -> None:
        """Wake the waiting thread."""
        self._answer = answer
        self._ready.set()

    def wait(self) -> Any:
        """Return the answer or raise it."""
        self._ready.wait()
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which tasks a list shows: newest first, from `before` (an id) on."""

    state: TaskState | None = None
    name: str | None = None
    queue: str | None = None
    before: str | None = None
    limit: int = 50


class Store(Protocol):
    """A database that keeps tasks."""

    def submit(self, command: Command, reply: Reply) -> None:
        """Hand over a command from any thread; its answer is delivered when it is on stable storage.

        Delivered exceptions: LeaseLost, KeyLost, QuotaExceeded, CommandRefused, StorageFull, StorageUnsure,
        StoreBusy, Stopped.
        """
        ...

    def watch(self, changed: Callable[[bool], None]) -> None:
        """Call `changed(work)` on the store's thread after each commit; `work`: something was queued by it."""
        ...

    def version(self) -> int:
        """Return a number that differs when another process has committed since the last call. Cheap.

        It may differ after commits of this store too.
        """
        ...

    def task(self, id: str) -> TaskRow | None:
        """Return a task."""
        ...

    def tasks(self, wanted: Filter) -> list[TaskRow]:
        """Return a page of tasks, newest first."""
        ...

    def counts(self) -> dict[str, int]:
        """Return how many tasks there are by state; finished states are counted too."""
        ...

    def attempts(self, id: str) -> list[AttemptRow]:
        """Return the attempts of a task, first one first."""
        ...

    def events(self, after: int, *, task: str | None = None, limit: int = 1000) -> list[Event]:
        """Return events after a position, of one task or of all, oldest first."""
        ...

    def last_position(self) -> int:
        """Return the position of the newest event, 0 when there is none."""
        ...

    def next_due(self) -> int | None:
        """Return when the next scheduled or retrying task is due."""
        ...

    def functions(self) -> list[tuple[str, str]]:
        """Return (name, signature) of every function ever accepted."""
        ...

    def file(self, id: str) -> Stored | None:
        """Return a file's row, with its content when it is kept there."""
        ...

    def verdicts(self, ids: Sequence[str]) -> dict[str, Verdict | None]:
        """Return what a scanner said of each of these files that has a row."""
        ...

    def finding(self, id: str) -> str | None:
        """Return what a scanner said of a file."""
        ...

    def stored(self, owners: Sequence[str]) -> Mapping[str, Usage]:
        """Return how much is stored of each of these owners; "" stands for everybody."""
        ...

    def known_files(self, ids: Sequence[str]) -> set[str]:
        """Return which of these files have a row, or belong to an upload that is open."""
        ...

    def purgeable(self, wanted: Purge) -> Purgeable:
        """Return what a purge would delete now."""
        ...

    def stale_uploads(self, before: int) -> list[str]:
        """Return the open uploads to which nothing has come since a time."""
        ...

    def upload(self, id: str) -> Upload | None:
        """Return an upload."""
        ...

    def open_uploads(self, ids: Sequence[str]) -> set[str]:
        """Return which of these uploads are open."""
        ...

    def workers(self) -> list[WorkerInfo]:
        """Return every worker that has not been ended, and, with an empty `boot`, unknown ones that hold something."""
        ...

    def health(self) -> str | None:
        """Return why the store cannot take writes at present, or None."""
        ...

    def close(self) -> None:
        """Finish what was submitted, then let go of the database."""
        ...


async def ask(store: Store, command: Command) -> Any:
    """Submit a command and wait for its answer on the running loop."""
    reply = FutureReply(asyncio.get_running_loop())
    store.submit(command, reply)
    return await reply.future


def ask_blocking(store: Store, command: Command) -> Any:
    """Submit a command and block this thread until it is answered."""
    reply = ThreadReply()
    store.submit(command, reply)
    return reply.wait()
