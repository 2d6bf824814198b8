"""Commands come from any thread, each gets one answer, and others learn that something changed."""

import asyncio
import queue
import threading

import pytest

from afterwards._domain.tasks import TaskState
from afterwards._store.contract import Accept, CallbackReply, FutureReply, Reply, ThreadReply, ask
from afterwards.errors import BrokenRule, CommandRefused, Stopped
from contract.hand import Hand, chain, new_task


def test_many_threads_may_submit_at_once(store):
    """Requests are served by many threads and loops of one process."""
    ids = queue.SimpleQueue()

    def work():
        hand = Hand(store, "w1")
        for _ in range(25):
            ids.put(hand.add(new_task())[0])

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert store.counts() == {"queued": 500}
    assert all(store.task(ids.get()) for _ in range(500))


async def test_answers_arrive_on_the_loop_that_asked(store):
    """Awaiting a commit must not block the loop, nor wake it on a foreign thread."""
    tasks = [new_task() for _ in range(50)]

    answers = await asyncio.gather(*(ask(store, Accept(tasks=(task,))) for task in tasks))

    assert answers == [None] * 50
    with pytest.raises(BrokenRule):
        await ask(store, Accept(tasks=(tasks[0],)))


async def test_a_waiter_that_went_away_changes_nothing(store):
    """A client that hangs up cancels the request; what was handed over is stored, and others get their answers."""
    task, other = new_task(), new_task()
    waiting = asyncio.ensure_future(ask(store, Accept(tasks=(task,))))
    await asyncio.sleep(0)
    waiting.cancel()

    await ask(store, Accept(tasks=(other,)))

    assert waiting.cancelled()
    assert store.task(task.id) is not None


def test_a_loop_that_was_closed_keeps_nobody_else_from_an_answer(store):
    """A server that is shut down closes its loop while commits are under way."""
    loop = asyncio.new_event_loop()
    orphan = FutureReply(loop)
    loop.close()
    gone, here = new_task(), new_task()

    store.submit(Accept(tasks=(gone,)), orphan)
    Hand(store, "w1").add(here)

    assert store.task(gone.id) is not None
    assert store.task(here.id) is not None


def test_a_reply_or_a_watcher_that_raises_harms_nobody_else(store, caplog):
    """The store's thread is everybody's: a fault in one asker's code must not stop it."""

    def fault(*_):
        raise RuntimeError("a fault of the asker")

    store.watch(fault)
    heard = threading.Event()
    store.watch(lambda work: heard.set())
    hand = Hand(store, "w1")
    store.submit(Accept(tasks=(new_task(),)), CallbackReply(fault))

    hand.add(new_task())

    assert heard.is_set()
    assert store.counts() == {"queued": 2}
    assert "a fault of the asker" in caplog.text


def test_an_unfit_command_gets_its_own_error_and_the_store_goes_on(store, hand):
    """A fault in one command is its asker's to hear, and nobody else's."""
    with pytest.raises(CommandRefused, match=r"could not carry out Accept .TypeError: .* nothing of it was stored"):
        hand.add(new_task(arguments=object()))

    [id] = hand.add(new_task())
    assert hand.state(id) is TaskState.QUEUED


def test_two_waiters_of_one_failure_get_an_exception_each(store):
    """Raised in two threads at once, one exception would mix their tracebacks."""
    store.close()
    replies = [ThreadReply(), ThreadReply()]
    for reply in replies:
        store.submit(Accept(tasks=(new_task(),)), reply)

    errors = []
    for reply in replies:
        with pytest.raises(Stopped) as caught:
            reply.wait()
        errors.append(caught.value)

    assert errors[0] is not errors[1]


def test_watchers_hear_of_each_commit_and_whether_it_left_work(store, hand):
    """A claimer asleep is woken by work, and not by every settlement."""
    heard = []
    store.watch(heard.append)

    def after(call, *arguments, **options):
        heard.clear()
        answer = call(*arguments, **options)
        return answer, list(heard)

    assert after(hand.add, new_task())[1] == [True]
    claim, work = after(hand.one)
    assert work == [False]
    assert after(hand.tell, claim, "log", '"x"')[1] == [False]
    assert after(hand.settle, claim)[1] == [False]
    assert after(hand.run_again, claim.id)[1] == [True]
    assert after(hand.settle, hand.one(), TaskState.RETRYING, run_at=hand.now)[1] == [True]
    hand.settle(hand.one())
    [held], work = after(hand.add, new_task(state=TaskState.WAITING, worker="w1"))
    assert work == [False]
    assert after(hand.let_go, held)[1] == [True]
    hand.settle(hand.one())
    hand.add(*chain({}, {}))
    assert after(hand.settle, hand.one())[1] == [True]  # the one behind it is free now
    hand.one()
    assert after(hand.rescue)[1] == [True]


def test_a_late_follower_is_announced_by_the_end_of_the_one_before(store, hand):
    """The claim was made before anybody knew of the follower, so the hint in the command cannot tell."""
    heard = []
    [first] = hand.add(new_task())
    claim = hand.one()
    hand.add(new_task(after=first, state=TaskState.WAITING), late=True)
    store.watch(heard.append)

    hand.settle(claim)

    assert heard == [True]


def test_the_version_differs_when_another_process_has_committed(store, open_store, hand):
    """The cheap question an idle process asks instead of looking for work."""
    other = Hand(open_store(), "w2")
    first = store.version()
    assert store.version() == first

    other.add(new_task())

    assert store.version() != first
    assert store.version() == store.version()


def test_what_another_process_committed_is_seen_at_once(store, open_store, hand):
    other = Hand(open_store(), "w2")

    [id] = other.add(new_task())

    assert hand.state(id) is TaskState.QUEUED
    assert hand.one().id == id
    assert other.state(id) is TaskState.RUNNING


def test_closing_finishes_what_was_submitted_and_refuses_the_rest(open_store):
    """Shut-down loses nothing that was handed over, and nobody waits for an answer that never comes."""
    store = open_store()
    accepted = [(new_task(), ThreadReply()) for _ in range(100)]
    for task, reply in accepted:
        store.submit(Accept(tasks=(task,)), reply)

    store.close()
    store.close()

    assert [reply.wait() for _, reply in accepted] == [None] * 100
    late = ThreadReply()
    store.submit(Accept(tasks=(new_task(),)), late)
    with pytest.raises(Stopped):
        late.wait()
    with pytest.raises(Stopped):
        store.task("any")
    with pytest.raises(Stopped):
        store.version()
    again = open_store()
    assert again.counts() == {"queued": 100}
    assert all(again.task(task.id) for task, _ in accepted)


def test_everybody_gets_an_answer_when_the_store_is_closed_under_load(open_store):
    """Whatever the moment: stored, or refused with Stopped."""
    store = open_store()
    answers = queue.SimpleQueue()
    started = threading.Semaphore(0)

    class Answer(Reply):
        __slots__ = ("id",)

        def __init__(self, id):
            super().__init__()
            self.id = id

        def deliver(self, answer):
            answers.put((self.id, answer))

    def work():
        for place in range(200):
            task = new_task()
            store.submit(Accept(tasks=(task,)), Answer(task.id))
            if place == 20:
                started.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        started.acquire(timeout=30)
    store.close()
    for thread in threads:
        thread.join(30)

    given = dict(answers.get(timeout=30) for _ in range(800))
    assert len(given) == 800
    assert answers.empty()
    stored = {id for id, answer in given.items() if answer is None}
    assert all(isinstance(answer, Stopped) for id, answer in given.items() if id not in stored)
    again = open_store()
    assert {id for id in given if again.task(id)} == stored
