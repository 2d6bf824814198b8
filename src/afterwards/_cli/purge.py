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
from afterwards._domain.files import FileKind
from afterwards._domain.tasks import TaskState
from afterwards._files.holding import held
from afterwards._files.sweep import remove
from afterwards._store.contract import Store, ask_blocking
from afterwards._store.upkeep import Pruned, Purge

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
    bytes: int = 0  # that lay outside of the database
    held: bool = False


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
        tasks, files, held_bytes = store.purgeable(command)
        if dry_run:
            yield _json(tasks, files, held_bytes, dry_run=True) if as_json else _count(tasks, files, held_bytes, wanted)
            return
        if ask is not None and (tasks or files) and not ask(f"Delete {_count(tasks, files, held_bytes, wanted)}?"):
            yield _json(0, 0, 0, dry_run=False) if as_json else "nothing was deleted"
            return
        with Bar("purge") as bar:
            _purge(store, command, data.absolute(), total, expected=tasks + files, bar=bar)
    if as_json:
        yield _json(total.tasks, total.files, total.bytes, dry_run=False)
        return
    yield f"deleted {total.tasks:,} tasks and {total.files:,} files, {size(total.bytes)} on the disk"
    if total.held:
        yield "A backup is being made: the bytes of those files go with the first sweep after it."


def _purge(store: Store, command: Purge, root: Path, total: _Total, *, expected: int, bar: Bar) -> None:
    while True:
        gone: Pruned = ask_blocking(store, command)
        total.tasks += gone.tasks
        total.files += len(gone.files)
        total.held |= bool(gone.files) and held(root)
        total.bytes += remove(gone.files, root)
        bar.show((total.tasks + total.files) / max(1, expected), f"{total.tasks:,} tasks, {total.files:,} files")
        if gone.tasks < command.limit and len(gone.files) < command.limit:
            return


def _count(tasks: int, files: int, held_bytes: int, wanted: Wanted) -> str:
    parts = []
    if wanted.tasks:
        kind = wanted.state or "ended"
        parts.append(f"{tasks:,} {kind} tasks" + (" and the files that no other task has" if wanted.files else ""))
    if wanted.files or wanted.uploads:
        what = "uploads" if not wanted.files else "files and uploads" if wanted.uploads else "files"
        parts.append(f"{files:,} {what} that no task has ({size(held_bytes)})")
    return "; ".join(parts)


def _json(tasks: int, files: int, bytes: int, *, dry_run: bool) -> str:
    found = {"tasks": tasks, "files": files, "bytes": bytes, "dry_run": dry_run}
    return msgspec.json.encode(found).decode()
