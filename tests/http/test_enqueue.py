"""Tasks added outside of any request, and waiting for what they return."""

import asyncio
import threading
from typing import Any

import pytest

from afterwards.errors import Stopped
from support import work


async def test_enqueue_does_not_wait_for_threads_of_the_program(new_site: Any):
    """The event loop's own threads are few, and a program may keep them busy for long."""
    site = new_site("a")
    go = threading.Event()
    loop = asyncio.get_running_loop()
    await site.afterwards.start()
    busy = [loop.run_in_executor(None, go.wait, work.DEADLINE) for _ in range(64)]

    handle = await site.afterwards.enqueue(work.note, "first")

    assert not any(one.done() for one in busy)
    assert site.names() == [("note", '[["first"],{}]')]
    go.set()
    await asyncio.gather(*busy)
    assert await handle.result(timeout=work.DEADLINE) == "first"


async def test_waiting_for_a_result_ends_when_the_program_stops(new_site: Any):
    """The task goes on after the next start, and whoever waited without a limit is told so."""
    site = new_site("a", drain=0.0)
    await site.afterwards.start()
    handle = await site.afterwards.enqueue(work.hold)
    assert await asyncio.to_thread(work.held.acquire, timeout=work.DEADLINE)
    waiting = asyncio.ensure_future(handle.result())

    await site.afterwards.stop()

    with pytest.raises(Stopped, match="goes on after the next start"):
        await waiting
    work.gate.set()
