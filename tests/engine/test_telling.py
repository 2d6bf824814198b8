"""Progress and log lines reach the store a few times a second, and never instead of an outcome."""

import asyncio
import logging

import msgspec
import pytest

from afterwards._domain.tasks import Claim, TaskState
from afterwards._engine import context, logs
from afterwards._engine.context import MOST_LINES, Progress, Running
from afterwards._engine.teller import ROUND
from engine import jobs
from engine.rig import Rig


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
    attempt = Running(claim, told=lambda: None)
    attempt.report({"done": 1})
    attempt.log(1, "INFO", "logger", "before")

    assert attempt.end()
    attempt.report({"done": 2})
    attempt.log(2, "INFO", "logger", "after")

    assert [note.kind for note in attempt.take(3)] == ["log", "progress"]
    assert not attempt.end()
