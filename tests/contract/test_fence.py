"""A write of an attempt that no longer holds its task is refused, and a refused write changes nothing."""

import threading

import msgspec
import pytest

from afterwards._domain.tasks import AttemptState, Settlement, TaskState
from afterwards._store.contract import Settle, ThreadReply
from afterwards.errors import LeaseLost
from contract.hand import Hand, failure, new_file, new_task


def an_older_attempt(hand):
    hand.add(new_task(max_attempts=2))
    late = hand.one()
    hand.settle(late, TaskState.RETRYING, run_at=hand.now)
    hand.one()
    return late


def a_guessed_token(hand):
    hand.add(new_task())
    return msgspec.structs.replace(hand.one(), token="0" * 32)


def a_token_that_is_none(hand):
    [id] = hand.add(new_task())
    return msgspec.structs.replace(hand.one(), token="", id=id)


def another_tasks_token(hand):
    hand.add(new_task(), new_task())
    one, other = hand.claim()
    return msgspec.structs.replace(one, token=other.token)


def a_guessed_attempt(hand):
    hand.add(new_task())
    return msgspec.structs.replace(hand.one(), attempt=2)


def a_rescued_attempt(hand):
    hand.add(new_task())
    late = hand.one()
    hand.rescue()
    hand.register()
    return late


def a_rescued_attempt_whose_task_runs_again(hand):
    late = a_rescued_attempt(hand)
    hand.one()
    return late


def a_settled_attempt(hand):
    hand.add(new_task())
    claim = hand.one()
    hand.settle(claim, result='"first"')
    return claim


def a_settled_attempt_whose_task_was_queued_again(hand):
    claim = a_settled_attempt(hand)
    hand.run_again(claim.id)
    return claim


WAYS = [
    an_older_attempt,
    a_guessed_token,
    a_token_that_is_none,
    another_tasks_token,
    a_guessed_attempt,
    a_rescued_attempt,
    a_rescued_attempt_whose_task_runs_again,
    a_settled_attempt,
    a_settled_attempt_whose_task_was_queued_again,
]
WRITES = {
    "success": lambda hand, claim: hand.settle(claim, result='"late"'),
    "success with files": lambda hand, claim: hand.settle(claim, result="null", files=[new_file(), new_file()]),
    "failure": lambda hand, claim: hand.settle(claim, TaskState.FAILED, error=failure("late")),
    "retry": lambda hand, claim: hand.settle(claim, TaskState.RETRYING, run_at=hand.now),
    "progress": lambda hand, claim: hand.tell(claim, "progress", '{"done": 99}'),
    "log": lambda hand, claim: hand.tell(claim, "log", '{"message": "late"}'),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("lost", WAYS, ids=lambda way: way.__name__)
def test_a_write_without_the_lease_is_refused_and_changes_nothing(store, hand, lost, write):
    """One outcome: a process that stood still, or one that guesses, cannot write over the one that took over."""
    claim = lost(hand)
    before = hand.picture(claim.id), store.last_position(), store.counts()

    with pytest.raises(LeaseLost) as refused:
        WRITES[write](hand, claim)

    assert (hand.picture(claim.id), store.last_position(), store.counts()) == before
    assert claim.id in str(refused.value)


def test_a_refused_write_does_not_take_others_of_its_group_down(store, hand):
    """A worker that was given up for dead goes on writing; the others' commits are shared with it."""
    late = a_rescued_attempt(hand)
    hand.one()
    hand.add(*(new_task() for _ in range(60)))
    claims = hand.claim()
    replies = [ThreadReply() for _ in claims]
    late_replies = []

    for place, (claim, reply) in enumerate(zip(claims, replies, strict=True)):
        store.submit(Settle(_success(claim, hand)), reply)
        if place % 20 == 0:
            late_replies.append(ThreadReply())
            store.submit(Settle(_success(late, hand)), late_replies[-1])

    assert [reply.wait() for reply in replies] == [None] * 60
    for reply in late_replies:
        with pytest.raises(LeaseLost):
            reply.wait()
    assert {hand.state(claim.id) for claim in claims} == {TaskState.SUCCEEDED}
    assert hand.state(late.id) is TaskState.RUNNING


def test_of_two_settlements_at_once_one_wins(store, open_store, hand):
    """Even in one group commit, or from two processes: the same attempt ends once."""
    stores = [store, store, open_store()]
    for _ in range(20):
        hand.add(new_task())
        claim = hand.one()
        replies = [ThreadReply() for _ in stores]
        ready = threading.Barrier(len(stores))

        def settle(place, claim=claim, replies=replies, ready=ready):
            ready.wait(10)
            stores[place].submit(Settle(_success(claim, hand, result=str(place))), replies[place])

        threads = [threading.Thread(target=settle, args=(place,)) for place in range(len(stores))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        won = []
        for place, reply in enumerate(replies):
            try:
                reply.wait()
            except LeaseLost:
                continue
            won.append(place)
        assert len(won) == 1
        assert hand.task(claim.id).result == str(won[0])
        assert [attempt.state for attempt in store.attempts(claim.id)] == [AttemptState.SUCCEEDED]


def test_what_an_attempt_told_before_its_end_is_kept_with_it(store, hand):
    """Progress and log lines are committed with the outcome, in this order, even in one group."""
    hand.add(new_task())
    claim = hand.one()

    hand.tell(claim, "log", '{"message": "hello"}', at=hand.now + 1)
    hand.tell(claim, "progress", '{"done": 1}', at=hand.now + 2)
    hand.tell(claim, "progress", '{"done": 2}', at=hand.now + 3)
    assert hand.task(claim.id).progress == '{"done": 2}'
    hand.now += 4
    hand.settle(claim)

    kinds = [(event.kind, event.at - hand.now) for event in hand.events(claim.id)]
    assert kinds[2:] == [("log", -3), ("progress", -2), ("progress", -1), ("state", 0)]
    assert hand.task(claim.id).progress == '{"done": 2}'
    assert hand.events(claim.id)[2].data == {"message": "hello"}


def _success(claim, hand: Hand, **values):
    return Settlement(
        id=claim.id,
        attempt=claim.attempt,
        token=claim.token,
        outcome=AttemptState.SUCCEEDED,
        state=TaskState.SUCCEEDED,
        at=hand.now,
        **values,
    )
