"""Functions to be queued by tests. They are at the top of a module, because that is where a restart finds them.

What they did is in `journal`, which the fixtures empty before each test.
"""

import asyncio
import contextvars
import logging
import threading
from typing import Any

from fastapi import UploadFile

DEADLINE = 20.0  # seconds that a test waits for anything

journal: list[Any] = []
gate = threading.Event()  # what `hold` waits for
held = threading.Semaphore(0)  # released once by each `hold` that has begun
meeting = threading.Barrier(2)
colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


def clear() -> None:
    """Make a new start."""
    global held, meeting
    journal.clear()
    gate.clear()
    held = threading.Semaphore(0)
    meeting = threading.Barrier(2)


def note(what: object = "noted") -> object:
    journal.append(what)
    return what


async def note_async(what: object = "noted") -> object:
    await asyncio.sleep(0)
    journal.append(what)
    return what


def fail(what: object = "failed") -> None:
    journal.append(what)
    raise RuntimeError(f"no luck with {what}")


async def fail_async(what: object = "failed") -> None:
    fail(what)


def leave(code: int = 3) -> None:
    journal.append("left")
    raise SystemExit(code)


def hold(what: object = "held") -> None:
    """Occupy a thread until the gate opens."""
    held.release()
    assert gate.wait(DEADLINE)
    journal.append(what)


def meet(what: object = "met") -> None:
    """Return once two are inside at the same time."""
    meeting.wait(DEADLINE)
    journal.append(what)


def note_colour() -> None:
    journal.append(colour.get())


async def note_colour_async() -> None:
    journal.append(colour.get())


def takes_func(func: str, self: int = 0, *, options: str = "", args: object = None, kwargs: object = None) -> None:
    """Parameters by every name that an `add_task` might have for its own."""
    journal.append((func, self, options, args, kwargs))


async def read_upload(file: UploadFile) -> int:
    content = await file.read()
    journal.append((file.filename, content))
    return len(content)


class Printer:
    """Somebody's object: what is bound to one of these cannot be stored."""

    def __init__(self, name: str) -> None:
        self.name = name

    def note(self, what: object) -> None:
        journal.append((self.name, what))

    def fail(self) -> None:
        raise RuntimeError(f"{self.name} is out of paper")


def chatter(lines: int) -> None:
    """Say so many lines."""
    for number in range(lines):
        logging.getLogger("chatter").warning("line %d", number)
