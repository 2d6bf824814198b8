"""Procrastinate on PostgreSQL: one worker, 16 jobs at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from procrastinate import App, PsycopgConnector

from benchmarks.peers.command import Peer, Submit, main, server
from benchmarks.task import note_async

app = App(connector=PsycopgConnector(conninfo=server(), max_size=16))
handler = app.task(name="note")(note_async)


async def prepare() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    async with app.open_async():

        async def submit(number: int, sent: int) -> None:
            await handler.defer_async(number=number, sent=sent)

        yield submit


async def work() -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=16)


if __name__ == "__main__":
    main(Peer(distribution="procrastinate", opened=opened, work=work, prepare=prepare))
