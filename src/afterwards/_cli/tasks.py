"""The `afterwards tasks` commands: what they print, line by line, from what the store holds."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from afterwards._cli.database import find, opened
from afterwards._cli.text import absolute, duration, plain, relative, size, table
from afterwards._domain.amounts import counted
from afterwards._domain.documents import document, moment, waiting_for
from afterwards._domain.tasks import FINAL, Event, Failure, TaskRow, TaskState
from afterwards._files.presence import living, wake
from afterwards._store.contract import Filter, RunAgain, Store, ask_blocking
from afterwards.errors import TaskOpen

BASE = "/afterwards"  # what the links of documents begin with
LOOK = 0.1  # seconds between looks at the store while watching
MANY = 100_000  # attempts that may fail: as good as for ever, as a scan's
LAST_LINES = 20  # of a task's log, that `show` prints
PAGE = 1000


def listed(root: Path, wanted: Filter, *, as_json: bool) -> Iterator[str]:
    """Show tasks, newest first."""
    with opened(root) as store:
        rows = list(_pages(store, wanted))
    if as_json:
        yield _json([document(row, base=BASE, traceback=True) for row in rows])
        return
    if not rows:
        yield "no tasks" if wanted.state is None and wanted.name is None else "no such tasks"
        return
    now = time.time_ns() // 1000
    width = _width()
    wide = width is None or width >= 110
    head = ("ID", "STATE", "ADDED", *(("AT",) if wide else ()), "NAME")
    cells = [
        (row.id, row.state, relative(row.created_at, now), *((absolute(row.created_at),) if wide else ()), row.name)
        for row in rows
    ]
    yield from table(head, cells, width, shrink=len(head) - 1)


def totals(root: Path, *, as_json: bool) -> Iterator[str]:
    """Show how many tasks there are by state."""
    with opened(root) as store:
        counts = store.counts()
    if as_json:
        yield _json(counts)
    else:
        order = [(state, str(counts.get(state, 0))) for state in TaskState]
        yield from (f"{state:<12}{number:>12}" for state, number in order)


def shown(root: Path, id: str, *, as_json: bool) -> Iterator[str]:
    """Show everything about one task."""
    with opened(root) as store:
        row, attempts = find(store, id), store.attempts(id)
        events = [] if as_json else list(_events(store, id, 0))
    if as_json:
        yield _json(document(row, base=BASE, attempts=attempts, traceback=True))
        return
    now = time.time_ns() // 1000
    found = document(row, base=BASE)
    yield _line("task", row.id)
    yield _line("name", row.name)
    waiting = waiting_for(row)
    yield _line("state", row.state if waiting is None else f"{row.state}, waiting for {waiting}")
    if row.state not in FINAL and not living(root):
        yield _line("", "no program of this data directory runs; the next start takes it up")
    if row.state is TaskState.QUARANTINED:
        ends = counted(row.interruptions, "time")
        yield _line("", f"set aside, because its process ended {ends} while it ran; when that is mended:")
        yield _line("", f"afterwards tasks retry {row.id}")
    yield _line("attempts", _attempts(row))
    for label, at in (("added", row.created_at), ("started", row.started_at), ("ended", row.finished_at)):
        if at is not None:
            yield _line(label, f"{absolute(at)} ({relative(at, now)})")
    if row.state in (TaskState.SCHEDULED, TaskState.RETRYING):
        yield _line("due", f"{absolute(row.run_at)} ({relative(row.run_at, now)})")
    if row.started_at is not None and row.finished_at is not None:
        yield _line("took", duration(row.finished_at - row.started_at))
    if found.progress is not None:
        yield _line("progress", _progress(msgspec.structs.asdict(found.progress)))
    if row.result is not None and row.state is TaskState.SUCCEEDED:
        yield _line("result", _json(found.result))
    for file in found.files:
        about = f"{size(file.size)}, {file.type or 'no type'}"
        yield _line(str(file.role), f"{file.name or 'without a name'} ({about})")
        yield _line("", file.href)
        yield _line("", file.digest)
    for one in attempts:
        ended = "" if one.ended_at is None else f", after {duration(one.ended_at - one.started_at)}"
        yield _line(f"attempt {one.number}", f"{one.state}, started {absolute(one.started_at)}{ended}")
        if one.error is not None:
            yield from _failure(one.error)
    lines = [event for event in events if event.kind == "log"]
    if lines:
        left_out = len(lines) - LAST_LINES
        yield _line("log", f"its last {LAST_LINES} lines of {len(lines)}" if left_out > 0 else "")
        yield from (f"  {_clock(event.at)} {_event(event)}" for event in lines[-LAST_LINES:])


def watched(root: Path, id: str, *, as_json: bool) -> Iterator[str]:
    """Show what happens to a task until it has ended, from its beginning on."""
    with opened(root) as store:
        if find(store, id).state not in FINAL and not as_json and not living(root):
            yield "no program of this data directory runs; the next start takes the task up"
        after, seen = 0, -1
        while True:
            version = store.version()
            if version == seen:
                time.sleep(LOOK)
                continue
            seen = version
            ended = find(store, id).state in FINAL  # asked first: then the events below are all there are
            for event in _events(store, id, after):
                after = event.position
                yield _event_json(event) if as_json else f"{_clock(event.at)} {_event(event)}"
            if ended:
                return


def state(root: Path, id: str) -> TaskState:
    """Return the state of a task."""
    with opened(root) as store:
        return find(store, id).state


def retried(root: Path, id: str, *, as_json: bool) -> Iterator[str]:
    """Queue an ended task again and wake the processes that could run it.

    Raises:
        UnknownTask: There is none with this id.
        TaskOpen: It has not ended.
    """
    with opened(root) as store:
        before = find(store, id)
        if before.state not in FINAL:
            raise TaskOpen(task=id, state=before.state)
        ask_blocking(store, RunAgain(id=id, now=time.time_ns() // 1000))
        row = find(store, id)
    wake(root.absolute())
    if as_json:
        yield _json(document(row, base=BASE, traceback=True))
    else:
        yield plain(f"task {row.name} {id} was {before.state} and is queued again")


def _pages(store: Store, wanted: Filter) -> Iterator[TaskRow]:
    left, before = wanted.limit, wanted.before
    while left > 0:
        page = store.tasks(replace(wanted, before=before, limit=min(left, PAGE)))
        yield from page
        if len(page) < min(left, PAGE):
            return
        left, before = left - len(page), page[-1].id


def _events(store: Store, id: str, after: int) -> Iterator[Event]:
    while page := store.events(after, task=id, limit=PAGE):
        yield from page
        after = page[-1].position


def _attempts(row: TaskRow) -> str:
    parts = [f"{row.attempt} started"]
    if row.max_attempts > MANY:
        parts.append(f"{row.failures:,} failed")
    elif row.max_attempts > 1:
        parts.append(f"{row.failures:,} of {row.max_attempts:,} failed")
    if row.interruptions:
        parts.append(f"{row.interruptions} interrupted")
    return ", ".join(parts)


def _failure(text: str) -> Iterator[str]:
    failure = msgspec.json.decode(text, type=Failure)
    yield f"  {plain(failure.type)}: {plain(failure.message)}"
    for line in (failure.traceback or "").splitlines():
        yield f"  | {plain(line)}"


def _event(event: Event) -> str:
    data = event.data if isinstance(event.data, dict) else {}
    if event.kind == "progress":
        return plain(f"progress  {_progress(data)}")
    if event.kind == "log":
        return plain(f"log       {data.get('level', '')} {data.get('logger', '')}: {data.get('message', '')}")
    attempt = f", attempt {data['attempt']}" if data.get("attempt") else ""
    return plain(f"{event.kind:<10}{data.get('state', '')}{attempt}")


def _progress(data: dict[str, Any]) -> str:
    done, total, unit, message = (data.get(name) for name in ("done", "total", "unit", "message"))
    text = f"{done}" if total is None else f"{done} of {total}"
    if unit:
        text += f" {unit}"
    if total and isinstance(done, int | float):
        text += f" ({100 * done / total:.0f} %)"
    return f"{text} {message}" if message else text


def _event_json(event: Event) -> str:
    return _json(
        {"position": event.position, "task": event.task, "kind": event.kind, "at": moment(event.at), "data": event.data}
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _line(label: str, text: str) -> str:
    return f"{label:<12}{plain(text)}".rstrip()


def _clock(at: int) -> str:
    return absolute(at)[11:19]


def _width() -> int | None:
    """Return how wide lines may get: as wide as the terminal, and any width in a pipe or a file."""
    if "COLUMNS" in os.environ or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None
