"""What becomes of tasks once their answer has left: order, errors, handles, threads, and what could not be stored."""

import gc
import json
import logging
import socket
import threading
from typing import Any

import anyio.from_thread
import fastapi
import httpx
import pytest
from fastapi import Response
from starlette.background import BackgroundTask

from afterwards import BackgroundTasks, Handle
from afterwards.errors import TaskFailed, UnknownTask
from support import work
from support.server import serving
from support.site import Site, until


def test_tasks_of_one_request_run_in_the_order_they_were_added(site: Site):
    """One after another, `def` and `async def` mixed, as FastAPI does it."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        for number in range(6):
            background_tasks.add_task((work.note, work.note_async)[number % 2], number)

    with site.client() as client:
        client.post("/")

    assert work.journal == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("failing", [work.fail, work.fail_async])
def test_a_task_that_fails_does_not_take_the_next_one_along(site: Site, failing: Any):
    """FastAPI skips the rest without a word. Here each has its own fate, and the failure is on record."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(failing, "first")
        background_tasks.add_task(work.note, "second")

    with site.client() as client:
        assert client.post("/").status_code == 200

    first, second = site.rows()
    assert (first.state, second.state) == ("failed", "succeeded")
    error = json.loads(first.error or "")
    assert (error["type"], error["message"]) == ("RuntimeError", "no luck with first")
    assert "work.py" in error["traceback"]
    assert work.journal == ["first", "second"]


def test_a_task_can_say_that_the_rest_depends_on_it(new_site: Any):
    """`on_error="stop"`: what waits for a task that failed is cancelled, visibly."""
    site = new_site("a")

    @site.app.post("/")
    async def endpoint(background_tasks: BackgroundTasks):
        background_tasks.options(on_error="stop").add_task(work.fail, "first")
        background_tasks.add_task(work.note, "second")
        background_tasks.add_task(work.note, "third")

    with site.client() as client:
        client.post("/")

    assert site.states() == ["failed", "cancelled", "cancelled"]
    assert work.journal == ["first"]


def test_stopping_the_rest_takes_a_failure(new_site: Any):
    """After a success everything goes on."""
    site = new_site("a")

    @site.app.post("/")
    async def endpoint(background_tasks: BackgroundTasks):
        background_tasks.options(on_error="stop").add_task(work.note, "first")
        background_tasks.add_task(work.note, "second")

    with site.client() as client:
        client.post("/")

    assert work.journal == ["first", "second"]


def test_tasks_of_one_request_may_run_at_the_same_time(new_site: Any):
    """Each waits until the other has come: one after another they never would."""
    site = new_site("a")

    @site.app.post("/")
    async def endpoint(background_tasks: BackgroundTasks):
        background_tasks.add_task(work.meet)
        background_tasks.options(parallel=True).add_task(work.meet)

    with site.client() as client:
        client.post("/")

    assert work.journal == ["met", "met"]


async def test_the_handle_tells_id_url_state_and_result(new_site: Any):
    """What add_task gives back; FastAPI's gives back nothing, so nobody relies on that."""
    site = new_site("a")
    handles: list[Handle] = []

    @site.app.post("/")
    async def endpoint(background_tasks: BackgroundTasks):
        handles.append(background_tasks.add_task(work.note, {"a": (1, 2)}))
        handles.append(background_tasks.add_task(work.fail, "second"))
        with pytest.raises(UnknownTask):  # not stored yet
            await handles[0].state()
        return {"id": handles[0].id, "url": handles[0].url}

    with serving(site) as port:
        import httpx

        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            answer = (await client.post("/")).json()
        result = await handles[0].result(timeout=work.DEADLINE)
        with pytest.raises(TaskFailed, match="no luck with second"):
            await handles[1].result(timeout=work.DEADLINE)
        states = [await handle.state() for handle in handles]

    first, second = site.rows()
    assert answer == {"id": first.id, "url": f"/afterwards/tasks/{first.id}"}
    assert [handle.id for handle in handles] == [first.id, second.id]
    assert result == {"a": (1, 2)}
    assert states == ["succeeded", "failed"]
    assert all(handle.durable for handle in handles)


