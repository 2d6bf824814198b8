"""Every attempt ends as exactly one settlement, whatever its code does."""

import asyncio
import logging
import threading
from contextlib import contextmanager

import msgspec
import pytest
from fastapi import UploadFile

from afterwards._domain.options import PLAIN_CALL
from afterwards._domain.tasks import AttemptState, Failure, TaskRow, TaskState
from afterwards._engine.intake import Intake
from afterwards._files.stored import ReadOnlyBytes
from afterwards._store.contract import Rescue, Settle, ask_blocking
from afterwards.errors import StorageFull, StoreBusy, TooManyOpenFiles
from engine import jobs
from engine.rig import Rig, rig


def error(row: TaskRow) -> Failure:
    assert row.error is not None
    return msgspec.json.decode(row.error, type=Failure)


async def test_a_result_is_stored(hands: Rig):
    row = await hands.run(jobs.give, {"pages": [1, 2]})

    assert (row.state, row.result) == (TaskState.SUCCEEDED, '{"pages":[1,2]}')
    [attempt] = hands.store.attempts(row.id)
    assert (attempt.state, attempt.worker) == (AttemptState.SUCCEEDED, hands.engine.worker)


@pytest.mark.parametrize("function", [jobs.fail, jobs.fail_async])
async def test_an_exception_is_kept_with_its_traceback(hands: Rig, function):
    row = await hands.run(function, "no ink")

    assert row.state is TaskState.FAILED
    assert (error(row).type, error(row).message) == ("ValueError", "no ink")
    assert "jobs.py" in (error(row).traceback or "")


@pytest.mark.parametrize("function", [jobs.leave, jobs.leave_async])
async def test_system_exit_of_a_task_ends_the_task_and_not_the_program(hands: Rig, function):
    row = await hands.run(function)

    assert row.state is TaskState.FAILED
    assert error(row).type == "SystemExit"


async def test_an_exception_that_cannot_be_printed_is_still_recorded(hands: Rig):
    """Its own `str` raises SystemExit: the record must not be lost with it."""
    row = await hands.run(jobs.fail_mutely)

    assert row.state is TaskState.FAILED
    assert error(row).type == "engine.jobs.Mute"
    assert "could not be made" in error(row).message


async def test_cancelled_error_raised_by_the_code_is_a_failure(hands: Rig):
    """Nobody cancelled anything: given back, it would come again for ever."""
    row = await hands.run(jobs.cancelled)

    assert row.state is TaskState.FAILED
    assert error(row).type == "asyncio.exceptions.CancelledError"


async def test_code_that_cancels_its_own_asyncio_task_does_not_come_again_for_ever(hands: Rig):
    """It looks like the end of the event loop, so it is given back: once."""
    row = await hands.run(jobs.cancel_oneself)
    assert row.state is TaskState.QUEUED

    row = await hands.claim_and_settle(row.id)

    assert row.state is TaskState.FAILED
    states = [attempt.state for attempt in hands.store.attempts(row.id)]
    assert states == [AttemptState.RELEASED, AttemptState.FAILED]
    assert jobs.journal == ["cancels itself"] * 2


async def test_a_timeout_names_the_limit(hands: Rig):
    row = await hands.run(jobs.too_slow)

    assert row.state is TaskState.FAILED
    assert error(row).type == "TimeoutError"
    assert "0.01 s" in error(row).message


@pytest.mark.parametrize("function", [jobs.unstorable, jobs.unstorable_with_retries])
async def test_a_result_that_cannot_be_stored_fails_once_with_that_reason(hands: Rig, function):
    """The work is done and its effects are there: a retry would do it again and end the same."""
    row = await hands.run(function)

    assert row.state is TaskState.FAILED
    assert error(row).type == "afterwards.errors.UnstorableResult"
    assert "lock" in error(row).message
    assert jobs.journal == ["unstorable"]


async def test_a_result_that_the_database_will_never_take_fails_with_that_reason(hands: Rig, monkeypatch):
    """SQLite ends at a gigabyte; refused for good, the outcome must not be offered for ever nor forgotten."""
    submit = hands.store.submit

    def refuse_results(command, reply):
        if type(command) is Settle and command.settlement.result is not None:
            reply.deliver(OverflowError("string or blob too big"))
        else:
            submit(command, reply)

    monkeypatch.setattr(hands.store, "submit", refuse_results)

    row = await hands.run(jobs.give)

    assert row.state is TaskState.FAILED
    assert "the result could not be stored: string or blob too big" in error(row).message


async def test_damaged_arguments_fail_without_a_call(hands: Rig, monkeypatch):
    """The signature of the function has changed since: no retry makes them fit."""
    id = hands.queue(jobs.damaged, 1)

    def damaged(number: int, and_another: int) -> int:
        raise AssertionError

    damaged.__module__, damaged.__qualname__ = jobs.damaged.__module__, jobs.damaged.__qualname__
    monkeypatch.setattr(jobs, "damaged", damaged)

    row = await hands.claim_and_settle(id)

    assert row.state is TaskState.FAILED
    assert error(row).type == "afterwards.errors.DamagedArguments"


