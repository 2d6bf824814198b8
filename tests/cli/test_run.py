"""`afterwards run`: an unmodified program, its tasks durable, through every way a server comes to its end."""

import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request

import pytest

from cli.processes import PROGRAM, Data, command, marks, until


def begun(folder, times=1):
    until(lambda: [text for text, _ in marks(folder)].count("begin") >= times, f"{times} attempts have begun")


def test_a_task_of_an_unmodified_program_survives_the_death_of_its_server(folder, serve, data):
    """The promise of the launcher: nothing was changed in the program, and nothing that was answered is lost."""
    first = serve()
    first.post("/wait/go")
    begun(folder)

    first.kill()
    assert data.states() == ["running"]
    (folder / "go").touch()
    serve().request("GET", "/pid")
    until(lambda: data.states() == ["succeeded"], "the task has ended")

    [task] = data.tasks()
    assert [attempt.state for attempt in data.attempts(task.id)] == ["interrupted", "succeeded"]
    assert (task.name, task.interruptions) == ("program:wait_for", 1)


def test_a_task_that_cannot_be_stored_runs_all_the_same(folder, serve, data):
    """A program that works today works under the launcher; what could not be kept is said in the log."""
    server = serve()

    server.post("/lambda")

    until(lambda: "lambda" in dict(marks(folder)), "the task has run")
    server.says("runs without being saved")
    assert data.tasks() == []


def test_strict_refuses_what_cannot_be_stored(folder, serve):
    """Who wants to know before a crash says --strict."""
    server = serve("--strict")

    with pytest.raises(urllib.error.HTTPError) as refused:
        server.post("/lambda")

    assert refused.value.code == 500
    server.says("a lambda has no name")
    assert marks(folder) == []


def test_a_program_that_asks_for_ours_is_refused_what_cannot_be_stored(folder, start):
    """Only who asks for FastAPI's class gets FastAPI's leniency, whichever way the program is started."""
    (folder / "asking.py").write_text(PROGRAM.replace("from fastapi import BackgroundTasks, ", "from fastapi import "))
    source = (folder / "asking.py").read_text()
    (folder / "asking.py").write_text("from afterwards import BackgroundTasks\n" + source)
    server = start("run", "asking:app", "--port", "0")

    with pytest.raises(urllib.error.HTTPError):
        server.post("/lambda")

    server.says("a lambda has no name")
    assert marks(folder) == []


def test_tasks_made_by_hand_and_dropped_are_warned_about(folder, start):
    """FastAPI never runs them and never says so: most of the reports of lost tasks come from this."""
    (folder / "handmade.py").write_text(
        PROGRAM
        + "\n@app.post('/dropped')\nasync def dropped():\n"
        + "    tasks = BackgroundTasks()\n    tasks.add_task(sleep, 0)\n"
    )
    server = start("run", "handmade:app", "--port", "0")

    server.post("/dropped")

    server.says(r"made by hand was dropped, so these tasks never ran: sleep")


def test_two_processes_share_requests_and_tasks(folder, serve, data):
    """They work on one data directory, and each task runs once."""
    server = serve("--workers", "2", "--threads", "1")
    for _ in range(8):
        server.post("/def/0.2")

    until(lambda: data.states() == ["succeeded"] * 8, "all have ended")

    ran = [pid for text, pid in marks(folder) if text == "begin"]
    assert len(ran) == 8
    assert len(set(ran)) == 2


def test_a_process_that_dies_is_replaced_and_its_task_is_run_again(folder, serve, data):
    """One of several is killed: the others go on, and the one that takes its place is as good."""
    server = serve("--workers", "2")
    server.post("/wait/go")
    begun(folder)
    [(_, dead)] = marks(folder)

    os.kill(dead, signal.SIGKILL)

    begun(folder, times=2)
    server.says(r"was killed by SIGKILL; another one starts")
    server.says(r"Application startup complete", times=3)
    (folder / "go").touch()
    until(lambda: data.states() == ["succeeded"], "the task has ended")
    assert server.stop() == 0


def test_processes_of_one_server_have_one_admin_token(folder, serve):
    """Whoever answers a request, the token that the log shows is good."""
    server = serve("--workers", "2")
    server.says("until this program ends: ", times=2)

    tokens = set(re.findall(r"until this program ends: (\w+)", server.text))

    assert len(tokens) == 1


def test_workers_end_when_their_supervisor_is_killed(folder, serve, data):
    """Nobody would look after them, and they would hold the port."""
    server = serve("--workers", "2")
    child = server.request("GET", "/pid")
    url = server.url

    server.kill()

    until(lambda: _refused(url), f"the port is free, which process {child} held")


def test_a_reload_neither_waits_for_a_task_nor_loses_it(folder, serve, data):
    """Who edits a file wants to see it now; the task is given back and run again by the new code."""
    server = serve("--reload")
    before = server.request("GET", "/pid")
    server.post("/sleep/30")
    server.post("/def/30")
    begun(folder, times=2)

    (folder / "program.py").write_text(PROGRAM + "\n# changed\n")
    os.utime(folder / "program.py", (2_000_000_000, 2_000_000_000))

    def other_process():
        try:
            pid = server.request("GET", "/pid")
        except ConnectionError:  # it met the old process in its last moment
            return None
        return pid if pid != before else None

    after = until(other_process, "the new process serves")
    begun(folder, times=4)

    assert [pid for _, pid in marks(folder)] == [before, before, after, after]
    for task in data.tasks():
        assert [attempt.state for attempt in data.attempts(task.id)] == ["released", "running"]
        assert task.interruptions == 0


