"""A process that is stopped for longer than its lease, and goes on: it has lost what it held, and nothing else."""

import os
import signal

from afterwards._domain.tasks import AttemptState, TaskState
from afterwards._engine.clock import SystemClock
from crash.harness import Harness

LEASE = {"CRASH_LEASE": "0.6"}


def test_a_server_that_stood_still_loses_its_attempts_goes_on_and_can_still_be_rescued(harness: Harness, tmp_path):
    """Its late result is refused, it takes tasks again, and when it is killed after that, they are freed again."""
    one = harness.start(**LEASE)
    first = tmp_path / "first"
    key, id = harness.request(one.port, "hold", gate=first)
    harness.wait(lambda: harness.lines("start"))
    two = harness.start(**LEASE)

    one.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, one.process.pid, os.WSTOPPED | os.WNOWAIT)
    harness.wait(lambda: len(harness.lines("start")) == 2, lambda: two.text)
    assert harness.lines("start")[1] == ["start", key, str(two.process.pid)]

    one.process.send_signal(signal.SIGCONT)
    one.wait_for("attempts were given to others")
    first.touch()
    harness.wait(lambda: len(harness.lines("end")) == 2)  # both have done it, and one of them may say so
    one.wait_for("no longer holds its lease")
    states = [AttemptState.INTERRUPTED, AttemptState.SUCCEEDED]
    harness.wait(lambda: [attempt.state for attempt in harness.data.reads.attempts(id)] == states)

    second = tmp_path / "second"
    harness.request(one.port, "hold", gate=second)
    harness.wait(lambda: len(harness.lines("start")) == 3)
    assert harness.lines("start")[2][2] == str(one.process.pid)
    one.kill()
    harness.wait(lambda: len(harness.lines("start")) == 4)
    second.touch()
    verdict = harness.judge()

    assert not verdict.broken, verdict
    assert {row.state for row in harness.data.rows()} == {TaskState.SUCCEEDED}


def test_servers_that_stood_still_together_take_nothing_from_each_other(harness: Harness, tmp_path):
    """The machine slept: all leases have ended, and nobody has died."""
    gate = tmp_path / "gate"
    servers = [harness.start(**LEASE) for _ in range(2)]
    for server in servers:
        harness.request(server.port, "hold", gate=gate)
    harness.wait(lambda: len(harness.lines("start")) == 2)

    for server in servers:
        server.process.send_signal(signal.SIGSTOP)
    harness.wait(
        lambda: all(worker.lease_until + 500 < SystemClock().boot() for worker in harness.data.reads.workers())
    )
    for server in servers:
        server.process.send_signal(signal.SIGCONT)
    for server in servers:
        server.wait_for("0 of its attempts were given to others")
    gate.touch()
    verdict = harness.judge()

    assert not verdict.broken, verdict
    assert verdict.repeats == 0
