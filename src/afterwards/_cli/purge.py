"""`afterwards purge`: deletes what is done with, through the store's own commands, also while programs run."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec

from afterwards._cli.bar import Bar
from afterwards._cli.database import opened
from afterwards._cli.text import size
from afterwards._domain.amounts import counted
from afterwards._domain.files import FileKind
from afterwards._domain.tasks import TaskState
from afterwards._domain.uploads import UploadState
from afterwards._files.holding import held
from afterwards._files.parts import Part, remove_part
from afterwards._files.sweep import remove
from afterwards._store.contract import Store, ask_blocking
from afterwards._store.upkeep import Pruned, Purge, Purgeable
from afterwards._store.upload_commands import EndUpload

MOST = 500  # tasks, and files, in one transaction: programs go on committing in between


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody wants to be rid of."""

    tasks: bool
    files: bool
    uploads: bool
    older_than: timedelta
    state: TaskState | None

    def command(self, now: int) -> Purge:
        """Say it to a store."""
        kinds = (FileKind.INPUT, FileKind.ARTIFACT) if self.files else ()
        return Purge(
            tasks=self.tasks,
            kinds=(*kinds, *((FileKind.UPLOAD,) if self.uploads else ())),
            before=now - self.older_than // timedelta(microseconds=1),
            state=self.state,
            limit=MOST,
        )


@dataclass
class _Total:
    tasks: int = 0
    files: int = 0
    uploads: int = 0  # unfinished ones
    bytes: int = 0  # that lay outside of the database
    held: bool = False
    busy: int = 0  # uploads that are being written


def purged(
    data: Path, wanted: Wanted, *, dry_run: bool, ask: Callable[[str], bool] | None, as_json: bool
) -> Iterator[str]:
    """Count, ask, delete, and say what was deleted.

    Args:
        data: The data directory.
        wanted: What is to go.
        dry_run: Only count.
        ask: Asks a person; None: nobody needs to be asked.
        as_json: Say it as JSON.
    """
    total = _Total()
    with opened(data) as store:
        command = wanted.command(time.time_ns() // 1000)
        found = store.purgeable(command)
        if dry_run:
            expected = _Total(
                tasks=found.tasks,
                files=found.task_files + found.files,
                uploads=found.uploads,
                bytes=found.task_bytes + found.bytes + found.upload_bytes,
            )
            yield from [_json(expected, dry_run=True)] if as_json else [_count(found, wanted), *_notes(found)]
            return
        if ask is not None and (found.tasks or found.files or found.uploads):
            notes = "".join(f" {note}" for note in _notes(found))
            if not ask(f"Delete {_count(found, wanted)}?{notes}"):
                yield _json(total, dry_run=False) if as_json else "nothing was deleted"
                return
        with Bar("purge") as bar:
            _purge(store, command, data.absolute(), total, found, bar)
            if wanted.uploads:
                _end_uploads(store, command.before, data.absolute(), total)
    if as_json:
        yield _json(total, dry_run=False)
        return
    what = [counted(total.tasks, "task"), counted(total.files, "file")]
    if wanted.uploads:
        what.append(counted(total.uploads, "unfinished upload"))
    yield f"deleted {', '.join(what[:-1])} and {what[-1]}, {size(total.bytes)} on the disk"
    yield from _notes(found)
    if total.busy:
        yield f"{counted(total.busy, 'upload')} stayed: a request writes there at this moment."
    if total.held:
        yield "A backup is being made: the bytes of those files go with the first sweep after it."


def _purge(store: Store, command: Purge, root: Path, total: _Total, found: Purgeable, bar: Bar) -> None:
    expected = max(1, found.tasks + found.task_files + found.files)
    while True:
        gone: Pruned = ask_blocking(store, command)
        total.tasks += gone.tasks
        total.files += len(gone.files)
        total.held |= bool(gone.files) and held(root)
        total.bytes += remove(gone.files, root)
        done = f"{counted(total.tasks, 'task')}, {counted(total.files, 'file')}"
        bar.show((total.tasks + total.files) / expected, done)
        if gone.tasks < command.limit and len(gone.files) < command.limit:
            return


def _end_uploads(store: Store, before: int, root: Path, total: _Total) -> None:
    """End unfinished uploads as the engine ends those to which nothing comes, but for those that are being written."""
    for id in store.stale_uploads(before):
        part = Part.open(id, root, create=False)
        try:
            if part is not None and not part.lock():
                total.busy += 1
                continue
            row = store.upload(id)
            if row is None or row.state is not UploadState.OPEN or row.changed_at >= before:
                continue
            length = 0 if part is None else part.size
            now = time.time_ns() // 1000
            if ask_blocking(store, EndUpload(id=id, state=UploadState.EXPIRED, now=now)) is not None:
                remove_part(id, root)
                total.uploads += 1
                total.bytes += length
        finally:
            if part is not None:
                part.close()


def _count(found: Purgeable, wanted: Wanted) -> str:
    parts = []
    if wanted.tasks:
        parts.append(counted(found.tasks, f"{wanted.state or 'ended'} task"))
        if wanted.files or wanted.uploads:
            files = f"{counted(found.task_files, 'file')} that no other task has"
            parts[0] += f" with {files} ({size(found.task_bytes)})"
    if wanted.files or wanted.uploads:
        what = "upload" if not wanted.files else "file or upload" if wanted.uploads else "file"
        plural = what if found.files == 1 else what.replace("file", "files").replace("upload", "uploads")
        parts.append(f"{found.files:,} {plural} that no task has ({size(found.bytes)})")
    if wanted.uploads:
        parts.append(f"{counted(found.uploads, 'unfinished upload')} ({size(found.upload_bytes)})")
    return "; ".join(parts)


def _notes(found: Purgeable) -> list[str]:
    if not found.stay:
        return []
    stays = "The newest task stays" if found.stay == 1 else "The newest tasks stay"
    return [f"{stays}: the numbers of tasks and events go on from there and must not be used again."]


def _json(total: _Total, *, dry_run: bool) -> str:
    found = {
        "tasks": total.tasks,
        "files": total.files,
        "uploads": total.uploads,
        "bytes": total.bytes,
        "dry_run": dry_run,
    }
    return msgspec.json.encode(found).decode()
