"""A loop of the engine never ends by itself: nobody would notice, and tasks would wait for ever."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager

import pytest

from afterwards._engine.loops import FAILED, Loop
from engine.clock import FakeClock
from engine.jobs import DEADLINE


class Body:
    """Counts its rounds, and does in each what it is told to."""

    def __init__(self, *answers: float | BaseException | None) -> None:
        self.answers = list(answers)
        self.rounds = 0
        self.turned = asyncio.Event()

    async def round(self) -> float | None:
        self.rounds += 1
        self.turned.set()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def turns(self) -> None:
        await asyncio.wait_for(self.turned.wait(), DEADLINE)
        self.turned.clear()


@asynccontextmanager
async def driven(body: Body, clock: FakeClock, **options):
    loop = Loop("counter", body, clock, **options)
    task = asyncio.create_task(loop.run())
    await body.turns()
    await settle()
    try:
        yield loop
    finally:
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def settle() -> None:
    """Let everything that is ready run: nothing here waits for the outside."""
    for _ in range(10):
        await asyncio.sleep(0)


RAISED: list[Callable[[], BaseException]] = [
    lambda: OSError("disk"),
    lambda: SystemExit(1),
    lambda: KeyboardInterrupt(),
    lambda: asyncio.CancelledError("somebody else's"),
]


@pytest.mark.parametrize("raised", RAISED)
async def test_a_round_that_raises_is_tried_again(raised, caplog):
    """Whatever it was: also what ends a program elsewhere, and a cancellation that was not meant for the loop."""
    clock, body = FakeClock(), Body(raised())
    async with driven(body, clock):
        clock.advance(FAILED)
        await body.turns()

    assert body.rounds == 2
    assert "the counter failed and is tried again" in caplog.text


async def test_a_wake_up_ends_a_wait_early():
    clock, body = FakeClock(), Body(60.0)
    async with driven(body, clock) as loop:
        loop.wake()
        await body.turns()


async def test_a_thousand_wake_ups_cost_a_patient_loop_one_round_after_its_pause():
    """A task that reports each of a million steps must not make a million transactions."""
    clock, body = FakeClock(), Body(0.25, None)
    async with driven(body, clock, patient=True) as loop:
        for _ in range(1000):
            loop.wake()
            await asyncio.sleep(0)
        assert body.rounds == 1
        clock.advance(0.25)
        await body.turns()
        await settle()
        assert body.rounds == 2
        loop.wake()
        await body.turns()
