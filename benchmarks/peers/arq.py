"""arq on Redis: one worker. Its default, 100 jobs each half second, would cap it at 200/s; set here to be no limit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from benchmarks.peers.command import Peer, Submit, main, server
from benchmarks.task import note


async def _handle(context: dict[str, Any], number: int, sent: int) -> None:
    note(number, sent)


coroutine: Any = _handle  # arq's own type for it admits no named parameters


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    pool = await create_pool(RedisSettings.from_dsn(server()))

    async def submit(number: int, sent: int) -> None:
        await pool.enqueue_job("note", number, sent)

    try:
        yield submit
    finally:
        await pool.aclose()


def work() -> None:
    settings = RedisSettings.from_dsn(server())
    handlers = [func(coroutine, name="note", keep_result=0)]
    Worker(handlers, redis_settings=settings, max_jobs=100, queue_read_limit=1_000, poll_delay=0.05).run()


if __name__ == "__main__":
    main(Peer(distribution="arq", opened=opened, work=work))
