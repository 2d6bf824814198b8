"""A task that blocks the event loop is named, because nobody else can find it."""

import asyncio
import threading

import pytest

from afterwards._engine.watchdog import IDLE, PATIENCE, ROUND
from engine import jobs
from engine.rig import Rig


@pytest.fixture
def app_loop():
    """An application's event loop, turning on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    jobs.gate.set()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(jobs.DEADLINE)
    loop.close()


async def test_the_task_that_blocks_is_named_also_when_it_blocked_from_its_start(hands: Rig, app_loop, caplog):
    """The loop has never answered, so nothing is known of it but its stack."""
    hands.engine.adopt_loop(app_loop)
    hands.queue(jobs.block_the_loop)
    await hands.claimer.round()
    await hands.begun(jobs.begun)

    assert await hands.watchdog.round() == ROUND
    hands.clock.advance(PATIENCE / 1000 + 0.3)
    await hands.watchdog.round()

    [record] = [record for record in caplog.records if "has not turned" in record.message]
    assert "because task engine.jobs:block_the_loop blocks it" in record.message
    assert "in block\n" in record.message  # and where


async def test_one_block_is_told_once_and_the_next_one_again(hands: Rig, app_loop, caplog):
    """A warning each quarter of a second would hide everything else."""
    hands.engine.adopt_loop(app_loop)
    for times in (1, 2):
        id = hands.queue(jobs.block_the_loop)
        hands.claimer.hint()
        await hands.claimer.round()
        await hands.begun(jobs.begun)
        for _ in range(3):
            await hands.watchdog.round()
            hands.clock.advance(PATIENCE / 1000 + 0.3)
        assert caplog.text.count("has not turned") == times
        jobs.gate.set()
        await hands.settled(id)
        jobs.gate.clear()
        await hands.watchdog.round()


async def test_what_blocks_and_is_no_task_is_shown_by_its_stack(hands: Rig, app_loop, caplog):
    """A request handler that sleeps holds the tasks up, too."""
    hands.engine.adopt_loop(app_loop)
    hands.queue(jobs.hold_async)
    await hands.claimer.round()
    await hands.begun(jobs.begun)
    await hands.watchdog.round()
    answered = threading.Event()
    app_loop.call_soon_threadsafe(answered.set)
    assert await asyncio.to_thread(answered.wait, jobs.DEADLINE)

    app_loop.call_soon_threadsafe(jobs.block)
    await hands.begun(jobs.begun)
    await hands.watchdog.round()
    hands.clock.advance(PATIENCE / 1000 + 0.3)
    await hands.watchdog.round()

    [record] = [record for record in caplog.records if "has not turned" in record.message]
    assert "because task" not in record.message
    assert "in block\n" in record.message


async def test_it_is_silent_while_the_loop_turns(hands: Rig, caplog):
    """However long a task waits: waiting is what loops are for."""
    hands.queue(jobs.hold_async)
    await hands.claimer.round()
    await hands.begun(jobs.begun)

    for _ in range(20):
        await hands.watchdog.round()
        await asyncio.sleep(0)
        hands.clock.advance(0.25)

    assert "has not turned" not in caplog.text


async def test_with_nothing_on_a_loop_it_rests(hands: Rig):
    assert await hands.watchdog.round() == IDLE
