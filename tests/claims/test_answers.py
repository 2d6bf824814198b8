"""What the tutorials say about answers, order and errors, tried out on their own programs."""

import ast
import inspect
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from afterwards import BackgroundTasks
from support import work
from support.data import until

SNIPPETS = Path(__file__).parent / "snippets"


def test_C09_an_object_made_inside_the_endpoint_is_warned_about(serve: Any, way: str):
    """The tutorial is right that it never runs; what it does not say is that nobody is told."""
    served = serve("pass_upload")

    assert served.upload("/handmade").status_code == 200
    warning = served.program.wait_for("made by hand was dropped")

    assert "process_file" in warning.string
    assert served.rows() == []


@pytest.mark.usefixtures("way")
def test_C17_the_answer_comes_before_the_task_ends(serve: Any):
    """The tutorial's table has it the other way round: here the task cannot end before the client has its answer."""
    served = serve("send_email")

    answer = served.client.post("/send-email", json={"to": "ada", "subject": "hello"})
    assert answer.status_code == 200
    assert not (served.folder / "sent").exists()
    (served.folder / "mail server is up").touch()
    served.settled(1)

    assert served.written("sent") == b"ada: hello\n"


@pytest.mark.usefixtures("way")
def test_C18_a_failure_is_on_record_and_can_be_asked_for(serve: Any):
    """The client has its 200; by the link in it, it can learn what came of it."""
    served = serve("create_file")

    answer = served.client.post("/several")
    served.settled(3)
    links = [link.split(">")[0].strip("< ") for link in answer.headers.get_list("link")]
    second = served.client.get(links[1]).json()

    assert answer.status_code == 200
    assert (second["state"], second["error"]["type"]) == ("failed", "ValueError")
    assert second["error"]["message"] == "second failed"
    assert "raise ValueError" in served.rows()[1].error  # with its traceback, for those who may see it


@pytest.mark.usefixtures("way")
def test_C19_C24_failing_tasks_do_not_touch_the_next_request_of_the_client(serve: Any):
    """200 requests on one connection, each with a task that fails: a third of them was reset before."""
    served = serve("create_file")

    connections = set()
    for _ in range(200):
        with served.client.stream("POST", "/several") as answer:
            assert answer.status_code == 200
            assert answer.read() == b'{"message":"ok"}'
            connections.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    served.settled(600)

    assert len(connections) == 1


@pytest.mark.usefixtures("way")
def test_C20_a_task_has_an_id_a_state_and_a_result(serve: Any):
    """Instead of completing silently."""
    served = serve("handed_on")

    answer = served.upload(content=b"x" * 1000)
    (row,) = served.settled(1)
    document = served.client.get(f"/afterwards/tasks/{row.id}").json()

    assert row.id in answer.headers["link"]
    assert (document["id"], document["state"], document["result"]) == (row.id, "succeeded", 1000)


def test_C22_without_add_task_nothing_is_saved(tmp_path: Path, serve: Any):
    """The tutorial's hint forgets to call the function; calling it inline does save before the answer."""
    text = (SNIPPETS / "name_and_bytes.py").read_text()
    line = next(line for line in text.splitlines() if "add_task" in line)
    removed = serve("name_and_bytes", way="launcher")
    (removed.folder / "removed.py").write_text(text.replace(line, "    pass"))
    (removed.folder / "inline.py").write_text(text.replace(line, "    save_file(file.filename, content)"))

    for name in ("removed", "inline"):
        removed.stop()
        removed._target = f"{name}:app"
        removed.start()
        assert removed.upload(name=f"{name}.txt").status_code == 200

    assert not (removed.folder / "uploaded_removed.txt").exists()
    assert removed.written("uploaded_inline.txt") == b"hello"
    assert removed.rows() == []


def test_C23_tasks_run_after_an_answer_after_a_stream_and_on_a_websocket(site: Any):
    """The tutorial knows of the first; on a WebSocket they were injected and never run."""
    Tasks = site.Tasks

    @site.app.get("/answer")
    async def answer(tasks: Tasks):
        tasks.add_task(work.note, "answer")

    @site.app.get("/stream")
    async def stream(tasks: Tasks):
        tasks.add_task(work.note, "stream")
        return StreamingResponse(iter([b"a", b"b"]))

    @site.app.websocket("/live")
    async def live(websocket: WebSocket, tasks: Tasks):
        await websocket.accept()
        tasks.add_task(work.note, "live")
        await websocket.close()

    with site.client() as client:
        client.get("/answer")
        client.get("/stream")
        with client.websocket_connect("/live"):
            pass
        site.settled(3)

    assert work.journal == ["answer", "stream", "live"]


@pytest.mark.usefixtures("way")
def test_C27_the_email_program_runs_unchanged(serve: Any):
    """And a missing key is still a 500 without a task."""
    served = serve("send_email")
    (served.folder / "mail server is up").touch()

    good = served.client.post("/send-email", json={"to": "ada", "subject": "hello"})
    bad = served.client.post("/send-email", json={"to": "ada"})
    served.settled(1)

    assert (good.status_code, good.json()) == (200, {"message": "Email is being sent"})
    assert bad.status_code == 500
    assert len(served.rows()) == 1


def test_C31_the_printed_program_is_a_syntax_error_and_every_example_here_is_not():
    """`bg: BackgroundTasks` after two defaults cannot be imported."""
    printed = "async def create(name: str = 'a', text: str = 'b', bg: BackgroundTasks): pass"

    with pytest.raises(SyntaxError, match="default"):
        ast.parse(printed)
    for snippet in SNIPPETS.glob("*.py"):
        ast.parse(snippet.read_text())