def test_every_keyword_reaches_the_task(site: Site):
    """Also `func`, which FastAPI's own add_task takes for itself."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.takes_func, func="f", self=2, options="o", args=[1], kwargs={"k": 1})

    with site.client() as client:
        assert client.post("/").status_code == 200

    assert work.journal == [("f", 2, "o", [1], {"k": 1})]


def test_a_task_does_not_see_the_requests_context(site: Site):
    """It would not be there after a restart; a task that needs something of it takes it as an argument."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        work.colour.set("of the request")
        background_tasks.add_task(work.note_colour)
        background_tasks.add_task(work.note_colour_async)

    with site.client() as client:
        client.post("/")

    assert work.journal == ["none", "none"]


def test_a_task_that_ends_the_interpreter_ends_only_itself(site: Site):
    """SystemExit in a library is an outcome like any other."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.leave)
        background_tasks.add_task(work.note, "x")

    with site.client() as client:
        assert client.post("/").status_code == 200

    assert site.states() == ["failed", "succeeded"]


def test_tasks_that_occupy_every_thread_do_not_hold_up_the_endpoints(site: Site):
    """45 `def` tasks wait: with FastAPI's shared threads a `def` endpoint would be the 41st in the queue."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.hold)

    @site.app.get("/def")
    def on_a_thread():
        return "here"

    import httpx

    with serving(site) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=work.DEADLINE) as client:
        for _ in range(45):
            client.post("/")
        for _ in range(40):
            assert work.held.acquire(timeout=work.DEADLINE)
        assert client.get("/def").json() == "here"
        assert work.journal == []
        work.gate.set()
        site.settled(45)

    assert work.journal == ["held"] * 45


def test_a_clients_connection_survives_200_failing_tasks(site: Site):
    """An exception that reaches uvicorn after the answer makes it close the connection: every third request failed."""
    Tasks = site.Tasks
    request = b"POST / HTTP/1.1\r\nHost: site\r\nContent-Length: 0\r\n\r\n"

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.fail)
        return Response(b"ok")

    with serving(site) as port, socket.create_connection(("127.0.0.1", port), timeout=work.DEADLINE) as connection:
        answers = connection.makefile("rb")
        for _ in range(200):
            connection.sendall(request)
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = list(iter(answers.readline, b"\r\n"))
            assert not any(header.lower().startswith(b"connection: close") for header in headers)
            assert answers.read(2) == b"ok"
        site.settled(200)

    assert set(site.states()) == {"failed"}
    assert len(work.journal) == 200


def test_what_cannot_be_stored_runs_as_ever_and_says_so(new_site: Any, caplog: pytest.LogCaptureFixture):
    """A program that never heard of us keeps working: one warning for each function, not for each call."""
    site = new_site("b")
    printer = work.Printer("laser")
    handles: list[Any] = []

    @site.app.post("/{page}")
    async def endpoint(page: int, background_tasks: fastapi.BackgroundTasks):
        handles.append(background_tasks.add_task(printer.note, page))
        background_tasks.add_task(work.note, page)

    with caplog.at_level(logging.WARNING, "afterwards"), site.client() as client:
        for page in (1, 2):
            assert client.post(f"/{page}").status_code == 200

    assert sorted(work.journal, key=str) == sorted([("laser", 1), ("laser", 2), 1, 2], key=str)
    warnings = [line for line in caplog.messages if "runs without being saved" in line]
    assert len(warnings) == 1
    assert "Printer.note" in warnings[0]
    assert [handle.durable for handle in handles] == [False, False]
    assert len(site.rows()) == 2