def test_a_stop_waits_for_a_short_task_and_gives_back_a_long_one(folder, serve, data):
    """A deployment does not wait for ever, and does not count against a task either."""
    server = serve("--drain", "2")
    server.post("/sleep/0.5")
    server.post("/sleep/60")
    server.post("/def/60")
    begun(folder, times=3)

    server.stop()

    short, long, long_def = data.tasks()
    assert (short.state, long.state) == ("succeeded", "queued")
    assert [attempt.state for attempt in data.attempts(long.id)] == ["released"]
    serve()
    begun(folder, times=5)
    until(lambda: data.attempts(long_def.id)[0].state == "released", "the thread's task was given back")
    assert [task.interruptions for task in data.tasks()] == [0, 0, 0]


def test_a_stop_is_not_held_up_by_an_open_stream(folder, serve, data):
    """Requests and tasks share one limit: a browser tab that follows a task must not keep the server for ever."""
    server = serve("--drain", "1")
    server.post("/sleep/60")
    begun(folder)
    stream = urllib.request.urlopen(server.url + "/stream", timeout=20)
    assert stream.readline() == b"line\n"

    server.stop()

    stream.close()
    assert data.states() == ["queued"]
    assert data.tasks()[0].interruptions == 0


def test_a_second_signal_ends_at_once_and_still_interrupts_nothing(folder, serve, data):
    """That the program was told to stop is on record from the first signal on."""
    server = serve("--drain", "600")
    server.post("/sleep/600")
    begun(folder)
    server.process.send_signal(signal.SIGTERM)
    server.says("Shutting down")
    until(lambda: _stopping(data), "the stop is on record")

    assert server.stop() == 128 + signal.SIGTERM

    serve()
    begun(folder, times=2)
    [task] = data.tasks()
    assert (task.interruptions, data.attempts(task.id)[0].state) == (0, "released")


def test_the_command_line_goes_before_what_the_program_says(folder, start):
    """Whoever starts a program decides where its data goes, as with every other server."""
    (folder / "own.py").write_text(
        "from afterwards import Afterwards\n" + PROGRAM + "\nAfterwards(app, data='elsewhere')\n"
    )
    server = start("run", "own:app", "--port", "0", "--data", "chosen")

    server.post("/sleep/0")

    until(lambda: Data(folder / "chosen").states() == ["succeeded"], "the task has ended")
    assert not (folder / "elsewhere").exists()


def test_a_factory_and_a_wrapped_application_are_served(folder, start):
    """Both are ways in which real programs hand their application to uvicorn."""
    (folder / "made.py").write_text(
        PROGRAM
        + "\nfrom starlette.middleware.cors import CORSMiddleware\ndef create():\n    return CORSMiddleware(app)\n"
    )
    server = start("run", "made:create", "--factory", "--port", "0")

    server.post("/sleep/0")

    until(lambda: Data(folder / "afterwards-data").states() == ["succeeded"], "the task has ended")


def test_status_links_lead_to_us_in_a_program_that_answers_every_path(folder, start):
    """Its routes were made before ours, and the last of them, a page for all that is not found, takes everything."""
    (folder / "everything.py").write_text(
        PROGRAM + "\n@app.get('/{path:path}')\nasync def all(path: str):\n    return {'page': path}\n"
    )
    server = start("run", "everything:app", "--port", "0")

    assert server.request("GET", "/afterwards/health")["status"] == "ready"
    assert server.request("GET", "/elsewhere") == {"page": "elsewhere"}