async def test_plain_functions_run_on_threads_of_ours_and_async_ones_on_the_loop(hands: Rig):
    plain = await hands.run(jobs.where)
    coroutine = await hands.run(jobs.where_async)

    assert "afterwards-task" in (plain.result or "")
    assert threading.current_thread().name in (coroutine.result or "")


async def test_an_object_with_an_async_call_runs_on_the_loop(hands: Rig):
    """On a thread it would only be called: a coroutine that nobody awaits."""
    row = await hands.run(jobs.call_me)

    assert (row.state, row.result) == (TaskState.SUCCEEDED, '"called"')


async def test_never_more_plain_functions_at_once_than_there_are_threads(tmp_path):
    """The limit is the program's memory: the rest waits in the database."""
    with rig(tmp_path, threads=2) as hands:
        ids = [hands.queue(jobs.hold) for _ in range(3)]
        await hands.claimer.round()
        await hands.begun(jobs.begun)
        await hands.begun(jobs.begun)

        await hands.claimer.round()

        assert not jobs.begun.acquire(blocking=False)
        assert hands.state(ids[2]) is TaskState.QUEUED
        jobs.gate.set()
        await hands.until(lambda: hands.engine.lanes.busy() == 0)


@pytest.mark.parametrize("function", [jobs.who, jobs.who_async])
async def test_a_task_knows_who_it_is_and_nothing_of_who_started_it(hands: Rig, function):
    """The request that queued it is over; after a restart there is none."""
    jobs.outside.set("the request's")

    row = await hands.run(function)

    assert msgspec.json.decode(row.result or "")["$tuple"] == [row.id, row.name, 1, row.id, "nothing"]


@pytest.mark.parametrize("function", [jobs.read, jobs.read_and_fail])
async def test_files_are_opened_for_the_attempt_and_closed_after_it(tmp_path, function):
    """A worker runs for months; a descriptor left open by each attempt would end it in a day."""
    upload = UploadFile(ReadOnlyBytes(b"content"), filename="a.txt")

    class Kept:
        id = "f" * 43

    with rig(tmp_path, reopen=lambda _: upload) as hands:
        intake = Intake(hands.front)
        draft = intake.draft(function, (upload,), {}, PLAIN_CALL, lambda *_: Kept())
        draft.files = ()  # the store keeps no row of this one
        intake.store_blocking(intake.plan([draft]))

        row = await hands.claim_and_settle(draft.id)

    assert row.attempt == 1
    assert jobs.opened == [upload]
    assert upload.file.closed


@pytest.mark.parametrize("passing", [TooManyOpenFiles("no descriptor is left"), StoreBusy("locked")])
async def test_a_file_that_cannot_be_opened_now_is_opened_later(tmp_path, passing):
    """It was accepted, and neither it nor the code is at fault: nothing is counted against it."""
    upload = UploadFile(ReadOnlyBytes(b"content"), filename="a.txt")
    ways = [passing] * 5

    class Kept:
        id = "f" * 43

    def reopen(_: str) -> UploadFile:
        if ways:
            raise ways.pop()
        return upload

    with rig(tmp_path, reopen=reopen) as hands:
        intake = Intake(hands.front)
        draft = intake.draft(jobs.read, (upload,), {}, PLAIN_CALL, lambda *_: Kept())
        draft.files = ()  # the store keeps no row of this one
        intake.store_blocking(intake.plan([draft]))

        for _ in range(5):
            row = await hands.claim_and_settle(draft.id)
            assert (row.state, error(row).message) == (TaskState.RETRYING, str(passing))
            hands.clock.advance(120)
        row = await hands.claim_and_settle(draft.id)

    assert (row.state, row.failures, row.interruptions) == (TaskState.SUCCEEDED, 0, 0)


async def test_a_late_outcome_is_refused_and_changes_nothing(hands: Rig, caplog):
    """The attempt was taken away while it ran: only the newest one decides."""
    id = hands.queue(jobs.hold, "late")
    await hands.claimer.round()
    await hands.begun(jobs.begun)
    ask_blocking(hands.store, Rescue(worker=hands.engine.worker, now=hands.clock.now(), reason="it stood still"))
    before = hands.store.task(id), hands.store.attempts(id), hands.store.events(0, task=id)

    jobs.gate.set()
    await hands.until(lambda: hands.engine.lanes.busy() == 0)
    assert await asyncio.to_thread(hands.runner.wait_idle, jobs.DEADLINE)

    assert (hands.store.task(id), hands.store.attempts(id), hands.store.events(0, task=id)) == before
    assert "no longer holds its lease" in caplog.text


