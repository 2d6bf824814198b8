"""A key is held by one request or has its answer, and the answer comes with the tasks or not at all."""

from typing import Any

import pytest

from afterwards._store.contract import Accept, Register, Rescue, ThreadReply
from afterwards._store.keys import HELD, Answered, FreeKey, KeepAnswer, PruneKeys, TakeKey
from afterwards.errors import BrokenRule, KeyLost
from contract.hand import HOUR, NOW, Hand, new_task

ID = bytes(range(32))
DAY = 24 * HOUR


def take(hand: Hand, token: str = "one", *, worker: str = "w1", id: bytes = ID, now: int = NOW) -> Any:
    return hand.ask(TakeKey(id=id, worker=worker, token=token, now=now))


def answer(token: str = "one", **values: Any) -> KeepAnswer:
    given = {
        "id": ID,
        "token": token,
        "fingerprint": b"f" * 32,
        "status": 202,
        "headers": [("link", "</a>"), ("x-naïve", "ü"), ("link", "</b>")],
        "body": b'{"\x00": 1}',
        "expires_at": NOW + DAY,
    }
    return KeepAnswer(**given | values)


def found(kept: KeepAnswer) -> Answered:
    return Answered(fingerprint=kept.fingerprint, status=kept.status, headers=kept.headers, body=kept.body)


def test_of_many_that_take_a_key_at_once_one_gets_it(store, hand):
    """A client that sends everything twice, and each copy meets another process."""
    replies = [ThreadReply() for _ in range(20)]

    for number, reply in enumerate(replies):
        store.submit(TakeKey(id=ID, worker="w1", token=str(number), now=NOW), reply)

    assert sorted(reply.wait() or "" for reply in replies) == ["", *[HELD] * 19]


def test_a_key_that_another_process_holds_is_held(open_store, hand):
    take(hand)

    assert take(Hand(open_store(), "w2"), "two", worker="w2") == HELD


@pytest.mark.parametrize("change", [{}, {"body": None, "status": 204}, {"fingerprint": None, "headers": []}])
def test_an_answer_reads_back_as_it_was_given(hand, change):
    kept = answer(**change)
    take(hand)

    hand.add(new_task(), key=kept)

    assert take(hand, "two") == found(kept)
    assert take(hand, "three", now=NOW + DAY - 1) == found(kept)


def test_an_answer_can_be_kept_without_a_task(hand):
    take(hand)
    hand.ask(answer())

    assert take(hand, "two") == found(answer())


def test_no_tasks_without_their_answer(store, hand):
    """One that stood still names a token that has gone. Its tasks would be a second time what another request did."""
    take(hand)
    hand.rescue()
    hand.register()
    assert take(hand, "two") is None
    task = new_task()

    with pytest.raises(KeyLost):
        hand.add(task, key=answer("one"))

    assert store.task(task.id) is None
    hand.add(new_task(), key=answer("two"))
    with pytest.raises(KeyLost):
        hand.add(task, key=answer("one"))
    assert store.task(task.id) is None


def test_no_answer_without_its_tasks(store, hand):
    """A retry would be told of tasks that are not there."""
    task = new_task()
    hand.add(task)
    take(hand)

    with pytest.raises(BrokenRule):
        hand.add(task, key=answer())

    assert take(hand, "two") == HELD


def test_a_lost_key_refuses_only_its_own_request(store, hand):
    """Strangers' requests share a group commit."""
    take(hand, "other")
    good = [new_task() for _ in range(20)]
    replies = [ThreadReply() for _ in good]
    lost, refused = new_task(), ThreadReply()

    for place, (task, reply) in enumerate(zip(good, replies, strict=True)):
        store.submit(Accept(tasks=(task,), key=answer(id=bytes([place]) * 32)), reply)
    store.submit(Accept(tasks=(lost,), key=answer("one")), refused)

    assert [reply.wait() for reply in replies] == [None] * 20
    assert all(store.task(task.id) for task in good)
    with pytest.raises(KeyLost):
        refused.wait()
    assert store.task(lost.id) is None


def test_a_freed_key_can_be_taken_and_an_answered_one_is_never_freed(hand):
    take(hand)
    hand.ask(FreeKey(id=ID, token="another"))
    assert take(hand, "two") == HELD

    hand.ask(FreeKey(id=ID, token="one"))

    assert take(hand, "two") is None
    hand.ask(answer("two"))
    hand.ask(FreeKey(id=ID, token="two"))
    assert take(hand, "three") == found(answer())


@pytest.mark.parametrize("known", [True, False])
def test_the_end_of_a_worker_frees_the_keys_it_held(store, hand, known):
    """No key may wait for a process that is gone, even for one that nobody knows any more."""
    if known:
        Hand(store, "w2").register()
    take(hand, worker="w2")
    take(hand, "kept", worker="w2", id=b"k" * 32)
    hand.ask(answer("kept", id=b"k" * 32))
    assert "w2" in {worker.id for worker in store.workers()}

    assert hand.rescue("w2") == []

    assert "w2" not in {worker.id for worker in store.workers()}
    assert hand.rescue("w2") is None
    assert take(hand, "two") is None
    assert take(hand, "three", id=b"k" * 32) == found(answer())


def test_an_answer_is_stored_although_its_worker_was_given_up_and_nobody_took_the_key(store, hand):
    """It is not too late for it."""
    take(hand)
    [worker] = store.workers()
    hand.ask(Rescue(worker="w1", now=NOW, reason="it stood still"))
    hand.ask(Register(worker))

    hand.add(new_task(), key=answer())

    assert take(hand, "two") == found(answer())


def test_a_key_is_free_again_when_its_answer_has_expired(hand):
    take(hand)
    hand.ask(answer())

    assert take(hand, "two", now=NOW + DAY) is None
    assert take(hand, "three", now=NOW + 2 * DAY) == HELD  # one that runs does not expire: its worker lives


def test_expired_answers_are_deleted_in_batches_and_nothing_else_is(hand):
    for number in range(5):
        id = bytes([number]) * 32
        take(hand, id=id)
        hand.ask(answer(id=id, expires_at=NOW + number))
    take(hand)

    assert [hand.ask(PruneKeys(now=NOW + 3, limit=3)) for _ in range(3)] == [3, 1, 0]

    assert take(hand, "two") == HELD
    assert take(hand, "two", id=bytes([4]) * 32) == found(answer())
