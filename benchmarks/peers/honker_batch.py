"""Honker with a worker loop written by hand around `claim_batch` and `ack_batch`, 100 jobs at a time.

Not the worker it ships: an error in one job is not handled, nothing is recorded per attempt, and a crash runs up to 100
jobs again. It is here because its interface allows it and it is the fastest way through its queue.
"""

import asyncio

import honker

from benchmarks.peers.command import Peer, database, main
from benchmarks.peers.honker import opened
from benchmarks.task import note

BATCH = 100


async def work() -> None:
    queue = honker.open(str(database())).queue("bench")
    while True:
        jobs = queue.claim_batch("bench-worker", BATCH)
        for job in jobs:
            note(job.payload["number"], job.payload["sent"])
        if jobs:
            queue.ack_batch([job.id for job in jobs], "bench-worker")
        else:
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    main(Peer(distribution="honker", opened=opened, work=work))
