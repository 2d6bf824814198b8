"""Claims come in order, within limits, only for functions the worker has, and are on record before they run."""

import pytest

from afterwards._domain.tasks import AttemptState, TaskState
from afterwards._store.contract import ClaimTasks, Know, Rescue
from contract.hand import HOUR, NOW, Hand, new_task


def test_claims_come_by_priority_then_in_order_of_acceptance(hand):
    """Across all names of a lane: a function with many tasks must not overtake another's urgent one."""
    priorities = [0, 5, 0, -1, 5]
    ids = hand.add(*(new_task(priority=priority, name="fg"[place % 2]) for place, priority in enumerate(priorities)))

    claims = hand.claim(1000, "f", "g")

    assert [claim.id for claim in claims] == [ids[place] for place in (1, 4, 0, 2, 3)]


def test_a_limit_takes_the_most_urgent_and_leaves_the_rest(hand):
    ids = hand.add(*(new_task(priority=place, name="fg"[place % 2]) for place in range(6)))

    first = hand.claim(4, "f", "g")
    second = hand.claim(4, "f", "g")

    assert [claim.id for claim in first] == ids[:1:-1]
    assert [claim.id for claim in second] == ids[1::-1]


def test_each_lane_has_its_own_limit(hand):
    """Slow functions with few slots must not hold up quick ones."""
    slow = hand.add(*(new_task(name="slow") for _ in range(3)))
    quick = hand.add(*(new_task(name="quick") for _ in range(3)))

    claims = hand.ask(ClaimTasks(worker="w1", lanes=((("slow",), 1), (("quick",), 2)), now=NOW))

    assert {claim.id for claim in claims} == {slow[0], *quick[:2]}
    assert hand.ask(ClaimTasks(worker="w1", lanes=((("slow",), 0), (("quick",), 0)), now=NOW)) == []


def test_tasks_of_unknown_functions_are_left_alone(store, hand):
    """A program without the function must not touch its tasks; they wait, visibly."""
    [id] = hand.add(new_task(name="elsewhere"))

    assert hand.claim(1000, "f", "g") == []

    assert hand.state(id) is TaskState.QUEUED
    assert hand.task(id).known is False
    hand.ask(Know(worker="w1", names=("elsewhere", "elsewhere")))
    assert hand.task(id).known is True
    hand.ask(Rescue(worker="w1", now=NOW, reason="its process ended"))
    assert hand.task(id).known is False


def test_a_claim_carries_what_running_needs(store, hand):
    """The worker starts from the claim alone, without another read."""
    [id] = hand.add(new_task(arguments='["ü"]', signature="sig", max_attempts=3, followed=True))
    hand.now += 7

    claim = hand.one()

    assert (claim.id, claim.name, claim.arguments, claim.signature) == (id, "f", '["ü"]', "sig")
    assert (claim.attempt, claim.max_attempts, claim.failures, claim.interruptions) == (1, 3, 0, 0)
    assert (claim.created_at, claim.started_at, claim.followed) == (NOW, NOW + 7, True)
    assert len(claim.token) >= 32


def test_claimed_attempts_are_on_record_with_the_claim(store, hand):
    """On record before it runs: a run the store does not know of could never be found again."""
    ids = hand.add(new_task(), new_task())

    claims = hand.claim()

    for id, claim in zip(ids, claims, strict=True):
        row = hand.task(id)
        assert (row.state, row.attempt, row.worker, row.started_at) == (TaskState.RUNNING, 1, "w1", NOW)
        [attempt] = store.attempts(id)
        assert (attempt.number, attempt.state, attempt.worker) == (claim.attempt, AttemptState.RUNNING, "w1")
    assert len({claim.token for claim in claims}) == 2


def test_two_workers_never_claim_the_same_task(store, open_store, hand):
    """Two processes on one database share the work without overlap."""
    ids = hand.add(*(new_task() for _ in range(40)))
    other = Hand(open_store(), "w2")
    other.register()
    mine, theirs = [], []

    while len(mine) + len(theirs) < 40:
        mine += [claim.id for claim in hand.claim(3)]
        theirs += [claim.id for claim in other.claim(5)]

    assert sorted(mine + theirs) == sorted(ids)
    assert mine
    assert theirs


@pytest.mark.parametrize("state", [TaskState.SCHEDULED, TaskState.RETRYING])
def test_a_task_becomes_queued_when_it_is_due_and_not_before(store, hand, state):
    """A due time is a promise in both directions."""
    if state is TaskState.SCHEDULED:
        [id] = hand.add(new_task(state=TaskState.SCHEDULED, run_at=NOW + HOUR))
    else:
        [id] = hand.add(new_task(max_attempts=2))
        hand.settle(hand.one(), TaskState.RETRYING, run_at=NOW + HOUR)
    assert store.next_due() == NOW + HOUR

    hand.now = NOW + HOUR - 1
    assert hand.claim() == []
    assert hand.state(id) is state
    hand.now = NOW + HOUR
    [claim] = hand.claim()

    assert claim.id == id
    assert store.next_due() is None
    assert [event.data["state"] for event in hand.events(id)][-2:] == ["queued", "running"]


def test_a_due_task_of_another_program_is_queued_too(hand):
    """Whoever claims next in any process makes it visible that the task only waits for a worker."""
    [id] = hand.add(new_task(name="elsewhere", state=TaskState.SCHEDULED, run_at=NOW + HOUR))

    hand.now = NOW + HOUR
    hand.claim()

    assert hand.state(id) is TaskState.QUEUED
