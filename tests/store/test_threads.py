"""The store among threads and forks: nothing is left behind, nothing hangs."""

import os
import subprocess
import sys
import threading

import pytest

from afterwards._store.contract import Accept, ThreadReply
from afterwards._store.sqlite import commands
from afterwards.errors import CommandRefused, Stopped
from contract.hand import Hand, new_task


def test_short_lived_threads_leave_no_connections_behind(store, hand):
    """Test clients and thread pools start threads by the hundred, and each reads once."""
    [id] = hand.add(new_task())
    before = len(os.listdir("/dev/fd"))
    together = threading.Barrier(20)

    def read():
        together.wait(20)
        assert store.task(id) is not None

    for _ in range(10):
        threads = [threading.Thread(target=read) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert len(os.listdir("/dev/fd")) - before <= 2 * 20  # SQLite keeps the most that were ever open at once


def test_closing_gives_every_descriptor_back(open_store):
    before = len(os.listdir("/dev/fd"))
    store = open_store()
    Hand(store, "w1").add(new_task())
    store.counts()
    assert len(os.listdir("/dev/fd")) > before

    store.close()

    assert len(os.listdir("/dev/fd")) == before


def test_a_command_that_arrives_while_the_store_closes_is_answered(store, monkeypatch):
    """Between the look whether the store is open and the hand-over, it may have been closed."""
    inbox, handing_over, closed = store._writer._inbox, threading.Event(), threading.Event()
    put = inbox.put

    def slowly(command, reply):
        handing_over.set()
        assert closed.wait(30)
        put(command, reply)

    monkeypatch.setattr(inbox, "put", slowly)
    reply = ThreadReply()
    thread = threading.Thread(target=store.submit, args=(Accept(tasks=(new_task(),)), reply))
    thread.start()
    assert handing_over.wait(30)

    store.close()
    closed.set()
    thread.join(30)

    with pytest.raises(Stopped):
        reply.wait()


def test_a_fault_in_one_command_does_not_end_the_writer(store, hand, monkeypatch):
    """Everybody waits for this thread: it must outlive any mistake of ours."""

    def fault(*_):
        raise ZeroDivisionError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setitem(commands._ALONE, commands.contract.RunAgain, fault)
        with pytest.raises(CommandRefused, match="ZeroDivisionError: a fault of ours"):
            hand.run_again("x")

    [id] = hand.add(new_task())
    assert store.task(id) is not None


def test_a_fault_in_the_session_is_answered_too(store, hand, monkeypatch):
    """The last net: whatever escapes the transaction reaches those who wait."""

    def fault(*_):
        raise ZeroDivisionError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(store._writer._session, "run", fault)
        with pytest.raises(ZeroDivisionError):
            hand.add(new_task())

    [id] = hand.add(new_task())
    assert store.task(id) is not None


FORK = """
import os, sys
from pathlib import Path
from afterwards._store.sqlite.store import SqliteStore
from afterwards.errors import Stopped
from contract.hand import Hand, new_task
store = SqliteStore(Path(sys.argv[1]))
hand = Hand(store, "w")
hand.add(new_task())
if os.fork() == 0:
    for call in (lambda: hand.add(new_task()), store.counts):
        try:
            call()
        except Stopped as error:
            print("refused" if "fork" in str(error) else error, flush=True)
    store.close()
    os._exit(0)
os.wait()
hand.add(new_task())
print(store.counts()["queued"])
store.close()
"""


def test_a_fork_is_refused_instead_of_left_waiting(path):
    """The writer's thread stays with the parent; a connection carried over would destroy the parent's locks."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(path)]

    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert result.stdout.split() == ["refused", "refused", "2"], result.stderr
