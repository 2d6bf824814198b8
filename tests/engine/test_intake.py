"""What is on record as running is started, or given back: whatever becomes of the request that brought it."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from afterwards._domain.ids import new_id
from afterwards._domain.options import PLAIN_CALL
from afterwards._domain.tasks import AttemptState, TaskState, WorkerInfo
from afterwards._engine.engine import Engine, Settings, _same_program
from afterwards._engine.intake import Intake, Plan
from afterwards._files.presence import Presence
from afterwards._store.contract import Accept, CallbackReply, Register, Stopping, ask_blocking
from afterwards._store.sqlite.store import SqliteStore
from afterwards.errors import Stopped, StorageFull, StorageUnsure
from engine import jobs
from engine.rig import KEY, Rig, no_files


class Started:
    """An engine that runs by itself, with the ways in."""

    def __init__(self, root: Path) -> None:
        self.store = SqliteStore(root / "afterwards.db")
        self.engine = Engine(root=root, store=self.store, key=KEY, settings=Settings(drain=0.1), reopen=no_files)
        self.engine.start(asyncio.get_running_loop())
        self.intake = Intake(self.engine)

    def plan(self, function=jobs.give, **how) -> Plan:
        draft = self.intake.draft(function, (), {}, PLAIN_CALL, lambda *_: None)
        return self.intake.plan([draft], **how)

    async def ended(self, id: str) -> TaskState:
        async with asyncio.timeout(jobs.DEADLINE):
            with self.engine.hub.listen() as listener:
                while (row := self.store.task(id)) is None or row.finished_at is None:
                    await listener.wait(1.0)
        return row.state

    async def freed(self) -> None:
        async with asyncio.timeout(jobs.DEADLINE):
            while self.engine.lanes.busy():
                with self.engine.hub.listen() as listener:
                    await listener.wait(0.1)


@pytest_asyncio.fixture
async def started(tmp_path: Path) -> AsyncIterator[Started]:
    made = Started(tmp_path)
    yield made
    jobs.gate.set()
    await asyncio.to_thread(made.engine.stop)


class Slow:
    """Holds the store's thread until it is told to go on."""

    def __init__(self, started: Started) -> None:
        self.go = threading.Event()
        started.store.watch(lambda _: self.go.wait(jobs.DEADLINE))


async def test_a_task_starts_when_it_is_stored_and_not_when_it_was_added(hands: Rig):
    """Between the two lies the rest of the endpoint, which may take its time."""
    intake = Intake(hands.engine)
    draft = intake.draft(jobs.give, (), {}, PLAIN_CALL, lambda *_: None)
    hands.clock.advance(1.5)

    plan = intake.plan([draft])

    assert plan.tasks[0].started_at == plan.tasks[0].created_at + 1_500_000
    plan.give_up()


async def test_a_process_tunes_its_interpreter_when_its_engine_starts(tmp_path: Path):
    gc.unfreeze()

    made = Started(tmp_path)

    assert gc.get_freeze_count() > 1_000
    await asyncio.to_thread(made.engine.stop)


async def test_a_program_of_another_folder_on_the_same_data_is_named_in_the_log(hands: Rig, caplog):
    """Both may have a `main:work`, and each would run the tasks of the other."""
    info = msgspec.structs.replace(hands.engine._info(), id=new_id(), pid=4242, folder="/srv/other", program="serve it")
    presence = Presence(hands.root, info.id)
    ask_blocking(hands.store, Register(info))

    made = Started(hands.root)

    [said] = [record.getMessage() for record in caplog.records if "same data directory" in record.getMessage()]
    assert said.startswith("process 4242, started in /srv/other with `serve it`, works on the same data directory")
    assert "a data directory of its own" in said
    await asyncio.to_thread(made.engine.stop)
    presence.close()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("uvicorn main:app --port 1", "uvicorn main:app --port 2", True),
        ("gunicorn -b 0.0.0.0:8000 main:app", "gunicorn -b 0.0.0.0:8001 main:app", True),
        ("afterwards run shop:app", "afterwards worker shop:app", True),
        ("afterwards run shop:app", "python fill.py", True),
        ("afterwards run shop:app", "afterwards run blog:app", False),
        ("uvicorn my-shop:app.inner", "uvicorn my-blog:app.inner", False),
    ],
)
def test_processes_of_one_folder_are_of_one_program_unless_they_serve_two(one: str, other: str, same: bool):
    first, second = (
        WorkerInfo(id="a", host="h", pid=1, boot="b", started_at=1, lease_until=1, program=program, folder="/srv")
        for program in (one, other)
    )

    assert _same_program(first, second) is same
    assert not _same_program(first, msgspec.structs.replace(second, folder="/opt"))


async def test_a_plan_that_is_stored_and_started_runs(started: Started):
    plan = started.plan()
    await started.intake.store(plan)
    assert jobs.journal == []

    plan.start()

    assert await started.ended(plan.tasks[0].id) is TaskState.SUCCEEDED


async def test_a_request_cancelled_before_its_commit_is_answered_still_runs_its_task(started: Started):
    """The client left while the disk was writing: it is stored, so it must run."""
    slow = Slow(started)
    plan = started.plan()
    storing = asyncio.create_task(started.intake.store(plan))
    await asyncio.sleep(0)

    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    slow.go.set()

    assert await started.ended(plan.tasks[0].id) is TaskState.SUCCEEDED