def test_json_log_lines_carry_the_task(folder, serve):
    """A log that programs read has one object a line, whatever a client sends."""
    server = serve("--log-format", "json")
    server.post("/fail/one%0Atwo")
    server.says("failed in attempt 1")
    server.stop()

    lines = [json.loads(line) for line in server.text.splitlines()]
    [failed] = [line for line in lines if line["level"] == "ERROR"]
    assert (failed["logger"], failed["attempt"]) == ("afterwards.engine", 1)
    assert "one\ntwo" in failed["message"]
    assert "ValueError" in failed["error"]
    assert [line["message"] for line in lines if line["logger"] == "uvicorn.access"] != []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["absent:app"], "there is no module 'absent' in {folder} or on Python's path"),
        (["program.inner:app"], "there is no module 'program.inner'"),
        (
            ["program.py"],
            "it is the name of a file. Write the module and the application in it: afterwards run program:app",
        ),
        (["program:application"], "has no attribute 'application'. It has a FastAPI application named app"),
        (["program:fail"], "program:fail cannot be served: it is a function, not a FastAPI application. If it makes"),
        (["program:mark", "--factory"], "could not be imported; its error is above"),
        (["program:os"], "it is a value of type module, not a FastAPI application"),
        (["program:app", "--factory"], "not a function that makes an application. Leave --factory out"),
        (["program:app", "--data", "program.py"], "the data directory {folder}/program.py is a file"),
        (["program:app", "--data", "foreign"], "is not a database of Afterwards: it is not an SQLite database"),
        (["program:app", "--host", "no.such.host.invalid"], "is not an address or a name of one"),
        (["program:app", "--host", "192.0.2.1"], "this machine does not have that address"),
        (["program:app", "--workers", "2", "--data", "program.py"], "is a file. Choose a folder"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_sentence(folder, arguments, sentence):
    """No traceback of ours: the person at the terminal named the wrong thing and wants to know which."""
    (folder / "foreign").mkdir()
    (folder / "foreign" / "afterwards.db").write_text("something else " * 100)
    (folder / "foreign" / "key").write_bytes(bytes(32))

    ended = command(folder, "run", *arguments, "--port", "0")

    assert ended.returncode == 1
    assert sentence.format(folder=folder) in ended.stderr
    if "above" not in sentence:
        assert "Traceback" not in ended.stderr
    assert "starts on" not in ended.stderr, "it does not"


def test_a_protocol_of_ones_own_serves(folder, start):
    """The documented way to change how long slow clients are waited for."""
    (folder / "mine.py").write_text(
        "from afterwards.server import HttpProtocol\n"
        "class Patient(HttpProtocol):\n"
        "    def connection_made(self, transport):\n"
        "        print('it is mine', flush=True)\n"
        "        super().connection_made(transport)\n"
    )
    server = start("run", "program:app", "--port", "0", "--http", "mine:Patient")

    server.post("/sleep/0")

    server.says("it is mine")


@pytest.mark.parametrize(
    ("http", "sentence"),
    [("absent:Patient", "absent:Patient cannot be served: there is no module"), ("program:app", "has no class 'app'")],
)
def test_a_protocol_that_is_none_is_refused_in_one_sentence(folder, http, sentence):
    ended = command(folder, "run", "program:app", "--port", "0", "--http", http)

    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("program", ["program", "own"])
@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("AFTERWARDS_MAX_FILE", "ten", "AFTERWARDS_MAX_FILE='ten': bytes from 0 as a whole number, or a text such as"),
        ("AFTERWARDS_KEEP", "7", "AFTERWARDS_KEEP='7': '7' has no unit"),
        ("AFTERWARDS_ACCEPT", "png", "AFTERWARDS_ACCEPT='png': 'png' is no media type"),
    ],
)
def test_a_meaningless_variable_is_refused_in_one_sentence(folder, program, variable, value, sentence):
    """Whoever made the installation, we or the program: nothing in the program is wrong, so no traceback helps."""
    (folder / "own.py").write_text(f"{PROGRAM}\nfrom afterwards import Afterwards\nAfterwards(app)\n")

    ended = command(folder, "run", f"{program}:app", "--port", "0", said={variable: value})

    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"afterwards: the environment's {sentence}")


def test_a_start_says_what_is_in_force_and_what_it_does_not_know(folder, start):
    """A limit that a typing error has left out must not be believed in, nor one day of keeping taken for seven."""
    said = {"AFTERWARDS_MAXFILE": "1 MB", "AFTERWARDS_KEEP": "36h", "AFTERWARDS_MAX_REQUEST": "2 MB"}
    server = start("run", "program:app", "--port", "0", said=said)

    server.says("kept after their end: succeeded 36h, failed 36h, uploads that no task takes 1d, artifacts as their")
    server.says("limits of uploads: max_request 2,000,000, max_files 1,000")
    server.says("AFTERWARDS_MAXFILE is not known to Afterwards and changes nothing. Is AFTERWARDS_MAX_FILE meant?")


def test_a_port_in_use_is_named(folder):
    """The most common reason why a server does not start."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        ended = command(folder, "run", "program:app", "--port", str(port))

    assert ended.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be served: another program listens there" in ended.stderr
    assert not (folder / "afterwards-data").exists()


@pytest.mark.parametrize("options", [[], ["--workers", "2"]])
def test_the_programs_own_error_keeps_its_traceback_without_our_lines(folder, options):
    """It is the program's fault, so its author needs the place in the program and nothing else."""
    (folder / "broken.py").write_text("def inner():\n    raise TypeError('mine')\n\ninner()\n")

    ended = command(folder, "run", "broken:app", "--port", "0", *options)

    assert ended.returncode == 1
    assert "TypeError: mine" in ended.stderr
    assert "broken.py" in ended.stderr
    assert "launch.py" not in ended.stderr


def test_options_that_exclude_each_other_are_a_usage_error(folder):
    """Status 2 tells a script that its command line is wrong, not the program."""
    assert command(folder, "run", "program:app", "--reload", "--workers", "2").returncode == 2
    assert command(folder, "run", "program:app", "--port", "70000").returncode == 2
    assert command(folder, "run").returncode == 2


def _stopping(data):
    with data.store() as store:
        return all(worker.stopped_at is not None for worker in store.workers())


def _refused(url):
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return True
    return False
