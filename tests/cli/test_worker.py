"""`afterwards worker`: processes that run tasks and answer nobody."""

import os
import signal
import subprocess
import sys

from cli.processes import PROGRAM, Data, command, environment, marks, until


def begun(folder, times=1):
    until(lambda: [text for text, _ in marks(folder)].count("begin") >= times, f"{times} attempts have begun")


def test_a_worker_runs_what_a_server_only_accepted(folder, serve, start, data):
    """Web processes that stay quick, and workers beside them that do the work."""
    server = serve("--no-tasks")
    server.post("/sleep/0")
    server.post("/def/0")
    assert data.states() == ["queued", "queued"]

    worker = start("worker", "program:app")

    until(lambda: data.states() == ["succeeded", "succeeded"], "the worker has run them")
    assert "token" not in worker.text  # it answers nobody
    server.post("/sleep/0")
    until(lambda: data.states() == ["succeeded"] * 3, "it is told of new ones, too")
    assert {pid for _, pid in marks(folder)} == {worker.process.pid}


def test_a_program_may_say_itself_that_it_only_accepts(folder, start):
    """`Afterwards(runs_tasks=False)` is about the server; in a worker the same program works."""
    (folder / "accepting.py").write_text(
        "from afterwards import Afterwards\n" + PROGRAM + "\nAfterwards(app, runs_tasks=False)\n"
    )
    data = Data(folder / "afterwards-data")
    start("run", "accepting:app", "--port", "0").post("/sleep/0")
    assert data.states() == ["queued"]

    start("worker", "accepting:app")

    until(lambda: data.states() == ["succeeded"], "the worker has run it")


def test_several_processes_work_and_one_that_dies_is_replaced(folder, serve, start, data):
    """A task that takes its process down interrupts itself and nobody else for long."""
    server = serve("--no-tasks")
    worker = start("worker", "program:app", "--processes", "2", "--concurrency", "1")
    server.post("/wait/go")
    server.post("/wait/go")
    begun(folder, times=2)
    first, second = (pid for _, pid in marks(folder))
    assert first != second

    os.kill(first, signal.SIGKILL)

    worker.says("was killed by SIGKILL; another one starts")
    begun(folder, times=3)
    (folder / "go").touch()
    until(lambda: data.states() == ["succeeded", "succeeded"], "both have ended")
    assert marks(folder)[2][1] not in (first, second)
    assert sorted(task.interruptions for task in data.tasks()) == [0, 1]
    assert worker.stop() == 0


def test_a_worker_that_is_told_to_stop_gives_back_what_takes_too_long(folder, serve, start, data):
    """The next one begins with it at once, and it counts as no interruption."""
    serve("--no-tasks").post("/sleep/600")
    worker = start("worker", "program:app", "--drain", "0.2")
    begun(folder)

    worker.stop(signal.SIGINT)

    assert data.states() == ["queued"]
    start("worker", "program:app")
    begun(folder, times=2)
    [task] = data.tasks()
    assert (task.interruptions, task.attempt) == (0, 2)


def test_a_second_signal_ends_all_processes_at_once(folder, serve, start, data):
    """Who is in a hurry says it twice."""
    server = serve("--no-tasks")
    worker = start("worker", "program:app", "--processes", "2", "--drain", "600")
    worker.says("Application startup complete", times=2)
    server.post("/sleep/600")
    begun(folder)
    worker.process.send_signal(signal.SIGTERM)
    worker.says("Shutting down", times=2)

    assert worker.stop() == 0

    start("worker", "program:app")
    begun(folder, times=2)
    assert data.tasks()[0].interruptions == 0


def test_a_program_without_an_application_can_work(folder, start):
    """`Afterwards()` alone is enough for a program that only has tasks."""
    (folder / "jobs.py").write_text(
        "import asyncio, sys\nfrom afterwards import Afterwards\n"
        "afterwards = Afterwards(runs_tasks=False)\n"
        "def job(name):\n    open(name, 'w').close()\n"
        "async def main():\n    await afterwards.enqueue(job, 'done')\n    await afterwards.stop()\n"
        "if __name__ == '__main__':\n    asyncio.run(main())\n"
    )
    started = start("worker", "jobs:afterwards")

    _run_script(folder, "jobs.py")

    until(lambda: (folder / "done").exists(), "the job has run")
    started.says("Application startup complete")


def test_the_programs_own_start_runs_in_a_worker_too(folder, serve, start, data):
    """A task finds the connections that the program opened at its start, wherever it runs."""
    lifespan = (
        "\nfrom contextlib import asynccontextmanager\n@asynccontextmanager\nasync def open_pool(app):\n"
        "    app.state.pool = 'open'\n    yield\n    mark('closed')\napp.router.lifespan_context = open_pool\n"
        "def use_pool():\n    mark(app.state.pool)\n@app.post('/pool')\n"
        "async def post_pool(background_tasks: BackgroundTasks):\n    background_tasks.add_task(use_pool)\n"
    )
    (folder / "program.py").write_text(PROGRAM + lifespan)
    serve("--no-tasks").post("/pool")

    worker = start("worker", "program:app")

    until(lambda: dict(marks(folder)).get("open") == worker.process.pid, "the task has used it")
    worker.stop()
    assert dict(marks(folder))["closed"] == worker.process.pid


def test_a_worker_without_a_program_says_so(folder):
    """The same sentences as for a server."""
    ended = command(folder, "worker", "absent:app", "--processes", "2")

    assert ended.returncode == 1
    assert "absent:app cannot be served: there is no module 'absent'" in ended.stderr
    assert "Traceback" not in ended.stderr


def _run_script(folder, name):
    subprocess.run([sys.executable, name], cwd=folder, env=environment(), check=True, timeout=60)
