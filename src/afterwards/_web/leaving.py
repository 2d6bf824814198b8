"""Ends an answer that may take long when nobody waits for it any more, or when the server wants to stop.

A server that is told to stop waits for open answers before it tells the application, so an open stream would hold it
up for ever. What is visible from inside is who handles SIGTERM: under uvicorn a server that says in `should_exit`
whether it has been told. Under a server of which that cannot be seen (one in a thread, or behind a handler of the
program's own), open streams end with its own limit, such as uvicorn's `--timeout-graceful-shutdown`.
"""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive

from afterwards._engine.engine import Engine

LOOK = 0.25  # seconds between looks at whether the server wants to stop


def is_stopping(engine: Engine) -> bool:
    """Tell whether the engine or the server around it has been told to stop."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return engine.stopping or getattr(server, "should_exit", False) is True


async def while_wanted(work: Coroutine[Any, Any, Any], receive: Receive, engine: Engine) -> None:
    """Run until it is done, its client has left, or the server stops; what it raises is raised here."""
    main = asyncio.ensure_future(work)
    others = [asyncio.ensure_future(_left(receive)), asyncio.ensure_future(_stopping(engine))]
    try:
        await asyncio.wait([main, *others], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in (main, *others):
            one.cancel()
        outcomes = await asyncio.gather(main, *others, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # the rest of a body that nobody asked for


async def _stopping(engine: Engine) -> None:
    while not is_stopping(engine):  # noqa: ASYNC110 - the server sets a plain attribute
        await asyncio.sleep(LOOK)
