"""RQ on Redis: its default worker, which forks a child for each job."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import Redis
from rq import Queue, Worker

from benchmarks.peers.command import Peer, Submit, main, server
from benchmarks.task import note

connection = Redis.from_url(server())
queue = Queue("bench", connection=connection)


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    def submit(number: int, sent: int) -> None:
        queue.enqueue(note, number, sent)

    yield submit


def work() -> None:
    Worker([queue], connection=connection).work(logging_level="ERROR")


if __name__ == "__main__":
    main(Peer(distribution="rq", opened=opened, work=work))
