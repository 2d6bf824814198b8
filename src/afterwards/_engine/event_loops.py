"""What asyncio lets one do with event loops, on every Python there is."""

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any


def create_task(loop: asyncio.AbstractEventLoop, coroutine: Any, name: str, context: contextvars.Context) -> None:
    """Start a coroutine on the running loop; from Python 3.12 on, without another round of the loop."""
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        asyncio.Task(coroutine, loop=loop, name=name, context=context, eager_start=True)
    else:
        loop.create_task(coroutine, name=name, context=context)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread, None where there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *args: Any) -> bool:
    """Call on a loop's own thread; False when the loop has been closed."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True
