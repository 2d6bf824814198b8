"""Tasks of one request start one after another, and none of them waits for ever."""

import pytest

from afterwards._domain.tasks import TaskState
from contract.hand import NOW, chain, failure, new_task

ENDS = ["succeeded", "failed", "quarantined"]


def end(hand, how):
    """End the task that can be claimed now."""
    claim = hand.one()
    if how == "quarantined":
        for _ in range(2):
            hand.rescue()
            hand.register()
            hand.one()
        hand.rescue()
        hand.register()
    else:
        hand.settle(claim, TaskState(how), error=None if how == "succeeded" else failure("no"))
    assert hand.state(claim.id) == how


@pytest.mark.parametrize("how", ENDS)
def test_the_next_task_is_freed_whatever_the_outcome(hand, how):
    """One after another, as Starlette runs them; an error is no reason to forget the rest."""
    ids = hand.add(*chain({}, {}, {}))
    assert hand.states(ids) == ["queued", "waiting", "waiting"]

    end(hand, how)
    assert hand.states(ids) == [how, "queued", "waiting"]
    end(hand, "succeeded")
    end(hand, "succeeded")

    assert hand.states(ids) == [how, "succeeded", "succeeded"]


def test_a_retry_does_not_free_the_next(hand):
    """The order holds until the task before has had its last try."""
    ids = hand.add(*chain({"max_attempts": 2}, {}))

    hand.settle(hand.one(), TaskState.RETRYING, run_at=hand.now + 5)
    assert hand.claim() == []
    assert hand.states(ids) == ["retrying", "waiting"]
    hand.now += 5
    hand.settle(hand.one(), TaskState.FAILED)

    assert hand.states(ids) == ["failed", "queued"]


def test_a_freed_task_that_is_due_later_is_scheduled(hand):
    ids = hand.add(*chain({}, {"run_at": NOW + 100}))

    end(hand, "succeeded")

    assert hand.states(ids) == ["succeeded", "scheduled"]


@pytest.mark.parametrize("how", ["failed", "quarantined"])
def test_stop_on_error_cancels_all_that_come_behind(store, hand, how):
    """ "The rest" is every task behind the one that failed, whatever their own options say."""
    ids = hand.add(*chain({}, {"on_error": "stop"}, {}, {"on_error": "stop"}, {"run_at": NOW + 100}))

    end(hand, "succeeded")
    end(hand, how)

    assert hand.states(ids) == ["succeeded", how, "cancelled", "cancelled", "cancelled"]
    for id in ids[2:]:
        assert hand.task(id).finished_at == hand.now
        assert [event.data["state"] for event in hand.events(id)] == ["waiting", "cancelled"]
    assert hand.claim() == []


def test_stop_on_error_frees_the_next_after_success(hand):
    ids = hand.add(*chain({"on_error": "stop"}, {}))

    end(hand, "succeeded")

    assert hand.states(ids) == ["succeeded", "queued"]


def test_a_very_long_request_can_be_cancelled_too(store, hand):
    """An endpoint may add a task for each row of a file; a limit on depth would leave its first task unsettled."""
    ids = hand.add(*chain({"on_error": "stop"}, *[{}] * 2500))

    end(hand, "failed")

    assert store.counts() == {"failed": 1, "cancelled": 2500}
    assert hand.state(ids[-1]) is TaskState.CANCELLED


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("on_error", ["continue", "stop"])
def test_a_task_added_after_the_one_before_it_ended_does_what_that_end_says(hand, how, on_error):
    """On a WebSocket tasks are added one by one, while earlier ones already run or are done."""
    [first] = hand.add(new_task(on_error=on_error))
    end(hand, how)
    late = {"state": TaskState.WAITING, "created_at": hand.now}
    second = new_task(after=first, **late)
    third = new_task(after=second.id, **late)

    hand.add(second, third, late=True)
    [fourth] = hand.add(new_task(after=third.id, **late), late=True)

    stopped = on_error == "stop" and how != "succeeded"
    expected = ["cancelled"] * 3 if stopped else ["queued", "waiting", "waiting"]
    assert hand.states([second.id, third.id, fourth]) == expected


def test_a_late_task_waits_for_one_that_still_runs(hand):
    """The first did not know, when it was accepted, that anybody would come behind it."""
    [first] = hand.add(new_task(followed=False))
    claim = hand.one()
    [second] = hand.add(new_task(after=first, state=TaskState.WAITING), late=True)
    assert hand.claim() == []

    hand.settle(claim)

    assert hand.states([first, second]) == ["succeeded", "queued"]


def test_a_late_task_behind_a_pruned_one_does_not_wait_for_ever(hand):
    """What it would wait for is long over and gone."""
    [first] = hand.add(new_task())
    hand.settle(hand.one())
    hand.add(new_task(name="g"))
    assert hand.prune(before=NOW + 1).tasks == 1

    due, later = hand.add(
        new_task(after=first, state=TaskState.WAITING),
        new_task(after=first, state=TaskState.WAITING, run_at=NOW + 5),
        late=True,
    )

    assert hand.states([due, later]) == ["queued", "scheduled"]


def test_running_a_task_again_does_not_run_those_behind_it_again(hand):
    ids = hand.add(*chain({}, {}))
    end(hand, "failed")
    end(hand, "succeeded")

    hand.run_again(ids[0])
    end(hand, "succeeded")

    assert hand.states(ids) == ["succeeded", "succeeded"]