@pytest.mark.usefixtures("way")
def test_C31_C32_C34_every_repair_of_it_answers_at_once_and_makes_the_file(serve: Any):
    """First, keyword-only, `= None`, Annotated, by a dependency."""
    served = serve("create_file")
    repairs = ["first", "keyword", "none", "annotated", "dependency"]

    for repair in repairs:
        answer = served.client.post(f"/{repair}", params={"file_name": f"{repair}.txt", "content": "hi "})
        assert answer.json() == {"message": f"{repair}.txt is being created"}
    served.settled(len(repairs))

    assert {served.written(f"{repair}.txt") for repair in repairs} == {b"hi hi "}
    assert served.program.wait_for("created first.txt")


@pytest.mark.usefixtures("way")
def test_C33_a_clients_name_is_a_label_and_not_a_path(serve: Any):
    """The tutorial's own program still writes where its query parameter says. What is ours to store never does."""
    served = serve("create_file")
    upload = serve("handed_on")

    served.client.post("/first", params={"file_name": "../outside.txt"})
    served.settled(1)
    upload.upload(name="../outside too.txt", content=b"x" * 300_000)
    (row,) = upload.settled(1)

    assert (served.folder.parent / "outside.txt").exists()  # the program's doing: no library can tell
    assert row.files[0].name == "../outside too.txt"
    assert [path.name for path in upload.files()] == [row.files[0].id]
    assert not list(upload.folder.parent.rglob("outside too*"))


@pytest.mark.usefixtures("way")
def test_C35_C36_C37_C42_arguments_order_and_failures(serve: Any):
    """Positional and keyword arguments, `func` among them; in order; async too; a failure takes nobody along."""
    served = serve("create_file")

    assert served.client.post("/several").status_code == 200
    rows = served.settled(3)

    assert served.written("notes") == b"first\nthird func=f self=s\n"
    assert [row.state for row in rows] == ["succeeded", "failed", "succeeded"]


def test_C36_parallel_is_offered(new_site: Any):
    """Order is the default, not a must."""
    site = new_site("a")

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(work.meet)
        tasks.options(parallel=True).add_task(work.meet)

    with site.client() as client:
        client.post("/")

    assert work.journal == ["met", "met"]


def test_C37_chaining_is_a_choice(new_site: Any):
    """`on_error="stop"`: the rest is cancelled, and says so."""
    site = new_site("a")

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.options(on_error="stop").add_task(work.fail, "first")
        tasks.add_task(work.note, "second")

    with site.client() as client:
        client.post("/")

    assert site.states() == ["failed", "cancelled"]


def test_C39_a_failing_task_is_caught_recorded_and_logged_once(site: Any, caplog: pytest.LogCaptureFixture):
    """Neither ignored nor raised through the server: no handler is called, the TestClient does not raise."""
    Tasks = site.Tasks
    handled: list[Exception] = []

    @site.app.exception_handler(RuntimeError)
    @site.app.exception_handler(Exception)
    async def handler(request: Any, error: Exception) -> Response:
        handled.append(error)
        return Response(status_code=500)

    @site.app.post("/")
    async def endpoint(tasks: Tasks):
        tasks.add_task(work.fail, "x")

    with caplog.at_level(logging.ERROR), site.client() as client:
        assert client.post("/").status_code == 200

    assert handled == []
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in errors] == ["afterwards.engine"]
    assert "support.work:fail" in errors[0].message
    assert "no luck with x" in errors[0].message
    assert site.states() == ["failed"]


@pytest.mark.parametrize("kind", ["HTTPException", "exception", "response_model", "422"])
def test_C46_raised_means_dropped(site: Any, kind: str):
    """The same rule as FastAPI's."""
    Tasks = site.Tasks

    @site.app.post("/", response_model=int)
    async def endpoint(tasks: Tasks, number: int):
        tasks.add_task(work.note, "never")
        if kind == "HTTPException":
            raise HTTPException(409)
        if kind == "exception":
            raise RuntimeError
        return "not a number"

    with site.client(raise_server_exceptions=False) as client:
        status = client.post("/", params={"number": "x" if kind == "422" else 1}).status_code

    assert status == {"HTTPException": 409, "422": 422}.get(kind, 500)
    assert site.rows() == []


def test_C46_a_returned_error_is_an_answer(site: Any):
    """A Response with status 500 runs its tasks."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(tasks: Tasks):
        tasks.add_task(work.note, "x")
        return Response(status_code=500)

    with site.client() as client:
        client.post("/")

    assert work.journal == ["x"]


def test_C47_a_response_with_a_background_of_its_own_drops_nothing(site: Any):
    """FastAPI drops the injected tasks without a word."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(tasks: Tasks):
        tasks.add_task(work.note, "injected")
        return Response(background=BackgroundTask(work.note, "own"))

    with site.client() as client:
        client.post("/")

    assert work.journal == ["injected", "own"]
    assert site.states() == ["succeeded", "succeeded"]


def test_C35_add_task_keeps_its_own_names_to_itself():
    """`func` is positional-only, so that the task may have it."""
    parameters = inspect.signature(BackgroundTasks.add_task).parameters

    assert parameters["func"].kind is inspect.Parameter.POSITIONAL_ONLY


def test_C34_the_task_starts_in_the_same_process_after_the_answer(serve: Any):
    """By default nothing else has to be started."""
    served = serve("blocking", way="launcher")

    pid = served.client.post("/pid").json()["pid"]
    until(lambda: (served.folder / "pids").exists())
    served.settled(1)

    assert served.written("pids").split() == [str(pid).encode()] * 2
