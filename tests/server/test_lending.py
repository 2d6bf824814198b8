"""Threads for more clients than there are threads."""

import asyncio
import threading

import pytest

from afterwards._server.lending import Threads
from support.site import until_async


class Borrower:
    """Keeps its thread until it is told to give it back, or until nobody wants its outcome."""

    def __init__(self) -> None:
        self.abandoned = False
        self.begun, self.end = threading.Event(), threading.Event()

    def run(self) -> str:
        self.begun.set()
        while not self.abandoned and not self.end.wait(0.01):
            pass
        return "ended"


@pytest.fixture
def threads() -> Threads:
    return Threads("test", 1)


async def test_a_thread_is_only_given_back_for_somebody(threads: Threads):
    one, other = Borrower(), Borrower()
    first = asyncio.ensure_future(threads.lend(one))
    await until_async(one.begun.is_set)
    assert not threads.are_short

    second = asyncio.ensure_future(threads.lend(other))
    await until_async(lambda: threads.are_short)
    one.end.set()
    assert await first == "ended"

    await until_async(other.begun.is_set)
    assert not threads.are_short
    other.end.set()
    assert await second == "ended"


async def test_who_waits_for_a_thread_needs_none_to_be_stopped(threads: Threads):
    """Another request takes the upload over, and must not wait until threads are free."""
    one, other, stop = Borrower(), Borrower(), threading.Event()
    first = asyncio.ensure_future(threads.lend(one))
    await until_async(one.begun.is_set)
    second = asyncio.ensure_future(threads.lend(other, stop))
    await until_async(lambda: threads.are_short)

    stop.set()

    assert await asyncio.wait_for(second, 20) is None
    assert not first.done()
    assert not threads.are_short
    one.end.set()
    await first
    assert not other.begun.is_set()


async def test_who_waits_for_a_thread_needs_none_to_be_cancelled(threads: Threads):
    one, other = Borrower(), Borrower()
    first = asyncio.ensure_future(threads.lend(one))
    await until_async(one.begun.is_set)
    second = asyncio.ensure_future(threads.lend(other))
    await until_async(lambda: threads.are_short)

    second.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(second, 20)
    assert not first.done()
    one.end.set()
    await first
    assert not other.begun.is_set()


async def test_who_is_cancelled_gives_its_thread_back_first(threads: Threads):
    """The socket is closed next."""
    one = Borrower()
    first = asyncio.ensure_future(threads.lend(one))
    await until_async(one.begun.is_set)

    first.cancel()

    with pytest.raises(asyncio.CancelledError):
        await first
    assert one.abandoned
    assert not threads.are_short
