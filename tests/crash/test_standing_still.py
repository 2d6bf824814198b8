"""A process that is stopped for longer than its lease, and goes on: it has lost what it held, and nothing else."""

import os
import signal
import time

import apsw

from afterwards._domain.tasks import AttemptState, TaskState
from afterwards._engine.clock import SystemClock
from afterwards._files.sweep import GRACE, sweep_files
from crash.harness import Harness
from support.data import Data, until
from support.server import program
from support.wire import form, head, part, wire

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


STORING = """
from fastapi import FastAPI, UploadFile
from afterwards import Afterwards, BackgroundTasks

app = FastAPI()
Afterwards(app)


def size_of(file: UploadFile) -> int:
    return len(file.file.read())


@app.post("/", status_code=202)
async def endpoint(file: UploadFile, tasks: BackgroundTasks) -> None:
    tasks.add_task(size_of, file)
"""


def test_a_file_whose_server_stands_still_before_its_commit_is_not_swept(tmp_path):
    """A sleeping laptop, a paused container: another process sweeps, and the answer that comes then must be true."""
    (tmp_path / "storing.py").write_text(STORING)
    data = Data(tmp_path / "data")
    with program("uvicorn", "storing:app", "--port", "0", folder=tmp_path, data=data.data) as server:
        port = server.port
        writing = apsw.Connection(str(data.data / "afterwards.db"))
        writing.set_busy_timeout(10_000)
        writing.execute("BEGIN IMMEDIATE")
        with wire(port) as one:
            body = form(part(os.urandom(700_000), field=b"file"))
            one.send(head("/", len(body)) + body)
            until(lambda: any((data.data / "files").glob("*/*")))
            server.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, server.process.pid, os.WSTOPPED | os.WNOWAIT)
            writing.execute("ROLLBACK")
            swept = list(sweep_files(data.data, data.reads.known_files, now=time.time() + GRACE + 60))
            server.process.send_signal(signal.SIGCONT)
            answer = one.answer()
        writing.close()
        [row] = data.settled(1)

    assert (answer.status, [step.removed for step in swept]) == (202, [0])
    assert (row.state, row.result) == (TaskState.SUCCEEDED, "700000")
    data.close()
