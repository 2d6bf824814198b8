"""Runs on a thread what has borrowed a connection's socket, and waits for that on the event loop."""

import asyncio
from concurrent.futures import Executor, Future
from typing import Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Borrower(Protocol[T_co]):
    """Something that reads or writes a socket."""

    abandoned: bool  # nobody wants its outcome any more: `run` returns as soon as it can

    def run(self) -> T_co:
        """Do it; blocks."""
        ...


async def on_thread(threads: Executor, borrower: Borrower[T_co]) -> T_co:
    """Run it and wait for that, even when cancelled: the thread must be done with the socket."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    future: Future[T_co] = threads.submit(borrower.run)
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
    cancelled: asyncio.CancelledError | None = None
    while not done.is_set():
        try:
            await done.wait()
        except asyncio.CancelledError as error:
            cancelled = error
            borrower.abandoned = True
    if cancelled is not None:
        raise cancelled
    return future.result()
