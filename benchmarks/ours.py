"""The verbs of our own side, as `peers/command.py` has them for the peers: `python -m benchmarks.ours VERB`.

serve PORT         the app of `app.py`, tasks run in the same process
work               the same on a port of its own choice, which nobody asks: an engine and its queue
fill COUNT KIND    queue COUNT no-ops in a process that runs none; KIND is "coroutine" or "thread"
trickle COUNT      queue COUNT no-ops, one each 20 ms, in a process that runs none
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from afterwards import Afterwards
from benchmarks.app_data import data_of
from benchmarks.children import free_port
from benchmarks.peers.command import ABREAST, GAP, run
from benchmarks.task import directory, note, note_async


def main() -> None:
    match sys.argv[1:]:
        case ["serve", port]:
            _serve(int(port))
        case ["work"]:
            _serve(free_port())
        case ["fill", count, kind]:
            asyncio.run(_fill(int(count), kind))
        case ["trickle", count]:
            asyncio.run(_trickle(int(count)))
        case other:
            sys.exit(f"unknown: {' '.join(other)}; the verbs are serve PORT, work, fill COUNT KIND, trickle COUNT")


def _serve(port: int) -> None:
    import uvicorn

    from benchmarks.app import app  # here: importing it makes an engine of the data directory, which `fill` must not

    run(uvicorn, app, port)


@asynccontextmanager
async def _producer() -> AsyncIterator[Afterwards]:
    afterwards = Afterwards(data=data_of(directory()), runs_tasks=False)
    await afterwards.start()
    try:
        yield afterwards
    finally:
        await afterwards.stop()


async def _fill(count: int, kind: str) -> None:
    function = {"coroutine": note_async, "thread": note}[kind]
    numbers = iter(range(count))

    async def hand_over(afterwards: Afterwards) -> None:
        for number in numbers:
            await afterwards.enqueue(function, number, time.monotonic_ns())

    async with _producer() as afterwards:
        await asyncio.gather(*(hand_over(afterwards) for _ in range(ABREAST)))


async def _trickle(count: int) -> None:
    async with _producer() as afterwards:
        for number in range(count):
            await asyncio.sleep(GAP)
            await afterwards.enqueue(note_async, number, time.monotonic_ns())


if __name__ == "__main__":
    main()
