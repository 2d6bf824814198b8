"""The log of everything that happened: complete, in order, and resumable from any place in it."""

import pytest

from afterwards._domain.tasks import TaskState
from contract.hand import HOUR, NOW, chain, new_task


def live(hand):
    """Bring tasks through every change a store knows, and return their ids with the states they went through."""
    stories = {}
    [id] = hand.add(new_task(max_attempts=2))
    hand.settle(hand.one(), TaskState.RETRYING, run_at=hand.now)
    hand.settle(hand.one(), TaskState.FAILED)
    hand.run_again(id)
    hand.settle(hand.one())
    stories[id] = "queued running retrying queued running failed queued running succeeded"
    [id] = hand.add(new_task(state=TaskState.SCHEDULED, run_at=NOW + HOUR, max_interruptions=2))
    hand.now += HOUR
    for _ in range(2):
        claim = hand.one()
        hand.tell(claim, "log", '"line"')
        hand.rescue()
        hand.register()
    stories[id] = "scheduled queued running log queued running log quarantined"
    first, second, third = hand.add(*chain({}, {"on_error": "stop"}, {}))
    hand.settle(hand.one())
    hand.settle(hand.one(), TaskState.FAILED)
    stories[first] = "queued running succeeded"
    stories[second] = "waiting queued running failed"
    stories[third] = "waiting cancelled"
    [id] = hand.add(new_task(state=TaskState.WAITING, worker="w1"))
    hand.let_go(id)
    stories[id] = "waiting queued"
    return stories


def word(event):
    return event.data["state"] if event.kind == "state" else event.kind


def test_every_change_of_state_is_in_the_log_once(hand):
    """Whoever follows a task by its events knows its state without asking."""
    for id, story in live(hand).items():
        events = hand.events(id)
        assert " ".join(map(word, events)) == story
        assert {event.task for event in events} == {id}


def test_the_log_can_be_resumed_from_any_position(store, hand):
    """A browser that comes back with Last-Event-ID misses nothing and gets nothing twice."""
    stories = live(hand)
    everything = store.events(0)

    positions = [event.position for event in everything]
    assert positions == sorted(set(positions))
    assert store.last_position() == positions[-1]
    for place, position in enumerate(positions):
        assert store.events(position) == everything[place + 1 :]
        assert store.events(position, limit=2) == everything[place + 1 : place + 3]
    for id in stories:
        own = [event for event in everything if event.task == id]
        assert store.events(0, task=id) == own
        assert store.events(own[0].position, task=id, limit=1) == own[1:2]


def test_an_event_carries_the_attempt_and_the_time(hand):
    [id] = hand.add(new_task())
    hand.now += 1
    claim = hand.one()
    hand.now += 1
    hand.settle(claim)

    assert [(event.at, event.data["attempt"]) for event in hand.events(id)] == [(NOW, 0), (NOW + 1, 1), (NOW + 2, 1)]


def test_an_empty_log_has_position_zero(store):
    assert store.last_position() == 0
    assert store.events(0) == []


@pytest.mark.parametrize("rounds", [5])
def test_positions_are_never_used_again_after_pruning(store, open_store, hand, rounds):
    """A position given out twice would make a resuming client skip what it has not seen."""
    seen: set[int] = set()
    for _ in range(rounds):
        hand.add(new_task(), new_task())
        for claim in hand.claim():
            hand.settle(claim)
        new = {event.position for event in store.events(max(seen, default=0))}
        assert new
        assert not new & seen
        seen |= new
        hand.now += 1
        hand.prune(before=hand.now)
        assert store.last_position() == max(seen)
