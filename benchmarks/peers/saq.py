"""SAQ on Redis: one worker, 10 jobs at once, its default."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from saq import Queue, Worker

from benchmarks.peers.command import Peer, Submit, main, server
from benchmarks.task import note


async def handle(context: Any, *, number: int, sent: int) -> None:
    note(number, sent)


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    queue = Queue.from_url(server())
    await queue.connect()

    async def submit(number: int, sent: int) -> None:
        await queue.enqueue("note", number=number, sent=sent)

    try:
        yield submit
    finally:
        await queue.disconnect()


async def work() -> None:
    queue = Queue.from_url(server())
    await queue.connect()
    await Worker(queue, functions=[("note", handle)], concurrency=10).start()


if __name__ == "__main__":
    main(Peer(distribution="saq", opened=opened, work=work))