def test_an_unstored_task_that_fails_reaches_no_server_either(new_site: Any, caplog: pytest.LogCaptureFixture):
    """It is logged, and what comes after it runs."""
    site = new_site("b")
    printer = work.Printer("laser")

    @site.app.post("/")
    async def endpoint(background_tasks: fastapi.BackgroundTasks):
        background_tasks.add_task(printer.fail)
        background_tasks.add_task(printer.note, "after")

    with site.client() as client:
        assert client.post("/").status_code == 200

    assert work.journal == [("laser", "after")]
    assert "was not saved and is not run again" in caplog.text
    assert "out of paper" in caplog.text


def test_strict_refuses_there_too(new_site: Any):
    """For those who would rather hear it in the request."""
    site = new_site("b", strict=True)
    printer = work.Printer("laser")

    @site.app.post("/")
    async def endpoint(background_tasks: fastapi.BackgroundTasks):
        background_tasks.add_task(printer.note, "x")

    @site.app.post("/own")
    async def own():
        return Response(background=BackgroundTask(printer.note, "x"))

    with site.client(raise_server_exceptions=False) as client:
        assert client.post("/").status_code == 500
        assert client.post("/own").status_code == 500

    assert work.journal == []


@pytest.mark.parametrize("Tasks", [BackgroundTasks])
def test_an_object_made_by_hand_and_forgotten_says_so(Tasks: Any, caplog: pytest.LogCaptureFixture):
    """`BackgroundTasks()` inside an endpoint answers 200 and runs nothing."""
    forgotten = Tasks()
    forgotten.add_task(work.note, "never")
    del forgotten
    gc.collect()

    assert "made by hand was dropped" in caplog.text
    assert "note" in caplog.text
    assert work.journal == []


def test_an_object_made_by_hand_and_attached_is_stored(site: Site):
    """Where FastAPI's would run, ours is durable as well."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint():
        tasks = Tasks()
        tasks.add_task(work.note, "x")
        return Response(background=tasks)

    with site.client() as client:
        client.post("/")

    assert site.at_start == [[("note", '[["x"],{}]')]]
    assert work.journal == ["x"]


def test_requests_do_not_wait_for_each_others_tasks(site: Site):
    """There is no order across requests."""
    Tasks = site.Tasks

    @site.app.post("/{number}")
    async def endpoint(number: int, background_tasks: Tasks):
        background_tasks.add_task(work.hold if number == 1 else work.note, number)

    import httpx

    with serving(site) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=work.DEADLINE) as client:
        client.post("/1")
        client.post("/2")
        until(lambda: work.journal == [2])
        work.gate.set()
        site.settled(2)

    assert work.journal == [2, 1]


def test_an_endpoint_may_return_the_handle(site: Site):
    """The shortest honest answer: which task it is and where to follow it."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        return background_tasks.add_task(work.note, "x")

    with site.client() as client:
        answer = client.post("/").json()

    assert answer["url"] == f"/afterwards/tasks/{answer['id']}"


def test_unsaved_tasks_run_on_the_threads_that_fastapi_runs_them_on(new_site: Any):
    """As many at once, and with the way back to the event loop that anyio gives them there."""
    site = new_site("b")
    together = threading.Barrier(12, timeout=work.DEADLINE)
    came_back: list[int] = []

    async def note(number: int) -> None:
        came_back.append(number)

    def meet(number: int) -> None:  # a function inside another: it cannot be stored
        together.wait()
        anyio.from_thread.run(note, number)

    @site.app.post("/{number}")
    async def endpoint(number: int, background_tasks: fastapi.BackgroundTasks):
        background_tasks.add_task(meet, number)

    with serving(site) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for number in range(12):
            assert client.post(f"/{number}").status_code == 200
        site.wait_for_requests(12)

    assert sorted(came_back) == list(range(12))
    assert site.rows() == []


def test_very_many_tasks_of_a_request_do_not_make_an_answer_that_clients_refuse(site: Site):
    """`http.client` gives up at a hundred headers: the task would be accepted and the client would send it again."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        for number in range(150):
            background_tasks.add_task(work.note, number)

    with site.client() as client:
        client.post("/")

    assert len([name for name, _ in site.headers[0] if name == b"link"]) == 16
    assert work.journal == list(range(150))
