"""What a task can ask and say while it runs: who it is, how far it is."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from afterwards._domain.tasks import Claim, Note
from afterwards._engine.registry import Known
from afterwards._files.workspace import Workshop, Workspace, is_file

T = TypeVar("T")

MOST_LINES = 10_000  # log lines kept of one attempt; a runaway logger must not fill the disk
LONGEST_LINE = 8_192  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentTask:
    """The task that the calling code is part of."""

    id: str
    name: str
    attempt: int  # from 1
    idempotency_token: str  # the same for every attempt: hand it to outside systems that refuse repeats


Call = tuple[Sequence[Any], dict[str, Any]]  # arguments as they were given


class Running:
    """One attempt while it runs, and what it has said that is not stored yet."""

    def __init__(
        self,
        claim: Claim,
        known: Known,
        told: Callable[[], None],
        call: Call | None = None,
        shop: Workshop | None = None,
    ) -> None:
        self.claim = claim
        self.known = known
        self.told = told  # wakes whoever stores what is said here
        self.call = call  # arguments that need not be read back from the claim
        self.shop = shop  # where it can have a workspace
        self.workspace: Workspace | None = None  # made when it is first asked for: most never do
        self.lines = 0
        self.notes: list[Note] = []
        self.progress: str | None = None  # newest as JSON, not stored yet
        self.loop: asyncio.AbstractEventLoop | None = None  # where it runs, unless on a thread
        self.released = False  # told to end because the process stops
        self.lost = False  # another attempt has taken over
        self.task: asyncio.Task[Any] | None = None  # as soon as it has begun
        self.ended = False  # its outcome is decided; what is said after that is dropped
        self.lock = threading.Lock()  # the task's code may have threads of its own

    def is_given_up(self) -> bool:
        """Tell whether it was told to end: nobody waits for its outcome any more."""
        return self.released or self.lost

    def end(self) -> bool:
        """Decide that it has ended; False when that was decided before."""
        with self.lock:
            already, self.ended = self.ended, True
            return not already

    def work(self) -> Workspace | None:
        """Return where it works; None when it has ended."""
        with self.lock:
            if self.workspace is None and self.shop is not None and not self.ended:
                self.workspace = Workspace(self.shop, f"{self.claim.id}-{self.claim.attempt}")
            return self.workspace

    def keep(self, value: object) -> str | None:
        """Take over what the code returned, if it is a file; the id it has or will have."""
        workspace = self.work() if is_file(value) else None
        return None if workspace is None else workspace.keep(value)

    def report(self, progress: dict[str, Any]) -> None:
        """Keep the newest progress."""
        text = msgspec.json.encode(progress).decode()
        with self.lock:
            if self.ended:
                return
            self.progress = text
        self.told()

    def log(self, at: int, level: str, logger: str, message: str) -> None:
        """Keep a log line; past the limit, one line says that the rest is left out."""
        with self.lock:
            self.lines += 1
            if self.ended or self.lines > MOST_LINES + 1:
                return
            if self.lines == MOST_LINES + 1:
                level, logger = "WARNING", "afterwards"
                message = f"further lines of this attempt are left out ({MOST_LINES:,} are kept)"
            data = {"level": level, "logger": _clean(logger), "message": _clean(message)[:LONGEST_LINE]}
            self.notes.append(self._note("log", at, msgspec.json.encode(data).decode()))
        self.told()

    def take(self, at: int) -> list[Note]:
        """Hand over what is to be stored now, the newest progress last."""
        if not self.notes and self.progress is None:
            return []
        with self.lock:
            progress, self.progress = self.progress, None
            if progress is not None:
                self.notes.append(self._note("progress", at, progress))
            notes, self.notes = self.notes, []
        return notes

    def _note(self, kind: str, at: int, data: str) -> Note:
        claim = self.claim
        return Note(id=claim.id, attempt=claim.attempt, token=claim.token, kind=kind, at=at, data=data)


running: ContextVar[Running | None] = ContextVar("afterwards_running", default=None)


def current_task() -> CurrentTask | None:
    """Return the task that the calling code is part of, None outside of one."""
    found = running.get()
    if found is None:
        return None
    claim = found.claim
    return CurrentTask(id=claim.id, name=claim.name, attempt=claim.attempt, idempotency_token=claim.id)


class Progress:
    """Tells how far the current task is. Outside of a task it does nothing, so that functions stay plain functions.

    What is told is stored at most four times a second; the newest always, at the latest when the attempt ends.
    """

    def __call__(
        self, done: float, total: float | None = None, message: str | None = None, *, unit: str | None = None
    ) -> None:
        """Say that `done` of `total` units are done.

        Args:
            done: How much is done, from 0.
            total: How much there is, None when that is unknown.
            message: What is being done at present, for people.
            unit: What is counted, such as "pages" or "bytes".

        Raises:
            ValueError: `done` or `total` is negative, endless or not a number.
        """
        found = running.get()
        try:
            told = {"done": _number(done), "total": None if total is None else _number(total)}
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"progress(done={done!r}, total={total!r}): both must be numbers from 0") from None
        if found is not None:
            found.report(told | {"unit": _text(unit), "message": _text(message)})

    def track(
        self, items: Iterable[T], total: float | None = None, message: str | None = None, *, unit: str | None = None
    ) -> Iterator[T]:
        """Yield the items and tell after each how many are done.

        Args:
            items: What is worked on.
            total: How many there are; found out by itself when the items have a length.
            message: What is being done, for people.
            unit: What is counted.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        done = 0
        self(done, total, message, unit=unit)
        for item in items:
            yield item
            done += 1
            self(done, total, message, unit=unit)


def _number(value: Any) -> float:
    """The value as JSON has it: an int, or the float nearest to a Decimal, a numpy number and the like."""
    number: float = value if type(value) is int and value < 1 << 53 else float(value)
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def _text(value: Any) -> str | None:
    return None if value is None else _clean(str(value))[:LONGEST_LINE]


def _clean(text: str) -> str:
    """Without the lone surrogates of file names that are no text, which JSON cannot have."""
    return text.encode("utf-8", "replace").decode()


progress = Progress()
