"""`afterwards tasks`: a data directory, looked at from a terminal, with and without a running program."""

import json
import threading

import pytest

from afterwards._cli.text import size
from cli.processes import Data, command, marks, until
from support.directory import make_directory

UNKNOWN = "0" * 36


@pytest.fixture
def past(folder, serve, data):
    """Two tasks that have ended, one well and one badly; the server is gone."""
    server = serve()
    server.post("/sleep/0")
    server.post("/fail/no%1B%5B31m%0Aforged")
    until(lambda: data.states() == ["succeeded", "failed"], "both have ended")
    server.stop()
    return data.tasks()


def test_a_list_fits_80_columns(folder, past):
    """Most terminals, and what people paste into reports."""
    good, bad = past

    ended = command(folder, "tasks", "list", columns=80)

    lines = ended.stdout.splitlines()
    assert ended.returncode == 0
    assert [line.split()[:2] for line in lines] == [["ID", "STATE"], [bad.id, "failed"], [good.id, "succeeded"]]
    assert all("ago" in line for line in lines[1:])
    assert max(map(len, lines)) <= 80


def test_a_list_is_narrowed_by_state_name_and_number(folder, past):
    """The questions that are asked first: what has failed, and what about this function."""
    good, bad = past

    def ids(*options):
        return [task["id"] for task in json.loads(command(folder, "tasks", "list", "--json", *options).stdout)]

    assert ids() == [bad.id, good.id]
    assert ids("--state", "failed") == [bad.id]
    assert ids("--name", "program:sleep") == [good.id]
    assert ids("--limit", "1") == [bad.id]
    assert ids("--state", "running") == []
    assert command(folder, "tasks", "list", "--state", "lost").returncode == 2
    assert command(folder, "tasks", "list", "--state", "running").stdout == "no such tasks\n"


def test_show_tells_everything_and_steers_no_terminal(folder, past):
    """An error message holds whatever a client has sent."""
    _, bad = past

    ended = command(folder, "tasks", "show", bad.id)

    assert ended.returncode == 0
    assert f"task        {bad.id}" in ended.stdout
    assert "state       failed" in ended.stdout
    assert "ValueError: no\\x1b[31m\\nforged" in ended.stdout
    assert "| Traceback (most recent call last):" in ended.stdout
    assert "\x1b" not in ended.stdout
    assert "\nforged" not in ended.stdout


def test_show_names_files_so_that_they_can_be_fetched(tmp_path):
    """Their ids are all that a download takes."""
    made = make_directory(tmp_path / "data")

    said = command(tmp_path, "tasks", "show", made.tasks["succeeded"], "--data", "data").stdout

    [row] = [row for row in Data(made.root).tasks() if row.id == made.tasks["succeeded"]]
    assert row.files
    for file in row.files:
        label = f"{file.role:<12}{file.name} ({size(file.size)}, "
        assert label in said
        assert f"{' ' * 12}/afterwards/files/{file.id}\n{' ' * 12}{file.digest}\n" in said


def test_of_what_is_tried_for_ever_no_end_is_told(tmp_path):
    """A scan may fail a million times, and that says nothing to anybody."""
    made = make_directory(tmp_path / "data")
    made.edit("UPDATE task SET max_attempts = 1000001, failures = 2 WHERE id = ?", made.tasks["queued"])

    said = command(tmp_path, "tasks", "show", made.tasks["queued"], "--data", "data").stdout

    assert "attempts    0 started, 2 failed\n" in said


@pytest.mark.parametrize("arguments", [("tasks", "list"), ("purge", "--older-than", "1d")])
def test_a_state_that_is_none_is_refused_with_those_that_are(folder, arguments):
    ended = command(folder, *arguments, "--state", "bogus", columns=200)

    assert ended.returncode == 2
    assert "Invalid value for '--state': 'bogus' is none. Write one of waiting, scheduled, queued," in ended.stderr
    assert "Value error" not in ended.stderr


def test_show_and_watch_say_that_no_program_runs(folder, serve, start, data):
    """What a killed server leaves looks like a task that hangs, to somebody who has just killed it."""
    sentence = "no program of this data directory runs; the next start takes"
    server = serve()
    server.post("/sleep/30")
    until(lambda: data.states() == ["running"], "it runs")
    [task] = data.tasks()
    assert sentence not in command(folder, "tasks", "show", task.id).stdout

    server.kill()

    assert sentence in command(folder, "tasks", "show", task.id).stdout
    start("tasks", "watch", task.id).says(sentence)


