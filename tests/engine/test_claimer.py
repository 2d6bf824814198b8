"""The claimer takes what there are free places for, of functions this program has, and nothing else."""

import asyncio
import select
import sys
from pathlib import Path

import apsw
import pytest

from afterwards._domain.ids import new_id
from afterwards._domain.signing import Signer
from afterwards._domain.tasks import TaskState
from afterwards._engine.claimer import LOOK
from afterwards._engine.lanes import Lane
from afterwards._files.presence import Presence
from afterwards.errors import StoreBusy
from engine import jobs
from engine.rig import KEY, Rig, rig

FORGED_TASK = """
INSERT INTO task (id, name, state, queue, priority, arguments, signature, followed, on_error,
                  max_attempts, max_interruptions, attempt, created_at, run_at, updated_at)
VALUES (?, ?, 'queued', 'default', 0, ?, ?, 0, 'continue', 1, 3, 0, 1, 1, 1)
"""


def by_hand(root: Path, statement: str, values: tuple[object, ...]) -> None:
    """Change the database as somebody with an editor for it would."""
    connection = apsw.Connection(str(root / "afterwards.db"))
    connection.set_busy_timeout(10_000)
    connection.execute(statement, values)
    connection.close()


async def test_only_as_many_are_taken_as_there_are_free_places(tmp_path):
    """What waits in the database can be taken by any process; what waits in memory cannot."""
    with rig(tmp_path, threads=2, concurrency=3) as hands:
        ids = [hands.queue(jobs.hold) for _ in range(5)]

        await hands.claimer.round()

        states = [hands.state(id) for id in ids]
        assert states == [TaskState.RUNNING] * 2 + [TaskState.QUEUED] * 3
        assert hands.claimer.backlog[Lane.THREAD]
        jobs.gate.set()
        await hands.until(lambda: hands.engine.lanes.busy() == 0)


async def test_other_processes_are_told_of_what_is_left_over(tmp_path):
    """They may have free places, and nothing of theirs was committed that would make them look."""
    with rig(tmp_path, threads=1) as hands:
        other = Presence(tmp_path, new_id())
        hands.queue(jobs.hold)
        hands.queue(jobs.hold)
        other.drain()  # of what the process that accepted them said

        await hands.claimer.round()

        assert select.select([other.descriptor], [], [], 0)[0]
        other.close()
        jobs.gate.set()
        await hands.until(lambda: hands.engine.lanes.busy() == 0)


async def test_a_freed_place_asks_for_another_task_when_there_was_no_place_at_the_hint(tmp_path):
    """The hint came while every place was taken: whoever ends next must not wait for the next look."""
    with rig(tmp_path, threads=1) as hands:
        hands.queue(jobs.hold)
        await hands.claimer.round()
        later = hands.queue(jobs.give)
        hands.claimer.hint()

        await hands.claimer.round()

        assert hands.claimer.wants(Lane.THREAD)
        jobs.gate.set()
        await hands.until(lambda: hands.engine.lanes.busy() == 0)
        assert (await hands.claim_and_settle(later)).state is TaskState.SUCCEEDED


async def test_functions_that_others_stored_are_learned_and_run(hands: Rig):
    """A worker process is started with no knowledge of what the server was asked."""
    assert hands.engine.registry.all_names() == ()

    row = await hands.run(jobs.give, 7)

    assert (row.state, row.result) == (TaskState.SUCCEEDED, "7")
    assert row.known


async def test_tasks_that_are_due_are_begun_and_others_wait(hands: Rig):
    """A delay is a promise in both directions."""
    id = hands.queue(jobs.give, delay=60)

    pause = await hands.claimer.round()

    assert hands.state(id) is TaskState.SCHEDULED
    assert pause == LOOK
    hands.clock.advance(59.5)
    assert await hands.claimer.round() == pytest.approx(0.5)
    hands.clock.advance(0.5)
    await hands.claimer.round()
    assert (await hands.settled(id)).state is TaskState.SUCCEEDED


async def test_a_due_task_without_a_free_place_does_not_make_the_claimer_spin(tmp_path):
    """It looks again in a second, or when a place is freed; not a thousand times a second."""
    with rig(tmp_path, threads=1) as hands:
        hands.queue(jobs.hold)
        hands.queue(jobs.give, delay=1)
        await hands.claimer.round()
        hands.clock.advance(2)

        assert await hands.claimer.round() == LOOK
        assert await hands.claimer.round() == LOOK

        jobs.gate.set()
        await hands.until(lambda: hands.engine.lanes.busy() == 0)


async def test_a_commit_of_another_process_is_found_without_a_hint(tmp_path, hands: Rig):
    """A lost hint costs a second, not a task."""
    id = hands.queue(jobs.give)
    await hands.claim_and_settle(id)
    with rig(tmp_path) as other:
        later = other.queue(jobs.give)

        await hands.claimer.round()

    assert (await hands.settled(later)).state is TaskState.SUCCEEDED


