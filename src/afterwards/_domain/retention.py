"""How long ended tasks and their files are kept, and when one of them goes.

A task goes a while after its end; its files go with the last task that has them, but never before the `kept_until` of
their own row, which is written when they are stored. The pruner asks here what has become old, the documents ask here
until when something stays.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from afterwards._domain.files import FILE_GRACE, FileKind
from afterwards._domain.tasks import FINAL, TaskState
from afterwards.errors import SettingRefused

_MICROSECOND = timedelta(microseconds=1)
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(weeks?|w|days?|d|hours?|h|min|m|s)\s*", re.IGNORECASE)
_NUMBER = re.compile(r"\s*\d+(?:\.\d+)?\s*")
_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_WRITTEN = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_VARIABLES = {
    "AFTERWARDS_KEEP": ("succeeded", "failed"),
    "AFTERWARDS_KEEP_FAILED": ("failed",),
    "AFTERWARDS_KEEP_UPLOADS": ("uploads",),
    "AFTERWARDS_KEEP_ARTIFACTS": ("artifacts",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long what is done with stays. What has not ended is never deleted."""

    succeeded: timedelta = timedelta(days=7)  # after the end of a task that succeeded
    failed: timedelta = timedelta(days=30)  # after any other end, because somebody may have to look into it
    uploads: timedelta = timedelta(hours=24)  # after its end, for an upload that no task has taken
    artifacts: timedelta | None = None  # after it was made, even when its task went before; None: as its task

    def __post_init__(self) -> None:
        for name in ("succeeded", "failed", "uploads", "artifacts"):
            value = getattr(self, name)
            if value is None and name == "artifacts":
                continue
            if not isinstance(value, timedelta) or value <= timedelta(0):
                raise ValueError(f"Keep({name}={value!r}): a timedelta longer than nothing is wanted here")

    @staticmethod
    def of(asked: "Keep | timedelta | None", environment: Mapping[str, str]) -> "Keep":
        """Return what the program asked for, else what the environment says, else the defaults.

        Args:
            asked: One timedelta is for every ended task.
            environment: AFTERWARDS_KEEP and, per kind, AFTERWARDS_KEEP_FAILED, _UPLOADS and _ARTIFACTS: "7d", "36h".

        Raises:
            SettingRefused: One of the variables is no length of time.
        """
        if isinstance(asked, Keep):
            return asked
        if asked is not None:
            return Keep(succeeded=asked, failed=asked)
        said: dict[str, timedelta] = {}
        for variable, names in _VARIABLES.items():
            text = environment.get(variable, "")
            if text:
                try:
                    said |= dict.fromkeys(names, parse_duration(text))
                except ValueError as error:
                    raise SettingRefused(variable=variable, value=text, problem=str(error)) from None
        return Keep(**said)

    def __str__(self) -> str:
        succeeded, failed, uploads = map(write_duration, (self.succeeded, self.failed, self.uploads))
        artifacts = "as their task" if self.artifacts is None else f"at least {write_duration(self.artifacts)}"
        return f"succeeded {succeeded}, failed {failed}, uploads that no task takes {uploads}, artifacts {artifacts}"

    def ended_before(self, now: int) -> tuple[int, int]:
        """Tell before when a task must have ended to be old, when it succeeded and otherwise."""
        return now - self.succeeded // _MICROSECOND, now - self.failed // _MICROSECOND

    def task_until(self, state: TaskState, finished_at: int | None) -> int | None:
        """Tell until when a task stays; None: it has not ended, so it stays."""
        if finished_at is None or state not in FINAL:
            return None
        return finished_at + (self.succeeded if state is TaskState.SUCCEEDED else self.failed) // _MICROSECOND

    def file_until(self, kind: FileKind, now: int) -> int:
        """Tell until when a file that is stored now stays even if no task has it: what goes into `kept_until`."""
        if kind is FileKind.UPLOAD:
            return now + self.uploads // _MICROSECOND
        if kind is FileKind.ARTIFACT and self.artifacts is not None:
            return now + self.artifacts // _MICROSECOND
        return now + FILE_GRACE


def parse_duration(text: str) -> timedelta:
    """Read a length of time: "7d", "36h", "1d12h", "90min", "45s", "2w". A number alone is none: it could be days.

    Raises:
        ValueError: It is none, or is nothing long.
    """
    if _NUMBER.fullmatch(text):
        said = text.strip()
        raise ValueError(f"{text!r} has no unit, so it could be days or seconds: write {said}d, {said}h or {said}min")
    seconds, at = 0.0, 0
    while found := _PART.match(text, at):
        seconds += float(found[1]) * _UNITS[found[2][:1].lower()]
        at = found.end()
    try:
        length = timedelta(seconds=seconds)
    except OverflowError:
        length = timedelta(0)
    if at != len(text) or length <= timedelta(0):
        raise ValueError(f"{text!r} is no length of time: write it as 7d, 36h, 90min or 45s")
    return length


def write_duration(length: timedelta) -> str:
    """Write a length of time as `parse_duration` reads it, in one unit: "7d", "36h", "90min", "0.5s"."""
    seconds = length.total_seconds()
    size, unit = next(((size, unit) for size, unit in _WRITTEN if seconds % size == 0), (1, "s"))
    return f"{seconds / size:.15g}{unit}"
