"""What a task is, and what passes between the program, the engine and the store.

Everything here is a value. Times are UTC microseconds since 1970 on the store's clock, because they
are compared and stored millions of times; the HTTP layer turns them into text.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from afterwards._domain.files import FileRole, Verdict


class TaskState(StrEnum):
    """Where a task stands. The words are the same in the API, the database, the command line and the logs."""

    WAITING = "waiting"  # for the task before it, or for the response of its own request to be sent
    SCHEDULED = "scheduled"  # its first run is due at a later time
    QUEUED = "queued"  # any process that knows the function may take it now
    RUNNING = "running"  # an attempt is on record and its process holds the lease
    RETRYING = "retrying"  # an attempt failed, the next one is due at a later time
    SUCCEEDED = "succeeded"  # the result is stored
    FAILED = "failed"  # the code raised and no retry is left; the error is stored
    QUARANTINED = "quarantined"  # too many attempts were interrupted; a person decides
    CANCELLED = "cancelled"  # it will not run (again)
    EXPIRED = "expired"  # its deadline passed before it could run


FINAL = frozenset(
    {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.QUARANTINED, TaskState.CANCELLED, TaskState.EXPIRED}
)


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task as `add_task` made it, ready to be stored."""

    id: str
    name: str
    arguments: str  # JSON, as `_domain/arguments.py` writes it
    signature: str  # over id, name and arguments, with the data directory's key
    created_at: int
    run_at: int
    state: TaskState = TaskState.QUEUED
    queue: str = "default"
    priority: int = 0  # higher runs first
    sequence: str | None = None  # shared by the tasks of one request
    after: str | None = None  # the task that must be final first
    followed: bool = False  # another task waits for this one
    on_error: str = "continue"  # "stop" cancels the tasks after this one when it does not succeed
    max_attempts: int = 1
    max_interruptions: int = 3
    attempt: int = 0  # 1 when the accepting process starts it at once
    worker: str | None = None  # who runs it, or who holds it back until its response is sent
    token: str | None = None
    started_at: int | None = None
    files: Sequence[str] = ()


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The right to run one attempt of a task and to settle it: the fence of every later write."""

    id: str
    name: str
    attempt: int  # from 1; grows by one with each claim and is never used again
    token: str  # random, fresh for each claim
    arguments: str
    signature: str
    created_at: int
    started_at: int
    failures: int = 0
    interruptions: int = 0
    max_attempts: int = 1
    max_interruptions: int = 3  # 1: at most once
    followed: bool = False


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an attempt did not succeed, as it is stored and shown."""

    type: str
    message: str
    traceback: str | None = None


class AttemptState(StrEnum):
    """How one attempt ended. Every state but RUNNING is final."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"  # the result is stored
    FAILED = "failed"  # the code raised; the error is kept on the attempt
    INTERRUPTED = "interrupted"  # its process died or went silent: nobody knows how far the code got
    RELEASED = "released"  # its process was told to stop and gave it back; not counted against it


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended and what follows for its task; written only while the claim still holds."""

    id: str
    attempt: int
    token: str
    outcome: AttemptState
    state: TaskState
    at: int
    run_at: int | None = None  # when the state is RETRYING
    result: str | None = None
    error: str | None = None  # a Failure as JSON


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something a running attempt tells: a log line, or how far it is."""

    id: str
    attempt: int
    token: str
    kind: str  # "progress" or "log"
    at: int
    data: str  # JSON


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A process that runs tasks, from its start to its proven end."""

    id: str
    host: str
    pid: int
    boot: str  # of this machine; a lease of another boot has ended
    started_at: int
    lease_until: int  # milliseconds since boot
    program: str = ""  # its command line, for people
    folder: str = ""  # where it was started: two programs seldom share one
    stopped_at: int | None = None  # it was told to stop; what it still held is released, not interrupted


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the store keeps it."""

    id: str
    name: str
    state: TaskState
    queue: str
    priority: int
    arguments: str
    signature: str
    attempt: int
    max_attempts: int
    failures: int
    interruptions: int
    created_at: int
    run_at: int
    started_at: int | None
    finished_at: int | None
    updated_at: int
    sequence: str | None
    after: str | None
    worker: str | None
    progress: str | None
    result: str | None
    error: str | None
    files: list["FileRow"] = []
    known: bool = True  # some living process knows the function


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file as its task shows it."""

    id: str
    name: str | None
    size: int
    content_type: str | None
    digest: str
    type: str | None = None  # as its bytes say
    role: FileRole = FileRole.INPUT
    verdict: Verdict | None = None


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt as the store keeps it."""

    number: int
    worker: str
    state: AttemptState
    started_at: int
    ended_at: int | None
    error: str | None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the durable log of everything that happened to tasks."""

    position: int
    task: str
    kind: str  # "state", "progress" or "log"
    at: int
    data: Any
