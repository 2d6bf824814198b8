"""Failures, interruptions and releases are counted apart, and each leaves the task where a person expects it."""

import threading

import pytest

from afterwards._domain.tasks import AttemptState, TaskState
from afterwards._store.contract import Renew, Rescue, Rescued, ThreadReply
from contract.hand import NOW, Hand, failure, new_task


def test_a_success_keeps_its_result(store, hand):
    [id] = hand.add(new_task())
    claim = hand.one()
    hand.now += 5

    hand.settle(claim, result='{"answer": 42}')

    row = hand.task(id)
    assert (row.state, row.result, row.error) == ("succeeded", '{"answer": 42}', None)
    assert (row.started_at, row.finished_at, row.updated_at, row.worker) == (NOW, NOW + 5, NOW + 5, None)
    [attempt] = store.attempts(id)
    assert (attempt.state, attempt.ended_at, attempt.error) == (AttemptState.SUCCEEDED, NOW + 5, None)


def test_failures_count_and_each_attempt_keeps_its_error(store, hand):
    """Whoever looks at the third attempt wants to know what went wrong in the first."""
    [id] = hand.add(new_task(max_attempts=3))

    for number in (1, 2):
        claim = hand.one()
        assert (claim.attempt, claim.failures) == (number, number - 1)
        hand.settle(claim, TaskState.RETRYING, run_at=hand.now + 10, error=failure(f"no {number}"))
        assert hand.task(id).run_at == hand.now + 10
        assert hand.task(id).finished_at is None
        hand.now += 10
    hand.settle(hand.one(), TaskState.FAILED, error=failure("no 3"))

    row = hand.task(id)
    assert (row.state, row.attempt, row.failures, row.interruptions) == (TaskState.FAILED, 3, 3, 0)
    assert row.error == failure("no 3")
    assert [attempt.error for attempt in store.attempts(id)] == [failure(f"no {number}") for number in (1, 2, 3)]
    assert hand.claim() == []


def test_an_interrupted_task_runs_again_at_once_and_is_quarantined_after_three(store, hand):
    """A crash says nothing about the code, so it uses up no retry; a task that kills its process is stopped."""
    [id] = hand.add(new_task(max_attempts=1))

    for number in (1, 2):
        claim = hand.one()
        assert (claim.attempt, claim.interruptions, claim.failures) == (number, number - 1, 0)
        assert hand.rescue() == [Rescued(id=id, name="f", attempt=number, state=TaskState.QUEUED)]
        hand.register()
    hand.one()
    hand.now += 1
    [rescued] = hand.rescue()

    assert rescued.state is TaskState.QUARANTINED
    row = hand.task(id)
    assert (row.state, row.interruptions, row.failures, row.finished_at) == ("quarantined", 3, 0, NOW + 1)
    assert row.error is not None
    assert "its process ended" in row.error
    assert [attempt.state for attempt in store.attempts(id)] == [AttemptState.INTERRUPTED] * 3
    hand.register()
    assert hand.claim() == []


def test_at_most_once_never_runs_again_after_an_interruption(store, hand):
    """What charges a card must not do so twice because a process died at the wrong moment."""
    [id] = hand.add(new_task(max_interruptions=0, max_attempts=5))
    hand.one()

    [rescued] = hand.rescue()

    assert rescued.state is TaskState.QUARANTINED
    assert hand.state(id) is TaskState.QUARANTINED
    hand.register()
    assert hand.claim() == []


def test_what_may_run_only_once_is_quarantined_although_its_worker_was_told_to_stop(store, hand):
    """It had begun: at most once means that nobody begins it again without asking."""
    [id] = hand.add(new_task(max_interruptions=1))
    hand.one()
    hand.stopping()

    [rescued] = hand.rescue()

    assert (rescued.state, hand.state(id)) == (TaskState.QUARANTINED, TaskState.QUARANTINED)


def test_what_a_stopping_worker_still_holds_is_released_and_not_counted(store, hand):
    """A deployment is no evidence against a task, however often it happens."""
    [id] = hand.add(new_task(max_interruptions=2))

    for _ in range(4):
        hand.one()
        hand.stopping()
        [rescued] = hand.rescue()
        assert rescued.state is TaskState.QUEUED
        hand.register()

    row = hand.task(id)
    assert (row.state, row.attempt, row.interruptions, row.failures) == (TaskState.QUEUED, 4, 0, 0)
    assert {attempt.state for attempt in store.attempts(id)} == {AttemptState.RELEASED}


