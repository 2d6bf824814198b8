"""The bell: nobody waits for ever, and what comes together is taken together."""

import asyncio
import threading

from afterwards._domain.tasks import AttemptState, Settlement, TaskState
from afterwards._store.contract import Accept, FutureReply, Reply, Settle, ThreadReply
from afterwards._store.sqlite import inbox as inbox_module
from afterwards._store.sqlite.inbox import Inbox

ACCEPT = Accept(tasks=())
SETTLE = Settle(
    Settlement(id="i", attempt=1, token="t", outcome=AttemptState.SUCCEEDED, state=TaskState.SUCCEEDED, at=1)
)


class Writer:
    """Takes in a thread of its own."""

    def __init__(self, inbox: Inbox) -> None:
        self.batches: list[int] = []
        self.took = threading.Semaphore(0)
        self._inbox = inbox
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._inbox.wait()
            if taken := self._inbox.take(512):  # a ring that came in twice finds nothing
                self.batches.append(len(taken))
                self.took.release()

    def next(self) -> int:
        assert self.took.acquire(timeout=30)
        return self.batches[-1]


def test_a_command_that_somebody_waits_for_is_taken():
    inbox = Inbox()
    writer = Writer(inbox)
    for _ in range(3):
        inbox.put(ACCEPT, ThreadReply())
        assert writer.next() == 1


def test_a_command_that_nobody_waits_for_is_taken_too_asleep_or_not():
    inbox = Inbox()
    writer = Writer(inbox)
    for _ in range(3):
        inbox.put(SETTLE, Reply())
        assert writer.next() == 1


def test_ends_of_attempts_go_with_what_somebody_waits_for(monkeypatch):
    monkeypatch.setattr(inbox_module, "LINGER", 3600.0)
    inbox = Inbox()
    writer = Writer(inbox)
    inbox.put(SETTLE, Reply())
    inbox.put(SETTLE, Reply())
    inbox.put(ACCEPT, ThreadReply())

    assert writer.next() == 3


async def test_what_one_round_of_a_loop_hands_over_is_taken_together():
    inbox = Inbox()
    writer = Writer(inbox)
    loop = asyncio.get_running_loop()

    for round_ in range(1, 6):
        for _ in range(round_):
            inbox.put(ACCEPT, FutureReply(loop))
        assert writer.batches == list(range(1, round_))  # not before the round is over
        await asyncio.sleep(0)
        assert await asyncio.to_thread(writer.next) == round_


async def test_two_loops_do_not_take_each_others_turn():
    """A loop that has put something and then ends must not be the one that was to ring for all."""
    inbox = Inbox()
    writer = Writer(inbox)

    async def put() -> None:
        inbox.put(ACCEPT, FutureReply(asyncio.get_running_loop()))

    def other() -> None:
        asyncio.run(put())

    for _ in range(20):
        await asyncio.to_thread(other)
        await put()
    await asyncio.sleep(0)

    while sum(writer.batches) < 40:
        await asyncio.to_thread(writer.next)


def test_a_loop_that_does_not_run_is_not_waited_for():
    inbox = Inbox()
    writer = Writer(inbox)
    loop = asyncio.new_event_loop()
    inbox.put(ACCEPT, FutureReply(loop))
    assert writer.next() == 1
    reply = FutureReply(loop)
    loop.close()
    inbox.put(ACCEPT, reply)
    assert writer.next() == 1


def test_after_a_busy_batch_more_is_waited_for_until_it_is_enough(monkeypatch):
    monkeypatch.setattr(inbox_module, "GATHER", 3600.0)
    inbox = Inbox()
    for _ in range(inbox_module.BUSY):
        inbox.put(ACCEPT, ThreadReply())
    writer = Writer(inbox)
    assert writer.next() == inbox_module.BUSY

    for _ in range(inbox_module.ENOUGH - 1):
        inbox.put(ACCEPT, ThreadReply())
    assert not writer.took.acquire(timeout=0.05)
    inbox.put(ACCEPT, ThreadReply())

    assert writer.next() == inbox_module.ENOUGH


def test_the_wait_for_more_ends(monkeypatch):
    inbox = Inbox()
    for _ in range(inbox_module.BUSY):
        inbox.put(ACCEPT, ThreadReply())
    writer = Writer(inbox)
    assert writer.next() == inbox_module.BUSY
    inbox.put(ACCEPT, ThreadReply())

    assert writer.next() == 1


def test_what_is_left_over_is_taken_without_another_ring():
    inbox = Inbox()
    for _ in range(5):
        inbox.put(ACCEPT, ThreadReply())
    sizes = []
    for _ in range(3):
        inbox.wait()
        sizes.append(len(inbox.take(2)))

    assert sizes == [2, 2, 1]
