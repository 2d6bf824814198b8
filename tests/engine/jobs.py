"""Functions that the tests queue. `journal` says what they did; `gate` holds those that wait for it."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fastapi import UploadFile

from afterwards._domain.options import task
from afterwards._engine.context import current_task, progress

DEADLINE = 20.0  # seconds that a test waits for anything

journal: list[Any] = []
gate = threading.Event()
begun = threading.Semaphore(0)
outside: contextvars.ContextVar[str] = contextvars.ContextVar("outside", default="nothing")
opened: list[Any] = []
log = logging.getLogger("jobs")


def clear() -> None:
    global begun
    journal.clear()
    opened.clear()
    gate.clear()
    begun = threading.Semaphore(0)


def give(value: Any = "given") -> Any:
    journal.append(value)
    return value


async def give_async(value: Any = "given") -> Any:
    journal.append(value)
    return value


def where() -> str:
    return threading.current_thread().name


async def where_async() -> str:
    return threading.current_thread().name


def fail(what: str = "no luck") -> None:
    raise ValueError(what)


async def fail_async(what: str = "no luck") -> None:
    raise ValueError(what)


def leave() -> None:
    raise SystemExit(3)


async def leave_async() -> None:
    raise SystemExit(3)


async def cancelled() -> None:
    raise asyncio.CancelledError("by the code itself")


async def cancel_oneself() -> None:
    journal.append("cancels itself")
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.sleep(0)


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even a text")


def fail_mutely() -> None:
    raise Mute


def unstorable() -> object:
    journal.append("unstorable")
    return threading.Lock()


@task(retries=5)
def unstorable_with_retries() -> object:
    return unstorable()


@task(retries=2, backoff=10)
def fail_thrice() -> None:
    journal.append("failed")
    raise ValueError("again")


@task(timeout=0.01)
async def too_slow() -> None:
    await asyncio.Event().wait()


def hold(value: Any = "held") -> Any:
    begun.release()
    assert gate.wait(DEADLINE)
    journal.append(value)
    return value


async def hold_async(value: Any = "held") -> Any:
    begun.release()
    try:
        await asyncio.Event().wait()
    finally:
        journal.append(f"{value} was cancelled")


def block() -> None:
    """Keep the thread that runs it: the event loop's, when called there."""
    begun.release()
    assert gate.wait(DEADLINE)


async def block_the_loop() -> None:
    block()


def who() -> tuple[Any, ...]:
    found = current_task()
    assert found is not None
    return found.id, found.name, found.attempt, found.idempotency_token, outside.get()


async def who_async() -> tuple[Any, ...]:
    return who()


def read(file: UploadFile) -> bytes:
    opened.append(file)
    return file.file.read()


def read_and_fail(file: UploadFile) -> None:
    opened.append(file)
    raise ValueError("after opening")


def report(steps: int) -> int:
    for step in progress.track(range(steps), message="steps"):
        log.warning("step %d", step)
    return steps


def report_oddly() -> None:
    progress(Decimal("0.5"), 2**70, "file \udc80", unit="\udcff")


def report_from_threads() -> None:
    """Each reports its own; the last of all is told when they have ended."""

    def tell(context: contextvars.Context) -> None:
        for number in range(300):
            context.run(progress, number, 1000)

    threads = [threading.Thread(target=tell, args=(contextvars.copy_context(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    progress(999, 1000)


def chatter(lines: int) -> None:
    for number in range(lines):
        log.warning("line %d", number)


def big(characters: int) -> str:
    return "x" * characters


class Callable_:
    """An object whose `__call__` is async, kept under a name of its module."""

    async def __call__(self) -> str:
        return "called"


call_me: Callable[[], Any] = Callable_()


def damaged(number: int) -> int:
    return number