async def test_what_a_failed_claim_was_told_of_is_claimed_by_the_next_round(hands: Rig, monkeypatch):
    """No commit comes after it that would be a hint of its own."""
    id = hands.queue(jobs.give)
    busy = StoreBusy("another program kept the database locked")
    with monkeypatch.context() as locked:
        locked.setattr(hands.store, "submit", lambda command, reply: reply.deliver(busy))
        hands.claimer.hint()
        with pytest.raises(StoreBusy):
            await hands.claimer.round()

    await hands.claimer.round()

    assert (await hands.settled(id)).state is TaskState.SUCCEEDED


async def test_after_the_stop_nothing_is_claimed(hands: Rig):
    """Not even by a round that was on its way: between the look at the flag and the store there is no wait."""
    id = hands.queue(jobs.give)
    round = asyncio.ensure_future(hands.claimer.round())
    await asyncio.sleep(0)  # it is importing what it has to learn
    hands.claimer.stopped = True

    assert await round is None

    assert hands.state(id) is TaskState.QUEUED
    assert await hands.claimer.round() is None


async def test_a_function_with_a_wrong_signature_is_never_imported(tmp_path, hands: Rig, caplog):
    """Importing runs code, so a name written into the database by hand must not be followed."""
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    sys.path.insert(0, str(tmp_path))
    try:
        by_hand(tmp_path, "INSERT INTO function VALUES (?, ?)", ("planted:run", "0" * 32))
        by_hand(tmp_path, FORGED_TASK, (id := new_id(), "planted:run", "[[],{}]", "0" * 32))

        await hands.claimer.round()
    finally:
        sys.path.remove(str(tmp_path))

    assert "planted" not in sys.modules
    assert "Put the right key back" in caplog.text
    assert hands.state(id) is TaskState.QUEUED


async def test_os_system_written_into_the_database_is_not_run(tmp_path, hands: Rig):
    """The classic: whoever can write a row must not be able to run a command."""
    proof = tmp_path / "proof"
    by_hand(tmp_path, FORGED_TASK, (id := new_id(), "os:system", f'[["touch {proof}"],{{}}]', "0" * 32))
    by_hand(tmp_path, "INSERT INTO function VALUES (?, ?)", ("os:system", Signer(b"x" * 32).function("os:system")))

    await hands.claimer.round()

    assert hands.state(id) is TaskState.QUEUED
    assert not hands.row(id).known
    assert not proof.exists()


async def test_a_forged_row_of_a_known_function_ends_failed_and_is_not_run(tmp_path, hands: Rig):
    """The function is the program's own; the arguments are somebody else's."""
    await hands.run(jobs.give, "mine")
    name = "engine.jobs:give"
    by_hand(tmp_path, FORGED_TASK, (id := new_id(), name, '[["theirs"],{}]', "0" * 32))

    row = await hands.claim_and_settle(id)

    assert row.state is TaskState.FAILED
    assert "ForgedTask" in (row.error or "")
    assert jobs.journal == ["mine"]


async def test_arguments_changed_by_hand_are_not_used(tmp_path, hands: Rig):
    """The signature covers the arguments too."""
    id = hands.queue(jobs.give, "mine")
    by_hand(tmp_path, "UPDATE task SET arguments = ? WHERE id = ?", ('[["theirs"],{}]', id))

    row = await hands.claim_and_settle(id)

    assert row.state is TaskState.FAILED
    assert jobs.journal == []


async def test_a_task_of_a_function_that_is_gone_waits_visibly(tmp_path, hands: Rig, caplog):
    """Another program, or a later version, may have it: it must not fail, and it must not vanish."""
    signer = Signer(KEY)
    name = "engine.jobs:removed"
    by_hand(tmp_path, "INSERT INTO function VALUES (?, ?)", (name, signer.function(name)))
    id = new_id()
    by_hand(tmp_path, FORGED_TASK, (id, name, "[[],{}]", signer.task(id, name, "[[],{}]")))

    await hands.claimer.round()
    await hands.claimer.round()

    assert hands.state(id) is TaskState.QUEUED
    assert not hands.row(id).known
    assert hands.engine.registry.missing() == (name,)
    assert caplog.text.count(name) == 1
    assert "lacks a function" in caplog.text


async def test_an_import_that_raises_anything_leaves_the_claimer_working(tmp_path, hands: Rig, monkeypatch):
    """A module that cannot be imported keeps its own tasks waiting, and nobody else's."""
    (tmp_path / "broken_program.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    name = "broken_program:run"
    by_hand(tmp_path, "INSERT INTO function VALUES (?, ?)", (name, Signer(KEY).function(name)))
    id = hands.queue(jobs.give)

    assert (await hands.claim_and_settle(id)).state is TaskState.SUCCEEDED
    assert hands.engine.registry.missing() == (name,)
