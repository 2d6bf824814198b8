"""The verbs every system under test answers to, ours included.

    probe            import the system, print its version, do nothing
    prepare          make tables or whatever else it needs once
    fill COUNT       queue COUNT no-ops while no worker runs
    work             run tasks until SIGTERM
    alone COUNT      queue COUNT no-ops and run them, for systems whose queue lives in one process
    trickle COUNT    queue COUNT no-ops, one each 20 ms, for a worker elsewhere
    serve PORT       a FastAPI app: POST /task queues one no-op and answers 202

A peer says how to queue one task and how to run a worker; the rest is the same code for all. A coroutine function is
awaited on the loop and gets an `async def` endpoint; a plain function is called, and gets the `def` endpoint, on a
thread, that its documentation shows for FastAPI.
"""

import argparse
import asyncio
import inspect
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.task import SERVER, directory

GAP = 0.02  # seconds between two tasks of a trickle: long enough that each meets an idle worker
ABREAST = 16  # tasks handed over at once by `fill`, so that filling is not what takes the time

Submit = Callable[[int, int], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """How one system queues a task and runs it."""

    distribution: str  # its name on the package index
    opened: Callable[[bool], AbstractAsyncContextManager[Submit]]  # yields submit(number, sent); True: in a web process
    work: Callable[[], Any] | None = None  # returns, or is stopped, at SIGTERM
    prepare: Callable[[], Any] | None = None
    fill: Callable[[int], Any] | None = None  # its batch call, where queueing one by one would take too long
    alone: Callable[[int], Any] | None = None
    application: Callable[[], Any] | None = None  # its own FastAPI app, where it is a part of one


def server() -> str:
    """The address of the Redis or PostgreSQL that the harness started for this peer."""
    return os.environ[SERVER]


def database(name: str = "tasks.db") -> Path:
    """The SQLite file of this measurement."""
    return directory() / name


def main(peer: Peer) -> None:
    """Carry out the verb on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["probe", "prepare", "fill", "work", "alone", "trickle", "serve"])
    parser.add_argument("number", type=int, nargs="?", default=0)
    given = parser.parse_args()
    match given.verb:
        case "probe":
            print(version(peer.distribution))
        case "prepare":
            _call(peer.prepare)
        case "fill":
            if peer.fill is not None:
                _call(peer.fill, given.number)
            else:
                asyncio.run(_fill(peer, given.number))
        case "work":
            _call(peer.work)
        case "alone":
            _call(peer.alone, given.number)
        case "trickle":
            asyncio.run(_trickle(peer, given.number))
        case "serve":
            _serve(peer, given.number)


def _call(verb: Callable[..., Any] | None, *arguments: int) -> None:
    if verb is None:
        return
    result = verb(*arguments)
    if inspect.isawaitable(result):
        asyncio.run(_finish(result))


async def _finish(result: Awaitable[Any]) -> None:
    await result


async def _fill(peer: Peer, count: int) -> None:
    numbers = iter(range(count))

    async def hand_over(submit: Submit) -> None:
        for number in numbers:
            result = submit(number, time.monotonic_ns())
            if inspect.isawaitable(result):
                await result

    async with peer.opened(False) as submit:
        await asyncio.gather(*(hand_over(submit) for _ in range(ABREAST)))


async def _trickle(peer: Peer, count: int) -> None:
    async with peer.opened(False) as submit:
        for number in range(count):
            await asyncio.sleep(GAP)
            result = submit(number, time.monotonic_ns())
            if inspect.isawaitable(result):
                await result


def _serve(peer: Peer, port: int) -> None:
    import uvicorn  # here, because a worker that serves nothing may be installed without it
    from fastapi import FastAPI

    if peer.application is not None:
        run(uvicorn, peer.application(), port)
        return
    numbers = itertools.count()
    held: list[Submit] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with peer.opened(True) as submit:
            held.append(submit)
            if inspect.iscoroutinefunction(submit):
                app.post("/task", status_code=202)(on_the_loop)
            else:
                app.post("/task", status_code=202)(on_a_thread)
            yield

    async def on_the_loop() -> dict[str, int]:
        number = next(numbers)
        await held[0](number, time.monotonic_ns())
        return {"number": number}

    def on_a_thread() -> dict[str, int]:
        number = next(numbers)
        held[0](number, time.monotonic_ns())
        return {"number": number}

    app = FastAPI(lifespan=lifespan)
    run(uvicorn, app, port)


def run(uvicorn: Any, app: Any, port: int) -> None:
    """The web server of every side: one process, uvloop, httptools, no access log."""
    fast = {"loop": "uvloop", "http": "httptools"}
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning", **fast)
