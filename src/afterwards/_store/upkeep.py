"""Commands by which a person looks after a store; see `contract.py`."""

from dataclasses import dataclass

from afterwards._domain.files import FileKind
from afterwards._domain.tasks import TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """Write down anew how many tasks have each of these files. Answer: how many rows were wrong."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """Delete tasks that have ended, and file rows nothing refers to, because a person says so. Answer: Pruned."""

    tasks: bool
    kinds: tuple[FileKind, ...]  # of files that no task has
    before: int  # when a task ended, or a file was stored
    state: TaskState | None  # of tasks; None: any final one
    limit: int  # tasks, and files
