"""Threads for calls that wait for a disk or a socket, and how an event loop waits for such a call.

Each kind of work has a pool of its own, next to what it does: calls of one kind may wait for calls of another, and if
they shared their threads, both could wait for ever. What all of them need is here.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

log = logging.getLogger("afterwards")

T = TypeVar("T")


class Pool(ThreadPoolExecutor):
    """At most so many threads; more calls than that wait. At the end of the process all that wait are still made."""

    def __init__(self, name: str, most: int) -> None:
        super().__init__(most, thread_name_prefix=f"afterwards-{name}")

    async def run(self, call: Callable[..., T], *args: Any, unwanted: Callable[[T], object] | None = None) -> T:
        """Make a call and wait for its end; see `ended`."""
        return await ended(self.submit(call, *args), unwanted=unwanted)

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """Make a call that nobody waits for; what it raises is logged."""
        try:
            self.submit(_logged, call, *args)
        except RuntimeError:  # the interpreter is ending, and this must not be lost
            _logged(call, *args)


async def ended(
    future: Future[T],
    *,
    unwanted: Callable[[T], object] | None = None,
    cancelled: Callable[[], object] | None = None,
) -> T:
    """Wait for what a thread does, even when cancelled: files and sockets that it uses can then be closed.

    Args:
        future: What it does.
        unwanted: Given the result, to close it, where the waiting was cancelled and nobody else will have it.
        cancelled: Called when the waiting is cancelled, to have the thread come to its end sooner.
    """
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def tell(_: object) -> None:
        with suppress(RuntimeError):  # the loop was closed under whoever waits
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(tell)
    cancellation: asyncio.CancelledError | None = None
    while not done.is_set():
        try:
            await done.wait()
        except asyncio.CancelledError as error:
            cancellation = error
            if cancelled is not None:
                cancelled()
    if cancellation is None:
        return future.result()
    if unwanted is not None and not future.cancelled() and future.exception() is None:
        unwanted(future.result())
    raise cancellation


def _logged(call: Callable[..., object], *args: Any) -> None:
    try:
        call(*args)
    except Exception:
        log.exception("what was left to a thread failed")
