"""A request's tasks are stored all or none, and come back as they were given."""

import msgspec
import pytest

from afterwards._domain.tasks import AttemptState, TaskState
from afterwards._store.contract import Accept, ThreadReply
from afterwards.errors import BrokenRule
from contract.hand import NOW, new_task


def test_an_accepted_task_reads_back_as_it_was_given(store, hand):
    """What the client was promised is what the worker gets, whatever characters are in it."""
    text = '{"text": "naïve \\u0000 \\ud83d\\ude00 😀 \' \\" --"}'
    task = new_task(arguments=text, queue="mail", priority=-3, max_attempts=4, sequence="r", signature="ü")

    hand.add(task)

    row = hand.task(task.id)
    for field in ("id", "name", "arguments", "queue", "priority", "max_attempts", "sequence", "signature", "run_at"):
        assert getattr(row, field) == getattr(task, field)
    assert (row.state, row.attempt, row.failures, row.interruptions) == (TaskState.QUEUED, 0, 0, 0)
    assert (row.created_at, row.updated_at, row.started_at, row.finished_at) == (NOW, NOW, None, None)
    assert (row.worker, row.progress, row.result, row.error, row.files) == (None, None, None, None, [])


def test_an_unknown_task_is_none(store):
    assert store.task("nobody") is None
    assert store.attempts("nobody") == []
    assert store.events(0, task="nobody") == []


def test_of_a_request_with_one_bad_task_nothing_is_stored(store, hand):
    """The client of a half-stored request could not tell what to send again."""
    taken = new_task()
    hand.add(taken)
    good = new_task()

    with pytest.raises(BrokenRule):
        hand.add(good, msgspec.structs.replace(good, id=taken.id), functions=(("new", "s"),))

    assert store.task(good.id) is None
    assert store.functions() == []
    assert len(hand.events()) == 1


def test_a_bad_request_refuses_only_itself(store, hand):
    """Strangers' requests share a group commit; one that fails must not take the others down."""
    taken = new_task()
    hand.add(taken)
    good = [new_task() for _ in range(200)]
    replies = []

    for place, task in enumerate(good):
        tasks = (task, taken) if place % 50 == 49 else (task,)
        replies.append(ThreadReply())
        store.submit(Accept(tasks=tasks), replies[-1])

    for place, (task, reply) in enumerate(zip(good, replies, strict=True)):
        if place % 50 == 49:
            with pytest.raises(BrokenRule):
                reply.wait()
            assert store.task(task.id) is None
        else:
            assert reply.wait() is None
            assert store.task(task.id) is not None


def test_a_task_that_starts_at_once_has_its_attempt_on_record(store, hand):
    """The accepting process may run a task without a claim; the record says so before it does."""
    task = new_task(state=TaskState.RUNNING, attempt=1, worker="w1", token="t" * 32, started_at=NOW)

    hand.add(task)

    [attempt] = store.attempts(task.id)
    assert (attempt.number, attempt.worker, attempt.state) == (1, "w1", AttemptState.RUNNING)
    assert (attempt.started_at, attempt.ended_at, attempt.error) == (NOW, None, None)
    assert hand.claim() == []


def test_functions_are_remembered_with_their_newest_signature(store, hand):
    """A restarted program learns from here what to look for."""
    hand.add(new_task(), functions=(("f", "old"), ("g", "s")))
    hand.add(new_task(), functions=(("f", "new"),))

    assert sorted(store.functions()) == [("f", "new"), ("g", "s")]
