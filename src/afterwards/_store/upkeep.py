"""Commands by which a store is kept clean, by itself or by a person; see `contract.py`."""

from dataclasses import dataclass

from afterwards._domain.files import FileKind, Verdict
from afterwards._domain.tasks import TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Delete tasks that ended before a time, and file rows nothing refers to and nobody keeps. Answer: Pruned."""

    before: int  # for tasks that succeeded
    now: int
    limit: int  # tasks, and files
    failed_before: int | None = None  # for tasks that ended otherwise; None: the same
    since: int = 0  # only tasks that ended from then on: the older ones are known to be gone
    failed_since: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a round of pruning removed."""

    tasks: int
    files: tuple[str, ...]  # ids whose bytes can go


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Record a scanner's verdict on a file; what was found infected stays so.

    Answer: the verdict that holds, None when there is no such file.
    """

    file: str
    verdict: Verdict
    finding: str | None = None  # what it says, for people


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Purgeable:
    """What a purge would come to."""

    tasks: int
    task_files: int  # that only those tasks have
    task_bytes: int
    files: int  # that no task has
    bytes: int
    uploads: int  # unfinished ones, where uploads are wanted
    upload_bytes: int  # that have come of them
    stay: int  # tasks that are old enough and whose numbers must not be used again