async def test_a_request_cancelled_just_as_its_answer_arrives_still_runs_its_task(started: Started, monkeypatch):
    """The answer is there and has not been taken: nothing will be delivered any more."""
    plan = started.plan()
    accept = started.engine.accept
    replies = []

    def remember(command, reply):
        replies.append(reply)
        reply.future.add_done_callback(lambda _: storing.cancel())  # before whoever waits is woken
        accept(command, reply)

    monkeypatch.setattr(started.engine, "accept", remember)
    storing = asyncio.create_task(started.intake.store(plan))
    with pytest.raises(asyncio.CancelledError):
        await storing

    assert replies[0].future.result() is None
    assert await started.ended(plan.tasks[0].id) is TaskState.SUCCEEDED


async def test_a_stored_plan_that_is_dropped_is_given_back_and_runs(started: Started):
    """An error between the commit and the response: nobody will ever call start."""
    plan = started.plan()
    id = plan.tasks[0].id
    await started.intake.store(plan)

    del plan
    gc.collect()

    assert await started.ended(id) is TaskState.SUCCEEDED
    states = [attempt.state for attempt in started.store.attempts(id)]
    assert states == [AttemptState.RELEASED, AttemptState.SUCCEEDED]


async def test_a_held_plan_that_is_dropped_is_let_go(started: Started):
    """A streamed response that was never sent."""
    plan = started.plan(held=True)
    id = plan.tasks[0].id
    await started.intake.store(plan)

    del plan
    gc.collect()

    assert await started.ended(id) is TaskState.SUCCEEDED


async def test_a_plan_that_was_never_stored_frees_its_places(started: Started):
    """The upload beside it could not be written."""
    plan = started.plan()
    assert started.engine.lanes.busy() == 1

    del plan
    gc.collect()

    await started.freed()


async def test_an_event_loop_that_is_closed_during_the_commit_does_not_leave_its_task_running_for_ever(
    started: Started,
):
    """`asyncio.run` in a script: its answer finds no loop any more, and the rows say that it runs."""
    slow = Slow(started)
    ids: list[str] = []

    def script() -> None:
        loop = asyncio.new_event_loop()
        plan = started.plan()
        ids.append(plan.tasks[0].id)
        storing = loop.create_task(started.intake.store(plan))
        loop.run_until_complete(asyncio.sleep(0))
        storing._log_destroy_pending = False  # that is what is tried here
        loop.close()

    await asyncio.to_thread(script)
    slow.go.set()
    async with asyncio.timeout(jobs.DEADLINE):
        with started.engine.hub.listen() as listener:
            while started.store.task(ids[0]) is None:
                await listener.wait(1.0)
    await asyncio.to_thread(
        ask_blocking, started.store, Stopping(worker="nobody", now=1)
    )  # its answer has been dropped
    gc.collect()

    assert await started.ended(ids[0]) is TaskState.SUCCEEDED


@pytest.mark.parametrize("refusal", [StorageFull("full"), OSError("what nobody thought of")])
async def test_a_refused_plan_frees_its_places(started: Started, monkeypatch, refusal):
    submit = started.store.submit
    monkeypatch.setattr(
        started.store,
        "submit",
        lambda command, reply: reply.deliver(refusal) if type(command) is Accept else submit(command, reply),
    )
    plan = started.plan()

    with pytest.raises(type(refusal)):
        await started.intake.store(plan)
    with pytest.raises(type(refusal)):
        await asyncio.to_thread(started.intake.store_blocking, started.plan())

    await started.freed()


@pytest.mark.parametrize("stored", [True, False])
async def test_after_an_unsure_answer_the_task_runs_if_it_is_on_record_and_its_place_is_free(
    started: Started, monkeypatch, stored
):
    """The client was told that nobody knows. If it is there, it must not be there as running for ever."""
    submit = started.store.submit

    def unsure(command, reply):
        if type(command) is Accept:
            if stored:
                submit(command, CallbackReply(lambda _: None))
            reply.deliver(StorageUnsure("the disk failed"))
        else:
            submit(command, reply)

    monkeypatch.setattr(started.store, "submit", unsure)
    plan = started.plan()
    id = plan.tasks[0].id

    with pytest.raises(StorageUnsure):
        await started.intake.store(plan)

    await started.freed()
    if stored:
        assert await started.ended(id) is TaskState.SUCCEEDED
    else:
        assert started.store.task(id) is None


async def test_what_is_started_after_the_drain_is_given_back_and_not_run(tmp_path: Path):
    """Its response took longer than the server had: it must not run here while the next start runs it, too."""
    started = Started(tmp_path)
    plan = started.plan()
    await started.intake.store(plan)
    await asyncio.to_thread(started.engine.stop)

    plan.start()

    assert jobs.journal == []
    store = SqliteStore(tmp_path / "afterwards.db")
    row = store.task(plan.tasks[0].id)
    assert row is not None
    assert (row.state, row.interruptions) == (TaskState.QUEUED, 0)
    store.close()


async def test_what_arrives_after_the_worker_signed_off_is_refused(tmp_path: Path):
    """Accepted as running by a worker that is gone, it would have nobody to free it."""
    started = Started(tmp_path)
    plan, another = started.plan(), started.plan()
    await asyncio.to_thread(started.engine.stop)

    with pytest.raises(Stopped):
        await started.intake.store(plan)
    with pytest.raises(Stopped):
        await asyncio.to_thread(started.intake.store_blocking, another)
    with pytest.raises(Stopped):
        started.plan()

    store = SqliteStore(tmp_path / "afterwards.db")
    assert store.counts() == {}
    store.close()
