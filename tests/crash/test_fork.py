"""User code forks. A child has copies of everything and owns nothing of it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.server import Program

SCRIPT = '''
import asyncio, os, sys
from afterwards import Afterwards

afterwards = Afterwards(data=sys.argv[1])

def double(number: int) -> int:
    return 2 * number

async def ask(number):
    return await (await afterwards.enqueue(double, number)).result(timeout=15)

def child():
    """What a child does that was not made for this: it tries to go on as if it were its parent, and ends."""
    try:
        afterwards.enqueue_blocking(double, 3)
    except Exception as error:
        print("child:", type(error).__name__, error, flush=True)
    sys.exit(0)  # runs everything that its parent has registered for its own end

if __name__ == "__main__":
    print("before:", asyncio.run(ask(1)), flush=True)
    if (pid := os.fork()) == 0:
        child()
    print("child ended with", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    print("present:", len(os.listdir(sys.argv[1] + "/workers")), flush=True)
    print("after:", asyncio.run(ask(2)), flush=True)
'''

START_IN_CHILD = """
import asyncio, os, sys
from afterwards import Afterwards

first = Afterwards(data=sys.argv[1])
second = Afterwards(data=sys.argv[1])

def double(number: int) -> int:
    return 2 * number

async def ask(afterwards, number):
    return await (await afterwards.enqueue(double, number)).result(timeout=15)

if __name__ == "__main__":
    print("parent:", asyncio.run(ask(first, 1)), flush=True)
    if (pid := os.fork()) == 0:
        print("child:", asyncio.run(ask(second, 2)), flush=True)
        asyncio.run(second.stop())
        os._exit(0)
    print("ended with", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@contextmanager
def program(tmp_path: Path, source: str) -> Iterator[Program]:
    (tmp_path / "forking.py").write_text(source)
    running = Program("forking", str(tmp_path / "data"), folder=tmp_path, data=tmp_path / "data")
    try:
        yield running
        assert running.end() == 0
    finally:
        if running.process.poll() is None:
            os.kill(running.process.pid, signal.SIGKILL)


def test_a_child_that_ends_takes_nothing_of_its_parents_with_it(tmp_path):
    """Neither the lock's files, nor what wakes its event loop; and what the child tries itself is refused clearly."""
    with program(tmp_path, SCRIPT) as running:
        running.wait_for(r"^before: 2$")
        refused = running.wait_for(r"^child: Stopped Afterwards was started by process \d+, and this is a fork of it")
        assert "Start it after the fork" in refused.string
        running.wait_for(r"^child ended with 0$")
        running.wait_for(r"^present: 2$")
        running.wait_for(r"^after: 4$")


def test_a_child_can_start_its_own(tmp_path):
    """A server that forks its workers: what each starts after the fork is its own."""
    with program(tmp_path, START_IN_CHILD) as running:
        running.wait_for(r"^parent: 2$")
        running.wait_for(r"^child: 4$")
        running.wait_for(r"^ended with 0$")
