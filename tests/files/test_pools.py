"""Waiting on an event loop for what a thread does."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from afterwards._files.pools import Pool
from support.site import until, until_async


class Call:
    """A call that lasts until it is told to end."""

    def __init__(self, result: Any) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        self.ended = False
        self._result = result

    def __call__(self) -> Any:
        self.begun.set()
        assert self.end.wait(20)
        self.ended = True
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool("test", 1) as pool:
        yield pool


async def cancelled_while(call: Call, waiting: "asyncio.Task[Any]") -> None:
    """Cancel, twice, whoever waits for a call, and let the call end when that has been noticed."""
    await until_async(call.begun.is_set)
    for _ in range(2):
        waiting.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
    call.end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_who_is_cancelled_still_waits_for_the_thread(pool: Pool):
    """It may be using a file that is closed next."""
    call = Call("done")
    await cancelled_while(call, asyncio.ensure_future(pool.run(call)))
    assert call.ended


async def test_what_nobody_will_have_is_given_to_be_closed(pool: Pool):
    """A descriptor of a file that was being opened is lost otherwise."""
    call, closed = Call("descriptor"), []
    await cancelled_while(call, asyncio.ensure_future(pool.run(call, unwanted=closed.append)))
    assert closed == ["descriptor"]


async def test_what_is_wanted_is_not_closed(pool: Pool):
    closed: list[str] = []
    assert await pool.run(lambda: "descriptor", unwanted=closed.append) == "descriptor"
    assert closed == []


async def test_an_error_is_raised_once_and_nobody_complains_of_it(pool: Pool):
    """A client's wrong checksum is no reason for a traceback, and one that nobody waits for is none either."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    with pytest.raises(ValueError, match="wrong"):
        await pool.run(int, "wrong")
    call = Call(ValueError("wrong"))
    await cancelled_while(call, asyncio.ensure_future(pool.run(call, unwanted=complaints.append)))

    assert complaints == []


def test_what_waits_is_done_before_the_end(caplog: pytest.LogCaptureFixture):
    """Also after an error, which the log tells; and what comes after the end is done at once."""
    done: list[int] = []
    pool, first = Pool("test", 1), Call(None)
    pool.soon(first)
    pool.soon(int, "wrong")
    for number in range(100):
        pool.soon(done.append, number)
    until(first.begun.is_set)

    first.end.set()
    pool.shutdown()
    pool.soon(done.append, 100)

    assert done == list(range(101))
    assert "invalid literal" in caplog.text