async def test_an_outcome_that_the_disk_cannot_take_is_offered_until_it_is_stored(hands: Rig, monkeypatch):
    """The work is done: a full disk passes, and no thread is spent on waiting for that."""
    id = hands.queue(jobs.give)
    submit = hands.store.submit
    refused = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def full(command, reply):
        if type(command) is Settle:
            reply.deliver(StorageFull("the disk is full"))
            loop.call_soon_threadsafe(refused.put_nowait, command)
        else:
            submit(command, reply)

    monkeypatch.setattr(hands.store, "submit", full)
    await hands.claimer.round()
    first = await asyncio.wait_for(refused.get(), jobs.DEADLINE)
    offers = hands.engine._again
    assert await offers.round() == 0.5
    hands.clock.advance(0.5)
    await offers.round()
    assert await asyncio.wait_for(refused.get(), jobs.DEADLINE) == first
    assert hands.state(id) is TaskState.RUNNING

    monkeypatch.setattr(hands.store, "submit", submit)
    hands.clock.advance(0.5)
    await offers.round()

    assert (await hands.settled(id)).state is TaskState.SUCCEEDED
    assert await offers.round() is None


async def test_the_end_of_its_event_loop_gives_an_attempt_back(hands: Rig):
    """`asyncio.run` ended with it half done. Neither lost nor failed: it did nothing wrong."""
    loop = asyncio.new_event_loop()
    hands.engine.adopt_loop(loop)
    id = hands.queue(jobs.hold_async)
    await hands.claimer.round()
    await asyncio.to_thread(loop.run_until_complete, asyncio.sleep(0))  # it begins
    await hands.begun(jobs.begun)

    loop.close()
    await hands.watchdog.round()

    row = await hands.settled(id)
    assert row.state is TaskState.QUEUED
    assert [attempt.state for attempt in hands.store.attempts(id)] == [AttemptState.RELEASED]
    assert hands.engine.lanes.busy() == 0


async def test_an_event_loop_closed_between_claim_and_start_gives_the_attempt_back(hands: Rig):
    """It was handed to a loop that never turned again."""
    loop = asyncio.new_event_loop()
    hands.engine.adopt_loop(loop)
    id = hands.queue(jobs.give_async, "never run")
    await hands.claimer.round()

    loop.close()
    await hands.watchdog.round()

    assert (await hands.settled(id)).state is TaskState.QUEUED
    assert "never run" not in jobs.journal


async def test_a_coroutine_thrown_away_in_the_middle_is_given_back(hands: Rig):
    """What the garbage collector raises in it is no failure of the task."""
    loop = asyncio.new_event_loop()
    hands.engine.adopt_loop(loop)
    id = hands.queue(jobs.hold_async, "thrown away")
    await hands.claimer.round()
    await asyncio.to_thread(loop.run_until_complete, asyncio.sleep(0))
    await hands.begun(jobs.begun)
    [attempt] = hands.runner.active.values()

    attempt.task.get_coro().close()

    assert (await hands.settled(id)).state is TaskState.QUEUED
    assert "thrown away was cancelled" in jobs.journal
    loop.close()


async def test_a_claim_of_an_unknown_function_is_given_back_and_the_others_start(hands: Rig, monkeypatch):
    """It cannot happen; when it does, it must not take the rest of the batch along."""
    ids = [hands.queue(jobs.give, number) for number in range(3)]
    named, asked = hands.engine.registry.named, []

    def forgets_once(name):
        asked.append(name)
        return None if len(asked) in (4, 5) else named(name)

    monkeypatch.setattr(hands.engine.registry, "named", forgets_once)

    await hands.claimer.round()

    await hands.until(lambda: [hands.state(id) for id in ids].count(TaskState.SUCCEEDED) == 2)
    assert [hands.state(id) for id in ids].count(TaskState.QUEUED) == 1


async def test_a_system_without_threads_to_give_makes_tasks_wait_and_not_vanish(hands: Rig, monkeypatch, caplog):
    """At the limit of processes no thread can be started for a while."""
    id = hands.queue(jobs.give)
    with refusing_threads(monkeypatch):
        hands.claimer.hint()
        await hands.claimer.round()
        assert hands.state(id) is TaskState.RUNNING
        assert "refuses a thread" in caplog.text

    await hands.watchdog.round()

    assert (await hands.settled(id)).state is TaskState.SUCCEEDED


@contextmanager
def refusing_threads(monkeypatch):
    start = threading.Thread.start

    def refuse(self):
        if self.name.startswith("afterwards-task"):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    try:
        yield
    finally:
        monkeypatch.setattr(threading.Thread, "start", start)


async def test_a_log_handler_that_raises_does_not_keep_an_outcome_from_being_stored(hands: Rig):
    """The program's own logging is the program's own affair."""

    class Angry(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ZeroDivisionError

    angry = Angry()
    logging.getLogger("afterwards.engine").addHandler(angry)
    try:
        row = await hands.run(jobs.fail_async)
    finally:
        logging.getLogger("afterwards.engine").removeHandler(angry)

    assert row.state is TaskState.FAILED
    assert hands.engine.lanes.busy() == 0


async def test_an_attempt_is_on_record_before_its_code_runs(hands: Rig, monkeypatch):
    """Promise 5: attempts committed are never fewer than runs started."""
    at_start: list[int] = []

    def look() -> None:
        at_start.append(len(hands.store.attempts(id)))

    monkeypatch.setattr(jobs, "give", look)
    look.__module__, look.__qualname__ = "engine.jobs", "give"
    id = hands.queue(look)

    await hands.claim_and_settle(id)

    assert at_start == [1]
