"""Threads of `def` tasks: as many as are needed, none that are not."""

import threading
from functools import partial

from afterwards._engine.threads import Threads


def test_short_calls_are_made_by_few_threads_and_all_are_made():
    threads = Threads(40)
    made: list[int] = []
    over = threading.Semaphore(0)

    def make(number: int) -> None:
        made.append(number)
        over.release()

    for number in range(2_000):
        threads.run(partial(make, number))
    for _ in range(2_000):
        assert over.acquire(timeout=30)
    threads.close()
    assert sorted(made) == list(range(2_000))


def test_calls_that_wait_for_each_other_all_get_a_thread():
    """Each blocks until as many run at once as there may be: one woken at a time must not mean one at a time."""
    threads = Threads(8)
    together = threading.Barrier(8, timeout=30)
    met = threading.Semaphore(0)

    def meet() -> None:
        together.wait()
        met.release()

    for _ in range(3):
        for _ in range(8):
            threads.run(meet)
        for _ in range(8):
            assert met.acquire(timeout=30)
    threads.close()


def test_no_more_than_the_most_run_at_once():
    threads = Threads(2)
    inside, most, lock = 0, 0, threading.Lock()
    go, over = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        go.wait(30)
        with lock:
            inside -= 1
        over.release()

    for _ in range(6):
        threads.run(work)
    go.set()
    for _ in range(6):
        assert over.acquire(timeout=30)
    assert most <= 2
    threads.close()


def test_closing_ends_the_threads_after_what_they_have_to_do():
    before = set(threading.enumerate())
    threads = Threads(3)
    go, made = threading.Event(), []

    def work() -> None:
        go.wait(30)
        made.append(1)

    for _ in range(5):
        threads.run(work)
    ours = set(threading.enumerate()) - before
    threads.close()
    go.set()
    for thread in ours:
        thread.join(30)

    assert len(made) == 5
    assert not set(threading.enumerate()) - before
