"""Taskiq on a Redis stream, which acknowledges: one receiver in one process."""

import asyncio
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from taskiq.receiver import Receiver
from taskiq_redis import RedisStreamBroker

from benchmarks.peers.command import Peer, Submit, main, server
from benchmarks.task import note_async

# Read from the start of the stream: it is filled before a worker exists.
broker = RedisStreamBroker(server(), consumer_id="0")
handler = broker.task(task_name="note")(note_async)


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    await broker.startup()

    async def submit(number: int, sent: int) -> None:
        await handler.kiq(number, sent)

    try:
        yield submit
    finally:
        await broker.shutdown()


async def work() -> None:
    broker.is_worker_process = True
    await broker.startup()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    with ThreadPoolExecutor() as threads:
        await Receiver(broker, executor=threads, max_async_tasks=100).listen(ended)
    await broker.shutdown()


if __name__ == "__main__":
    main(Peer(distribution="taskiq", opened=opened, work=work))