def test_a_worker_can_release_what_it_has_not_finished(store, hand):
    """After the drain's limit a stopping process puts its tasks back itself."""
    [id] = hand.add(new_task())

    hand.settle(hand.one(), TaskState.QUEUED, outcome=AttemptState.RELEASED)

    row = hand.task(id)
    assert (row.state, row.failures, row.interruptions, row.worker) == (TaskState.QUEUED, 0, 0, None)
    assert hand.one().attempt == 2


def test_of_two_that_rescue_the_same_worker_one_does(store, open_store, hand):
    """Every process looks for dead ones; an interruption counted twice would quarantine too early."""
    [id] = hand.add(new_task())
    hand.one()
    stores = [store, store, open_store()]
    replies = [ThreadReply() for _ in stores]
    ready = threading.Barrier(len(stores))

    def rescue(place):
        ready.wait(10)
        stores[place].submit(Rescue(worker="w1", now=NOW, reason="its process ended"), replies[place])

    threads = [threading.Thread(target=rescue, args=(place,)) for place in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    answers = [reply.wait() for reply in replies]
    assert sorted(answer is None for answer in answers) == [False, True, True]
    assert hand.task(id).interruptions == 1
    assert store.workers() == []


def test_a_rescue_touches_only_what_that_worker_held(store, hand):
    other = Hand(store, "w2")
    other.register()
    hand.add(new_task(), new_task())
    [mine] = hand.claim(1)
    [theirs] = other.claim(1)

    hand.rescue("w2")

    assert hand.state(mine.id) is TaskState.RUNNING
    assert hand.state(theirs.id) is TaskState.QUEUED
    assert [worker.id for worker in store.workers()] == ["w1"]


def test_a_lease_is_prolonged_until_the_worker_is_given_up(store, hand):
    """A worker that hears False knows that its tasks are somebody else's."""
    assert hand.ask(Renew(worker="w1", lease_until=99)) is True
    [worker] = store.workers()
    assert (worker.lease_until, worker.stopped_at) == (99, None)

    hand.stopping()
    hand.now += 1
    hand.stopping()
    assert store.workers()[0].stopped_at == NOW
    hand.rescue()

    assert hand.ask(Renew(worker="w1", lease_until=199)) is False
    assert store.workers() == []


@pytest.mark.parametrize("freed_by", ["let_go", "rescue"])
def test_a_task_held_for_its_response_is_freed(store, hand, freed_by):
    """It waits until the response is sent, and no longer than the process that would send it lives."""
    held = {"state": TaskState.WAITING, "worker": "w1"}
    now, later, unasked = hand.add(
        new_task(**held), new_task(**held, run_at=NOW + 10, created_at=NOW), new_task(**held)
    )
    assert hand.claim() == []

    if freed_by == "let_go":
        Hand(store, "w2").let_go(now)  # not its to let go
        assert hand.state(now) is TaskState.WAITING
        hand.let_go(now, later)
    else:
        hand.rescue()

    assert hand.states([now, later]) == ["queued", "scheduled"]
    assert hand.state(unasked) is (TaskState.WAITING if freed_by == "let_go" else TaskState.QUEUED)
    assert hand.task(now).worker is None
    assert hand.task(now).interruptions == 0
    assert store.attempts(now) == []


@pytest.mark.parametrize("state", [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.QUARANTINED])
def test_a_final_task_can_run_again_with_its_counters_at_zero(store, hand, state):
    """A person decided so; the history stays, and attempt numbers are never used twice."""
    [id] = hand.add(new_task(max_attempts=1, max_interruptions=1))
    claim = hand.one()
    if state is TaskState.QUARANTINED:
        hand.rescue()
        hand.register()
    else:
        hand.settle(claim, state, result="1" if state is TaskState.SUCCEEDED else None)
    assert hand.state(id) is state
    hand.now += 3

    assert hand.run_again(id) is TaskState.QUEUED

    row = hand.task(id)
    assert (row.attempt, row.failures, row.interruptions, row.result) == (1, 0, 0, None)
    assert (row.finished_at, row.run_at, row.updated_at) == (None, NOW + 3, NOW + 3)
    assert hand.one().attempt == 2
    assert len(store.attempts(id)) == 2


def test_a_task_that_is_not_final_is_not_queued_twice(store, hand):
    """Pressing the button twice must not make two runs."""
    [id] = hand.add(new_task())
    claim = hand.one()
    before = hand.picture(id)

    assert hand.run_again(id) is TaskState.RUNNING
    assert hand.run_again("nobody") is None

    assert hand.picture(id) == before
    hand.settle(claim)
