"""Dramatiq on Redis: one worker process with its default of 8 threads, here run through its `Worker` class."""

import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers.command import Peer, Submit, main, server
from benchmarks.task import note

broker: Any = cast(Any, RedisBroker)(url=server())
dramatiq.set_broker(broker)
handler = dramatiq.actor(actor_name="note")(note)


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    yield handler.send


def work() -> None:
    worker = dramatiq.Worker(broker, worker_threads=8)
    worker.start()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    worker.stop()


if __name__ == "__main__":
    main(Peer(distribution="dramatiq", opened=opened, work=work))
