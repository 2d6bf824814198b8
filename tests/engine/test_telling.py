"""Progress and log lines reach the store a few times a second, and never instead of an outcome."""

import asyncio
import logging

import msgspec
import pytest

from afterwards._domain.options import PLAIN, PLAIN_CALL
from afterwards._domain.tasks import Claim, TaskState
from afterwards._engine import context, logs
from afterwards._engine.context import MOST_LINES, Progress, Running
from afterwards._engine.engine import Engine, Settings
from afterwards._engine.intake import Intake
from afterwards._engine.lanes import Lane
from afterwards._engine.registry import Known
from afterwards._engine.teller import ROUND
from afterwards._store.contract import Know, ask
from afterwards._store.sqlite.store import SqliteStore
from engine import jobs
from engine.clock import FakeClock
from engine.rig import KEY, Rig, no_files

KNOWN = Known(name="n", function=jobs.report, options=PLAIN, lane=Lane.THREAD)


def told(hands: Rig, id: str, kind: str) -> list[dict]:
    return [event.data for event in hands.store.events(0, task=id, limit=100_000) if event.kind == kind]


@pytest.fixture(autouse=True)
def _captured():
    logs.capture()
    yield
    logging.getLogger().removeHandler(logs._capture)


async def test_many_reports_are_stored_as_one(hands: Rig):
    """What counts is how far it is now: a million steps are not a million rows."""
    row = await hands.run(jobs.report, 500)

    assert told(hands, row.id, "progress") == [{"done": 500, "total": 500, "unit": None, "message": "steps"}]
    assert msgspec.json.decode(row.progress or "")["done"] == 500


async def test_a_round_stores_what_is_new_and_then_rests(hands: Rig):
    """Four times a second at most; with nothing to tell it sleeps until somebody reports."""
    id = hands.queue(jobs.hold)
    await hands.claimer.round()
    await hands.begun(jobs.begun)
    [attempt] = hands.runner.active.values()
    attempt.report({"done": 1})
    attempt.report({"done": 2})

    assert await hands.teller.round() == ROUND
    assert await hands.teller.round() is None

    await hands.until(lambda: told(hands, id, "progress") == [{"done": 2}])
    jobs.gate.set()
    await hands.settled(id)


async def test_the_newest_progress_is_stored_although_threads_report_it(hands: Rig):
    """Between taking one and forgetting it, a thread may report the next: that one must not be forgotten."""
    id = hands.queue(jobs.report_from_threads)
    await hands.claimer.round()
    while hands.state(id) is TaskState.RUNNING:
        await hands.teller.round()
        await asyncio.sleep(0)

    assert told(hands, id, "progress")[-1]["done"] == 999


async def test_odd_values_of_progress_do_not_leave_the_task_without_an_end(hands: Rig):
    """A Decimal, an integer beyond 64 bits, a file name that is no text: told as well as JSON can."""
    row = await hands.run(jobs.report_oddly)

    assert row.state is TaskState.SUCCEEDED
    [data] = told(hands, row.id, "progress")
    assert data == {"done": 0.5, "total": float(2**70), "message": "file ?", "unit": "?"}


async def test_a_running_engine_stores_progress_four_times_a_second_and_not_more(tmp_path):
    """However often it is reported: each is a transaction, and would be an event for everyone who watches."""
    clock = FakeClock()
    store = SqliteStore(tmp_path / "afterwards.db")
    engine = Engine(root=tmp_path, store=store, key=KEY, settings=Settings(drain=0), reopen=no_files, clock=clock)
    engine.start(asyncio.get_running_loop())
    intake = Intake(engine)
    draft = intake.draft(jobs.hold, (), {}, PLAIN_CALL, lambda *_: None)
    plan = intake.plan([draft])
    await intake.store(plan)
    plan.start()
    assert await asyncio.to_thread(jobs.begun.acquire, timeout=jobs.DEADLINE)
    [attempt] = engine.runner.active.values()

    async def dones(number: int) -> list[int]:
        """What has been stored once there is so much, and whatever is on its way has arrived."""
        async with asyncio.timeout(jobs.DEADLINE):
            while True:
                for _ in range(5):  # turns of the engine's loop, each followed by a commit
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), engine._loop))
                    await ask(store, Know(worker=engine.worker, names=()))
                found = [event.data["done"] for event in store.events(0, task=draft.id) if event.kind == "progress"]
                if len(found) >= number:
                    return found

    attempt.report({"done": 0})
    assert await dones(1) == [0]
    for number in range(1, 6):
        attempt.report({"done": number})
        assert await dones(1) == [0]
    clock.advance(ROUND)
    assert await dones(2) == [0, 5]

    jobs.gate.set()
    await asyncio.to_thread(engine.stop)


def test_what_is_told_and_what_is_taken_wait_for_each_other():
    """Python may switch threads between taking the newest progress and forgetting it."""
    entered = []

    class Lock:
        def __enter__(self) -> None:
            entered.append(True)

        def __exit__(self, *_: object) -> None: ...

    claim = Claim(id="i", name="n", attempt=1, token="t", arguments="", signature="", created_at=1, started_at=1)
    attempt = Running(claim, KNOWN, told=lambda: None)
    attempt.lock = Lock()

    attempt.report({"done": 1})
    attempt.log(1, "INFO", "logger", "line")
    attempt.take(1)

    assert len(entered) == 3


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "many", None])
def test_progress_refuses_what_is_no_number_from_0(wrong):
    with pytest.raises(ValueError, match="must be numbers from 0"):
        Progress()(wrong)


async def test_log_lines_of_a_task_are_kept_with_it_and_others_are_not(hands: Rig):
    logging.getLogger("jobs").warning("outside of any task")

    row = await hands.run(jobs.report, 2)

    assert told(hands, row.id, "log") == [
        {"level": "WARNING", "logger": "jobs", "message": "step 0"},
        {"level": "WARNING", "logger": "jobs", "message": "step 1"},
    ]


async def test_lines_beyond_the_limit_are_left_out_and_one_line_says_so(hands: Rig, monkeypatch):
    """A runaway logger must not fill the disk."""
    monkeypatch.setattr(context, "MOST_LINES", 3)

    row = await hands.run(jobs.chatter, 10)

    messages = [line["message"] for line in told(hands, row.id, "log")]
    assert messages == ["line 0", "line 1", "line 2", "further lines of this attempt are left out (3 are kept)"]
    assert MOST_LINES == 10_000


def test_what_is_said_after_the_end_is_dropped():
    """A task's own background task may go on talking for months: nobody takes it, so it must not be kept."""
    claim = Claim(id="i", name="n", attempt=1, token="t", arguments="", signature="", created_at=1, started_at=1)
    attempt = Running(claim, KNOWN, told=lambda: None)
    attempt.report({"done": 1})
    attempt.log(1, "INFO", "logger", "before")

    assert attempt.end()
    attempt.report({"done": 2})
    attempt.log(2, "INFO", "logger", "after")

    assert [note.kind for note in attempt.take(3)] == ["log", "progress"]
    assert not attempt.end()
