"""The task document: what people and programs see of a task, the same over HTTP, in events and on the command line.

It shows no arguments, no token and no worker. The traceback is left out unless the reader may see it, and so is
every mention of a folder on the server that the caller names in `hide`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from afterwards._domain.files import FileRole
from afterwards._domain.retention import Keep
from afterwards._domain.tasks import FINAL, AttemptRow, AttemptState, Failure, FileRow, TaskRow, TaskState
from afterwards._domain.values import to_plain
from afterwards.errors import DamagedArguments

HIDDEN = "…"  # in place of a folder's name

Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]  # UTC, microseconds, with a Z

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_failure = msgspec.json.Decoder(Failure)


class ProgressDocument(msgspec.Struct, frozen=True, kw_only=True):
    """How far a task is, in its own words."""

    done: int | float
    total: int | float | None = None
    unit: str | None = None
    message: str | None = None


class FileDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file that belongs to a task."""

    id: str
    name: str | None
    href: str
    size: int
    type: str | None  # as its bytes say, else as its sender or its maker said
    digest: str
    role: FileRole
    expires_at: Time | None  # it stays at least until then; None: its task has not ended


class AttemptDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a task."""

    number: int
    state: AttemptState
    started_at: Time
    ended_at: Time | None
    error: Failure | None


class LinksDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Where to ask on."""

    self: str
    events: str
    result: str


class TaskDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a reader is shown of a task."""

    id: str
    name: str
    state: TaskState
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    interruptions: int
    progress: ProgressDocument | None
    created_at: Time
    run_at: Time
    started_at: Time | None
    finished_at: Time | None
    expires_at: Time | None  # when it is deleted; None: it has not ended, or the reader cannot know
    result: Any
    error: Failure | None
    files: list[FileDocument]
    sequence: str | None
    durable: bool
    waiting_for: str | None
    links: LinksDocument
    attempts: list[AttemptDocument] | msgspec.UnsetType = msgspec.UNSET


_progress = msgspec.json.Decoder(ProgressDocument)


def document(
    row: TaskRow,
    *,
    base: str,
    attempts: Sequence[AttemptRow] | None = None,
    durable: bool = True,
    traceback: bool = False,
    hide: str = "",
    keep: Keep | None = None,
) -> TaskDocument:
    """Describe a task.

    Args:
        row: The task as it is stored.
        base: What its links begin with, such as "/afterwards".
        attempts: Its attempts, first one first; None leaves the list out of the document.
        durable: False: it was not stored and is lost with its process.
        traceback: Show where in the program an error came from.
        hide: A folder of the server that no text may name; "" hides nothing.
        keep: How long the program keeps ended tasks; None where that is not known.
    """

    def error_of(text: str | None) -> Failure | None:
        return failure(text, traceback=traceback, hide=hide)

    error = error_of(row.error)
    try:
        result = None if row.result is None else plain_result(row, base=base)
    except DamagedArguments as damaged:
        result, error = None, Failure(type=damaged.code, message=str(damaged))
    shown: list[AttemptDocument] | msgspec.UnsetType = msgspec.UNSET
    if attempts is not None:
        shown = [_attempt(one, error_of(one.error)) for one in attempts]
    own = f"{base}/tasks/{row.id}"
    until = None if keep is None else keep.task_until(row.state, row.finished_at)
    expires_at = None if until is None else moment(until)
    return TaskDocument(
        id=row.id,
        name=row.name,
        state=row.state,
        queue=row.queue,
        priority=row.priority,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        interruptions=row.interruptions,
        progress=_read_progress(row.progress),
        created_at=moment(row.created_at),
        run_at=moment(row.run_at),
        started_at=None if row.started_at is None else moment(row.started_at),
        finished_at=None if row.finished_at is None else moment(row.finished_at),
        expires_at=expires_at,
        result=result,
        error=error,
        files=[_file(one, base, expires_at) for one in row.files],
        sequence=row.sequence,
        durable=durable,
        waiting_for=waiting_for(row),
        links=LinksDocument(self=own, events=f"{own}/events", result=f"{own}/result"),
        attempts=shown,
    )


def plain_result(row: TaskRow, *, base: str) -> object:
    """What a task returned as plain JSON, each file in it as its document. Raises DamagedArguments."""
    shown = {}
    for one in row.files if '"$stored"' in (row.result or "") else ():
        file = msgspec.to_builtins(_file(one, base, None))
        del file["role"], file["expires_at"]
        shown[one.id] = file
    return to_plain(row.result or "null", shown)


def moment(time: int) -> str:
    """Write a stored time, such as 2026-11-30T12:00:00.000000Z."""
    try:
        at = _EPOCH + timedelta(microseconds=time)
    except OverflowError:  # a row changed by hand: it must not take the others of a list along
        at = datetime.max.replace(tzinfo=UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _read_progress(text: str | None) -> ProgressDocument | None:
    try:
        return None if text is None else _progress.decode(text)
    except msgspec.DecodeError:
        return None


def failure(text: str | None, *, traceback: bool = False, hide: str = "") -> Failure | None:
    """Read a stored error, without its traceback unless the reader may see it."""
    if text is None:
        return None
    try:
        found = _failure.decode(text)
    except msgspec.DecodeError as damage:
        found = Failure(type="damaged", message=f"what is stored of this error cannot be read: {damage}")
    if traceback:
        return found
    return Failure(type=found.type, message=hidden(found.message, hide))


def hidden(text: str, folder: str) -> str:
    """Take a folder's name out of a text."""
    return text.replace(folder, HIDDEN) if folder else text


def waiting_for(row: TaskRow) -> str | None:
    """Say what a task that does not run is waiting for; None when it runs or has ended."""
    if row.state in FINAL or row.state is TaskState.RUNNING:
        return None
    if row.state is TaskState.WAITING:
        return "its response to be sent" if row.after is None else f"the end of task {row.after}"
    if row.state in (TaskState.SCHEDULED, TaskState.RETRYING):
        return f"its due time, {moment(row.run_at)}"
    if not row.known:
        return f"a program that has the function {row.name}"
    return "a free place in a program that runs its function"


def _attempt(row: AttemptRow, error: Failure | None) -> AttemptDocument:
    return AttemptDocument(
        number=row.number,
        state=row.state,
        started_at=moment(row.started_at),
        ended_at=None if row.ended_at is None else moment(row.ended_at),
        error=error,
    )


def _file(row: FileRow, base: str, expires_at: str | None) -> FileDocument:
    return FileDocument(
        id=row.id,
        name=row.name,
        href=f"{base}/files/{row.id}",
        size=row.size,
        type=row.type or row.content_type,
        digest=row.digest,
        role=row.role,
        expires_at=expires_at,
    )


def schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a document in one piece, with nothing in it that refers to a place outside."""
    (top,), parts = msgspec.json.schema_components([kind], ref_template="{name}")

    def inline(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return inline(parts[node["$ref"]])
            return {key: inline(item) for key, item in node.items()}
        return [inline(item) for item in node] if isinstance(node, list) else node

    found: dict[str, Any] = inline(top)
    return found
