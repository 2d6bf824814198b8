"""What the tutorials say about blocking, load, restarts and crashes, tried out on real processes."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from support.data import until
from support.server import program

ROOT = Path(__file__).parent.parent.parent


def _began(served: Any, where: str) -> None:
    until(lambda: (served.folder / f"{where} began").exists())


def _let_go(served: Any) -> None:
    (served.folder / "let go").touch()


def test_C03_the_inline_program_fails_as_printed_and_its_rewrite_does_not(serve: Any):
    """One line: `background_tasks.add_task(heavy_processing, content)` instead of `heavy_processing(content)`."""
    printed = serve("inline", way="launcher")
    rewritten = serve("read_then_add", way="launcher")

    assert printed.upload().status_code == 500
    assert rewritten.upload().status_code == 200
    rewritten.settled(1)

    assert printed.program.wait_for("NameError")
    assert rewritten.written("processed") == b"hello"


@pytest.mark.usefixtures("way")
def test_C04_C43_def_tasks_that_wait_do_not_hold_up_def_endpoints(serve: Any):
    """45 of them used up the threads that FastAPI shares with its endpoints. Here they have threads of their own."""
    served = serve("blocking")

    for _ in range(45):
        served.client.post("/def")
    until(lambda: served.states().count("running") == 40, served.states)  # their own limit
    assert served.client.get("/ping").json() == "pong"
    assert "queued" in served.states()
    _let_go(served)

    assert {row.state for row in served.settled(45)} == {"succeeded"}


@pytest.mark.usefixtures("way")
def test_C04_C28_C30_C38_an_async_task_that_blocks_the_loop_is_named(serve: Any):
    """Nobody can answer while it blocks; the log says who it is and what to do."""
    served = serve("blocking")

    served.client.post("/async")
    warning = served.program.wait_for("the event loop has not turned")
    _let_go(served)
    served.settled(1)

    assert "blocking:blocks_the_loop" in warning.string
    assert served.client.get("/ping").json() == "pong"


def test_C05_C25_C29_C38_a_separate_process_can_do_the_work(serve: Any):
    """Moving work behind the answer does not make it cheaper; moving it to another process frees the server of it."""
    served = serve("blocking", "--no-tasks", way="launcher")

    pid = served.client.post("/pid").json()["pid"]
    assert served.states() == ["queued"]
    with program("afterwards", "worker", "blocking:app", folder=served.folder, data=served.data) as worker:
        served.settled(1)
        answered, worked = served.written("pids").split()

    assert int(answered) == pid == served.program.process.pid
    assert int(worked) == worker.process.pid != pid


def test_C06_no_text_of_ours_promises_a_better_INP():
    """It measures how soon a page paints after a click; a server cannot improve it by answering later."""
    texts = [ROOT / "README.md", *(path for path in (ROOT / "docs").rglob("*.md") if path.name != "claims.md")]

    saying = [path for path in texts if re.search(r"\bINP\b|Interaction to Next Paint", path.read_text())]

    assert len(texts) > 1
    assert saying == []


@pytest.mark.usefixtures("way")
def test_C26_a_long_task_does_not_hold_up_a_deploy_and_runs_again_after_it(serve: Any):
    """A stop waited for it without limit before. Here it waits as long as it is told, and gives the rest back."""
    served = serve("blocking", AFTERWARDS_DRAIN="0.1")

    served.client.post("/def")
    _began(served, "def")
    served.stop()
    assert served.states() != ["succeeded"]
    _let_go(served)
    served.start()
    (row,) = served.settled(1)

    assert row.state == "succeeded"
    assert row.interruptions == 0  # given back, not counted against it
    assert row.attempt == 2


@pytest.mark.usefixtures("way")
def test_C40_C41_a_killed_server_loses_no_accepted_task(serve: Any):
    """kill -9 right after the answers: 20 of 20 were gone before."""
    served = serve("blocking")

    accepted = sum(served.client.post("/def").status_code == 200 for _ in range(20))
    _began(served, "def")
    os.kill(served.program.process.pid, signal.SIGKILL)
    served.kill()
    _let_go(served)
    served.start()
    rows = served.settled(accepted)

    assert accepted == len(rows) == 20
    assert {row.state for row in rows} == {"succeeded"}
    again = [row for row in rows if row.attempt > 1]
    assert all(row.interruptions == row.attempt - 1 for row in again)  # repeated only where that is on record


def test_C44_a_reload_neither_waits_for_tasks_nor_loses_them(serve: Any):
    """Two pending tasks made the server unreachable until they had ended."""
    served = serve("blocking", "--reload", way="launcher")

    served.client.post("/def")
    served.client.post("/def")
    _began(served, "def")
    text = (served.folder / "blocking.py").read_text()
    (served.folder / "blocking.py").write_text(text.replace('"pong"', '"pong again"'))
    served.program.wait_for("Application startup complete", times=2)

    assert served.client.get("/ping").json() == "pong again"  # the tasks wait still, and nobody waits for them
    _let_go(served)
    rows = served.settled(2)
    assert {row.state for row in rows} == {"succeeded"}
    assert {row.interruptions for row in rows} == {0}
    served.stop()
