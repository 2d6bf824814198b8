"""Celery on Redis, prefork pool of two processes, acknowledging early as by default: a crash loses what was running."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from celery import Celery

from benchmarks.peers.command import Peer, Submit, main, server
from benchmarks.task import note

celery = Celery("bench", broker=server())
celery.conf.update(task_ignore_result=True, worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
handler: Any = celery.task(name="note")(note)


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    yield handler.delay


def work() -> None:
    celery.worker_main(["worker", "--loglevel=ERROR", "--concurrency=2", "--without-gossip", "--without-mingle"])


if __name__ == "__main__":
    main(Peer(distribution="celery", opened=opened, work=work))
