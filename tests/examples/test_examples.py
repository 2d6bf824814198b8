"""Every example runs as its first lines say, and does what they promise."""

import http.client
import io
import json
import subprocess
import sys
import urllib.parse
import zipfile
from pathlib import Path

import pytest

from cli.processes import Data, Running, command, environment, until

ROOT = Path(__file__).parents[2]
EDGE = "a-boundary"


@pytest.fixture
def served(tmp_path):
    """Serve an example with a data directory of its own."""
    started = []

    def begin(module):
        server = Running(tmp_path, "run", f"{module}:app", "--port", "0", "--app-dir", str(ROOT), "--data", "data")
        started.append(server)
        return server

    yield begin
    for one in started:
        one.end()


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path / "data")


def send(server, path, *files):
    """Send files as a form; return the status and the answer."""
    parts = [
        f'--{EDGE}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        f"Content-Type: text/plain\r\n\r\n{content}\r\n"
        for field, name, content in files
    ]
    body = "".join([*parts, f"--{EDGE}--\r\n"]).encode()
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc, timeout=30)
    connection.request("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={EDGE}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def ended(data, number):
    def look():
        tasks = data.tasks()
        return tasks if len(tasks) == number and all(task.finished_at for task in tasks) else None

    return until(look, f"{number} tasks have ended")


def test_the_server_looks_into_a_file_and_sends_a_receipt_with_retries(served, data):
    """The example of the README and of the demonstration."""
    server = served("examples.server")

    status, answer = send(server, "/files?address=ada@example.org", ("file", "a.txt", "one\ntwo\n"))

    assert (status, answer["status"]) == (202, f"/afterwards/tasks/{answer['task']}")
    looked, sent = ended(data, 2)
    document = server.request("GET", answer["status"])
    assert (document["result"]["bytes"], document["result"]["lines"]) == (8, 2)
    assert document["progress"]["done"] == document["progress"]["total"] == 5
    assert looked.id == answer["task"]
    assert [attempt.state for attempt in data.attempts(sent.id)] == ["failed", "succeeded"]


def test_order(served, data):
    """The first of the three is the slowest."""
    server = served("examples.order")

    server.post("/orders/7?quantity=2")

    ended(data, 3)
    assert server.request("GET", "/journal") == ["7: reserved 2", "7: invoice written", "7: customer told"]


def test_retries_and_timeout(served, data):
    """One succeeds in its third attempt, one is cut off, one is not repeated."""
    answer = served("examples.retries").post("/reports")

    states = {task.id: (task.state.value, task.attempt) for task in ended(data, 3)}

    assert states[answer["rates"]] == ("succeeded", 3)
    assert states[answer["slow"]] == ("failed", 1)
    assert states[answer["figures"]] == ("failed", 1)


def test_several_files(served, data):
    """The task gets what the request had: names, types, sizes and bytes."""
    server = served("examples.several_files")

    send(server, "/albums/holiday", ("files", "a.txt", "one"), ("files", "ü.txt", "three"))

    [task] = ended(data, 1)
    pages = json.loads(task.result)["holiday"]
    assert [(page["name"], page["size"], page["read"]) for page in pages] == [("a.txt", 3, 3), ("ü.txt", 5, 5)]


def test_an_unmodified_program_survives_a_crash(served, data):
    """It is killed while it counts, and counts again after its restart."""
    first = served("examples.unmodified")
    assert send(first, "/texts", ("file", "a.txt", "two words"))[0] == 202
    until(lambda: data.states() == ["running"], "it has begun")

    first.kill()
    served("examples.unmodified")

    [task] = ended(data, 1)
    assert (task.state, task.result, task.interruptions) == ("succeeded", "2", 1)


def test_artifacts(served, data, tmp_path):
    """A file that one task made is taken by the next, and both are told of in their documents."""
    server = served("examples.artifacts")
    _, answer = send(server, "/texts", ("file", "a.txt", "two words two"))
    ended(data, 1)
    [given, made] = server.request("GET", answer["status"])["files"]
    assert (given["role"], made["role"], made["name"]) == ("input", "output", "words.csv")

    answer = server.post(f"/archives/{made['id']}")
    ended(data, 2)

    document = server.request("GET", answer["status"])
    assert [(file["name"], file["role"]) for file in document["files"]] == [
        ("words.csv", "input"),
        ("words.zip", "output"),
    ]
    assert document["result"]["id"] == document["files"][1]["id"]
    shown = command(tmp_path, "tasks", "show", document["id"], "--data", "data").stdout
    assert "output      words.zip" in shown
    with data.store() as store:
        content = store.file(document["result"]["id"]).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("words.csv") == b"two,2\r\nwords,1\r\n"


def test_a_task_from_outside_of_a_request(tmp_path):
    """A script is enough."""
    script = [sys.executable, "-m", "examples.outside"]
    environ = environment() | {"AFTERWARDS_DATA": str(tmp_path / "data")}

    done = subprocess.run(script, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=True)

    assert "its result is 6" in done.stdout


def test_the_demonstration_loses_nothing():
    """What `make demo` shows; its status is 1 if anything was lost or nothing was left to be saved."""
    script = [sys.executable, "-m", "examples.demo"]

    done = subprocess.run(script, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 accepted" in done.stdout
    assert "0 lost." in done.stdout
    assert len(done.stdout.splitlines()) <= 40
