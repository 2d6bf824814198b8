"""PgQueuer on PostgreSQL through asyncpg: claims 100 jobs at a time, which its documentation advises for throughput."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.peers.command import Peer, Submit, main, server
from benchmarks.task import note

BATCH = 100


async def prepare() -> None:
    connection = await asyncpg.connect(server())
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    async with asyncpg.create_pool(server(), min_size=4, max_size=16) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))

        async def submit(number: int, sent: int) -> None:
            await queries.enqueue("note", json.dumps([number, sent]).encode())

        yield submit


async def fill(count: int) -> None:
    """Its batch call: one by one takes half a minute."""
    connection = await asyncpg.connect(server())
    queries = Queries(AsyncpgDriver(connection))
    for first in range(0, count, 1_000):
        numbers = range(first, min(first + 1_000, count))
        payloads = [json.dumps([number, time.monotonic_ns()]).encode() for number in numbers]
        await queries.enqueue(["note"] * len(payloads), list[bytes | None](payloads), [0] * len(payloads))
    await connection.close()


async def work() -> None:
    connection = await asyncpg.connect(server())
    queue = PgQueuer(AsyncpgDriver(connection))

    @queue.entrypoint("note")
    async def handle(job: Job) -> None:
        number, sent = json.loads(job.payload or b"[]")
        note(number, sent)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
    await queue.run(batch_size=BATCH)


if __name__ == "__main__":
    main(Peer(distribution="pgqueuer", opened=opened, work=work, prepare=prepare, fill=fill))
