"""At a stop, what runs may finish for a while; the rest is given back and not counted against it."""

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from afterwards._domain.options import PLAIN_CALL, CallOptions
from afterwards._domain.tasks import AttemptState, TaskState
from afterwards._engine.engine import Engine, Settings
from afterwards._engine.intake import Intake
from afterwards._store.contract import Register
from afterwards._store.sqlite.store import SqliteStore
from afterwards.errors import Error, StorageFull, StorageUnsure
from engine import jobs
from engine.rig import KEY, no_files


def start(root: Path, drain: float, loop: asyncio.AbstractEventLoop | None = None) -> tuple[Engine, Intake]:
    store = SqliteStore(root / "afterwards.db", busy=1.0)
    engine = Engine(root=root, store=store, key=KEY, settings=Settings(drain=drain), reopen=no_files)
    engine.start(loop)
    return engine, Intake(engine)


def run(intake: Intake, function, *args, options: CallOptions = PLAIN_CALL) -> str:
    draft = intake.draft(function, args, {}, options, lambda *_: None)
    plan = intake.plan([draft])
    intake.store_blocking(plan)
    plan.start()
    return draft.id


def look(root: Path, id: str) -> tuple[TaskState, int, list[AttemptState]]:
    store = SqliteStore(root / "afterwards.db")
    try:
        row = store.task(id)
        assert row is not None
        return row.state, row.interruptions, [attempt.state for attempt in store.attempts(id)]
    finally:
        store.close()


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("afterwards")}


def test_what_ends_within_the_limit_ends_as_if_nothing_were(tmp_path):
    engine, intake = start(tmp_path, drain=jobs.DEADLINE)
    id = run(intake, jobs.hold)
    assert jobs.begun.acquire(timeout=jobs.DEADLINE)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()

    jobs.gate.set()
    stopping.join(jobs.DEADLINE)

    assert not stopping.is_alive()
    assert look(tmp_path, id) == (TaskState.SUCCEEDED, 0, [AttemptState.SUCCEEDED])
    assert not list((tmp_path / "workers").iterdir())


async def test_async_tasks_beyond_the_limit_are_cancelled_and_given_back(tmp_path):
    engine, intake = start(tmp_path, drain=0, loop=asyncio.get_running_loop())
    id = await asyncio.to_thread(run, intake, jobs.hold_async)
    assert await asyncio.to_thread(jobs.begun.acquire, timeout=jobs.DEADLINE)

    await asyncio.to_thread(engine.stop)

    assert jobs.journal == ["held was cancelled"]
    assert look(tmp_path, id) == (TaskState.QUEUED, 0, [AttemptState.RELEASED])


async def test_a_task_that_may_run_only_once_is_not_given_back_when_it_had_begun(tmp_path):
    """At most once: nobody knows how far it got, so a person decides."""
    engine, intake = start(tmp_path, drain=0, loop=asyncio.get_running_loop())
    once = CallOptions(at_most_once=True)
    id = await asyncio.to_thread(lambda: run(intake, jobs.hold_async, options=once))
    assert await asyncio.to_thread(jobs.begun.acquire, timeout=jobs.DEADLINE)

    await asyncio.to_thread(engine.stop)

    assert look(tmp_path, id) == (TaskState.QUARANTINED, 1, [AttemptState.INTERRUPTED])


def test_plain_functions_beyond_the_limit_go_on_and_free_the_worker_when_they_end(tmp_path, caplog):
    """A thread cannot be stopped: the program says what it leaves, and stays alive for the others until it ends."""
    engine, intake = start(tmp_path, drain=0)
    id = run(intake, jobs.hold)
    assert jobs.begun.acquire(timeout=jobs.DEADLINE)

    engine.stop()

    assert "still running at the stop, to be run again by the next start: engine.jobs:hold" in caplog.text
    [closing] = [thread for thread in threading.enumerate() if thread.name == "afterwards-close"]
    jobs.gate.set()
    closing.join(jobs.DEADLINE)
    assert look(tmp_path, id) == (TaskState.SUCCEEDED, 0, [AttemptState.SUCCEEDED])


def test_stopping_leaves_no_thread_and_may_be_done_twice(tmp_path):
    before = threads()
    engine, intake = start(tmp_path, drain=1)
    run(intake, jobs.give)

    engine.stop()
    engine.stop()

    for thread in threading.enumerate():
        if thread.name.startswith("afterwards-task"):
            thread.join(jobs.DEADLINE)
    assert threads() <= before


def test_a_stop_right_after_the_start_ends(tmp_path):
    engine, _ = start(tmp_path, drain=1)

    engine.stop()

    assert engine._loop.is_closed()


def test_a_data_directory_deleted_under_a_running_engine_is_told_and_does_not_hang_it(tmp_path, caplog):
    """There is nothing left to save; but every answer says so, and the stop ends."""
    root = tmp_path / "data"
    root.mkdir()
    engine, intake = start(root, drain=0)
    run(intake, jobs.give)

    shutil.rmtree(root)

    with pytest.raises(StorageUnsure, match="replaced or removed"):
        run(intake, jobs.give)
    assert engine.store.health() is not None
    engine.stop()
    assert engine._loop.is_closed()


def test_an_engine_that_cannot_register_leaves_nothing_behind(tmp_path, monkeypatch):
    """A full disk at the start: the program may try again later, in the same process."""
    store = SqliteStore(tmp_path / "afterwards.db")
    submit = store.submit

    def full(command, reply):
        if type(command) is Register:
            reply.deliver(StorageFull("the disk is full"))
        else:
            submit(command, reply)

    monkeypatch.setattr(store, "submit", full)
    engine = Engine(root=tmp_path, store=store, key=KEY, settings=Settings(), reopen=no_files)

    with pytest.raises(Error, match="full"):
        engine.start(None)

    assert not list((tmp_path / "workers").iterdir())
    store.close()
