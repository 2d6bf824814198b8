"""The reading half of the SQLite store: each call is one short read transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import msgspec

from afterwards._domain.files import FileKind, Verdict
from afterwards._domain.limits import Usage
from afterwards._domain.tasks import (
    FINAL,
    AttemptRow,
    AttemptState,
    Event,
    FileRow,
    TaskRow,
    TaskState,
    WorkerInfo,
)
from afterwards._domain.uploads import Upload
from afterwards._store.contract import Filter
from afterwards._store.sqlite.packing import unpack
from afterwards._store.sqlite.pool import Pool
from afterwards._store.sqlite.uploads import upload_of
from afterwards._store.upkeep import Purge, Purgeable

_files = msgspec.json.Decoder(list[FileRow])
_headers = msgspec.json.Decoder(list[tuple[str, str]])


class StoredRow(msgspec.Struct, frozen=True, kw_only=True):
    """A file's row, as `contract.Stored` describes it."""

    id: str
    name: str | None
    size: int
    content_type: str | None
    headers: list[tuple[str, str]]
    digest: str
    content: bytes | None
    kind: FileKind
    type: str | None
    owner: str | None
    kept_until: int
    verdict: Verdict | None


class Reads:
    """Answers questions about tasks from any thread."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def task(self, id: str) -> TaskRow | None:
        """Return a task."""
        rows = self._rows("task", id=id)
        return _task(rows[0]) if rows else None

    def tasks(self, wanted: Filter) -> list[TaskRow]:
        """Return a page of tasks, newest first."""
        page = {"before": wanted.before, "limit": wanted.limit}
        narrow = {"state": wanted.state, "name": wanted.name, "queue": wanted.queue}
        if not any(narrow.values()):
            rows = self._rows("list_tasks", **page)
        elif wanted.state is None or wanted.state is TaskState.SUCCEEDED:
            rows = self._rows("list_tasks_filtered", **page, **narrow)
        elif wanted.state in FINAL:
            rows = self._rows("list_failed_tasks", **page, **narrow)
        else:
            rows = self._rows("list_open_tasks", **page, **narrow)
        return [_task(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return how many tasks there are by state."""
        return {state: number for state, number in self._rows("count_tasks") if number}

    def attempts(self, id: str) -> list[AttemptRow]:
        """Return the attempts of a task, first one first."""
        return [
            AttemptRow(
                number=number,
                worker=worker,
                state=AttemptState(state),
                started_at=started_at,
                ended_at=ended_at,
                error=error,
            )
            for number, worker, state, started_at, ended_at, error in self._rows("attempts", id=id)
        ]

    def events(self, after: int, *, task: str | None = None, limit: int = 1000) -> list[Event]:
        """Return events after a position, of one task or of all, oldest first."""
        if task is None:
            rows = self._rows("events", after=after, limit=limit)
        else:
            rows = self._rows("events_of_task", task=task, after=after, limit=limit)
        return [
            Event(position=position, task=id, kind=kind, at=at, data=msgspec.json.decode(data))
            for position, id, kind, at, data in rows
        ]

    def last_position(self) -> int:
        """Return the position of the newest event, 0 when there is none."""
        return int(self._rows("last_position")[0][0])

    def next_due(self) -> int | None:
        """Return when the next scheduled or retrying task is due."""
        due: int | None = self._rows("next_due")[0][0]
        return due

    def functions(self) -> list[tuple[str, str]]:
        """Return (name, signature) of every function ever accepted."""
        return self._rows("functions")

    def file(self, id: str) -> StoredRow | None:
        """Return a file's row, with its content when it is kept there."""
        for last in (False, True):
            rows = self._rows("file", id=id)
            if not rows:
                return None
            *plain, kind, type, owner, kept_until, verdict, pack, at = rows[0]
            id, name, size, content_type, headers, digest, content = plain
            if pack is None:
                break
            content, whole = unpack(self._pool.root, (pack, at), size, digest)
            if whole or last:  # else the row may be gone since, and other bytes in its place
                break
        return StoredRow(
            id=id,
            name=name,
            size=size,
            content_type=content_type,
            headers=_headers.decode(headers),
            digest=digest,
            content=content,
            kind=FileKind(kind),
            type=type,
            owner=owner,
            kept_until=kept_until,
            verdict=None if verdict is None else Verdict(verdict),
        )

    def verdicts(self, ids: Sequence[str]) -> dict[str, Verdict | None]:
        """Return what a scanner said of each of these files that has a row."""
        rows = self._rows("verdicts", ids=msgspec.json.encode(list(ids)).decode())
        return {id: None if verdict is None else Verdict(verdict) for id, verdict in rows}

    def finding(self, id: str) -> str | None:
        """Return what a scanner said of a file."""
        rows = self._rows("finding", id=id)
        return rows[0][0] if rows else None

    def stored(self, owners: Sequence[str]) -> Mapping[str, Usage]:
        """Return how much is stored of each of these owners; "" stands for everybody."""
        rows = self._rows("usage", owners=msgspec.json.encode(list(owners)).decode())
        return {owner: Usage(bytes=bytes, files=files) for owner, bytes, files in rows}

    def known_files(self, ids: Sequence[str]) -> set[str]:
        """Return which of these files have a row, or belong to an upload that is open."""
        return {id for (id,) in self._rows("known_files", ids=msgspec.json.encode(list(ids)).decode())}

    def purgeable(self, wanted: Purge) -> Purgeable:
        """Return what a purge would delete now."""
        [row] = self._rows(
            "count_purgeable",
            tasks=wanted.tasks,
            before=wanted.before,
            state=wanted.state,
            kinds=msgspec.json.encode(wanted.kinds).decode(),
            uploads=FileKind.UPLOAD in wanted.kinds,
        )
        return Purgeable(**dict(zip((field.name for field in fields(Purgeable)), row, strict=True)))

    def stale_uploads(self, before: int) -> list[str]:
        """Return the open uploads to which nothing has come since a time."""
        return [id for (id,) in self._rows("stale_uploads", before=before)]

    def upload(self, id: str) -> Upload | None:
        """Return an upload."""
        rows = self._rows("upload", id=id)
        return upload_of(rows[0]) if rows else None

    def open_uploads(self, ids: Sequence[str]) -> set[str]:
        """Return which of these uploads are open."""
        return {id for (id,) in self._rows("open_uploads", ids=msgspec.json.encode(list(ids)).decode())}

    def workers(self) -> list[WorkerInfo]:
        """Return every worker that has not been ended, and, with an empty `boot`, unknown ones that hold something."""
        return [
            WorkerInfo(
                id=id,
                host=host,
                pid=pid,
                boot=boot,
                started_at=started_at,
                lease_until=lease_until,
                program=program,
                folder=folder,
                stopped_at=stopped_at,
            )
            for id, host, pid, boot, started_at, lease_until, program, folder, stopped_at in self._rows("workers")
        ]

    def _rows(self, query: str, **values: Any) -> list[Any]:
        return self._pool.rows(query, values)


def _task(row: Sequence[Any]) -> TaskRow:
    (
        _seq,
        id,
        name,
        state,
        queue,
        priority,
        arguments,
        signature,
        attempt,
        max_attempts,
        failures,
        interruptions,
        created_at,
        run_at,
        started_at,
        finished_at,
        updated_at,
        sequence,
        after,
        worker,
        progress,
        result,
        error,
        files,
        known,
    ) = row
    return TaskRow(
        id=id,
        name=name,
        state=TaskState(state),
        queue=queue,
        priority=priority,
        arguments=arguments,
        signature=signature,
        attempt=attempt,
        max_attempts=max_attempts,
        failures=failures,
        interruptions=interruptions,
        created_at=created_at,
        run_at=run_at,
        started_at=started_at,
        finished_at=finished_at,
        updated_at=updated_at,
        sequence=sequence,
        after=after,
        worker=worker,
        progress=progress,
        result=result,
        error=error,
        files=_files.decode(files),
        known=bool(known),
    )