def test_json_is_the_task_document(folder, past):
    """Programs read the same document here as over HTTP."""
    good, _ = past

    document = json.loads(command(folder, "tasks", "show", good.id, "--json").stdout)

    assert (document["id"], document["state"], document["result"]) == (good.id, "succeeded", 0.0)
    assert [attempt["state"] for attempt in document["attempts"]] == ["succeeded"]


def test_counts_are_by_state(folder, past):
    """The first look at a system in trouble."""
    assert json.loads(command(folder, "tasks", "counts", "--json").stdout) == {"succeeded": 1, "failed": 1}
    assert "failed                 1" in command(folder, "tasks", "counts").stdout


def test_watch_follows_a_task_to_its_end(folder, serve, data):
    """It begins with what has happened already, and ends when the task does."""
    server = serve()
    server.post("/wait/go")
    until(lambda: marks(folder) != [], "it has begun")
    [task] = data.tasks()
    threading.Timer(1.0, (folder / "go").touch).start()

    ended = command(folder, "tasks", "watch", task.id, "--json")

    events = [json.loads(line) for line in ended.stdout.splitlines()]
    states = [event["data"]["state"] for event in events if event["kind"] == "state"]
    assert ended.returncode == 0
    assert states[-2:] == ["running", "succeeded"]
    assert "succeeded" in command(folder, "tasks", "watch", task.id).stdout


def test_watch_of_a_failed_task_ends_with_1(folder, past):
    """So that a script can wait for a task and know."""
    assert command(folder, "tasks", "watch", past[1].id).returncode == 1


def test_retry_runs_an_ended_task_again_in_a_running_program(folder, serve, data, past):
    """After the cause has been repaired; the program is woken and need not be restarted."""
    _, bad = past
    server = serve()
    server.request("GET", "/pid")

    ended = command(folder, "tasks", "retry", bad.id)

    assert ended.returncode == 0
    assert f"task program:fail {bad.id} was failed and is queued again" in ended.stdout
    until(lambda: len(data.attempts(bad.id)) == 2 and data.states()[1] == "failed", "it has run again")


def test_retry_of_a_running_task_is_refused(folder, serve, data):
    """Two attempts of one task at the same time are what must never be."""
    serve().post("/wait/go")
    until(lambda: marks(folder) != [], "it has begun")
    [task] = data.tasks()

    ended = command(folder, "tasks", "retry", task.id)

    assert ended.returncode == 1
    assert f"task {task.id} is running" in ended.stderr


@pytest.mark.parametrize(("what", "id"), [("show", UNKNOWN), ("watch", "x"), ("retry", "../../etc/passwd")])
def test_an_unknown_id_is_not_found(folder, past, what, id):
    """One sentence and status 1."""
    ended = command(folder, "tasks", what, id)

    assert ended.returncode == 1
    assert f"no task has the id {id!r}" in ended.stderr


@pytest.mark.parametrize("arguments", [["list"], ["watch", UNKNOWN], ["retry", UNKNOWN]])
def test_a_folder_without_a_database_is_refused_and_left_as_it_is(tmp_path, arguments):
    """A mistyped --data must not look like an empty system, nor make one."""
    (tmp_path / "empty").mkdir()
    for place in ("absent", "empty"):
        ended = command(tmp_path, "tasks", *arguments, "--data", place)

        assert ended.returncode == 1
        assert f"there is no database of Afterwards in {tmp_path / place}" in ended.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_foreign_or_empty_file_is_refused(tmp_path):
    """Nothing is changed in what is not ours."""
    file = tmp_path / "afterwards.db"
    for content, sentence in (
        (b"", "is empty: no program has been started"),
        (b"text" * 999, "is not an SQLite database"),
    ):
        file.write_bytes(content)

        ended = command(tmp_path, "tasks", "list", "--data", ".")

        assert (ended.returncode, file.read_bytes()) == (1, content)
        assert sentence in ended.stderr


def test_the_command_explains_itself(tmp_path):
    """Help and version are the first things anybody tries."""
    assert "tasks" in command(tmp_path, "--help").stdout
    assert all(len(line) <= 80 for line in command(tmp_path, "run", "--help", columns=80).stdout.splitlines())
    assert command(tmp_path, "version").stdout.startswith("afterwards ")
    assert command(tmp_path, "no-such-command").returncode == 2
