"""Whatever an endpoint answers with and wherever its tasks come from: stored when the answer leaves, run after it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fastapi
import httpx
import pytest
from fastapi import Depends, Response, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as StarletteBackgroundTasks

from afterwards import BackgroundTasks
from support import work
from support.site import Site

NOTE = ("note", '[["x"],{}]')
ADDED = ("note", '[["dependency"],{}]')
OWN = ("note", '[["own"],{}]')


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_the_task_is_stored_when_the_answer_leaves_and_runs_after_it(site: Site, kind: str):
    """The promise itself: answered means durable, and nothing ran before the answer."""
    Tasks = site.Tasks

    async def in_loop(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        return {"ok": True}

    def in_thread(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        return {"ok": True}

    site.app.post("/")(in_loop if kind == "async" else in_thread)
    with site.client() as client:
        answer = client.post("/")
        assert work.journal == ["x"]  # as ever: when a TestClient returns, the task has run

    assert answer.json() == {"ok": True}
    assert site.at_start == [[NOTE]]
    assert site.done_at_start == [[]]
    assert site.states() == ["succeeded"]


def test_without_a_start_up_the_first_request_starts_the_engine(site: Site):
    """A TestClient outside of `with` runs no lifespan, and each request on an event loop of its own."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note_async, "x")

    client = site.client()
    client.post("/")
    assert work.journal == ["x"]
    client.post("/")

    assert work.journal == ["x", "x"]
    assert site.states() == ["succeeded", "succeeded"]


async def test_an_asgi_transport_has_run_the_task_on_return(site: Site):
    """The other client people test with."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note_async, "x")
        background_tasks.add_task(work.note, "y")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://site") as client:
        await client.post("/")

    assert work.journal == ["x", "y"]
    assert len(site.at_start[0]) == 2


RESPONSES: dict[str, Any] = {
    "Response": lambda: Response(b"x"),
    "JSONResponse": lambda: JSONResponse({"x": 1}, 202),
    "PlainTextResponse": lambda: PlainTextResponse("x"),
    "HTMLResponse": lambda: HTMLResponse("x"),
    "RedirectResponse": lambda: RedirectResponse("/elsewhere", 303),
    "FileResponse": lambda: FileResponse(Path(__file__)),
    "an error that is returned": lambda: JSONResponse({"detail": "no"}, 500),
}


@pytest.mark.parametrize("kind", RESPONSES)
def test_a_returned_response_keeps_the_tasks(site: Site, kind: str):
    """A returned 500 is an answer like any other: only raising drops tasks. That is FastAPI's rule too."""
    Tasks = site.Tasks

    @site.app.get("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        return RESPONSES[kind]()

    with site.client(follow_redirects=False) as client:
        answer = client.get("/")

    assert site.at_start == [[NOTE]]
    assert work.journal == ["x"]
    link = answer.headers["link"]
    assert link == f'</afterwards/tasks/{site.rows()[0].id}>; rel="status"'
    if kind == "FileResponse":
        assert int(answer.headers["content-length"]) == Path(__file__).stat().st_size == len(answer.content)


@pytest.mark.parametrize("several", [False, True])
def test_a_response_with_tasks_of_its_own_loses_neither(site: Site, several: bool):
    """FastAPI drops the injected ones without a word; here both are stored before the answer."""
    Tasks = site.Tasks
    own = BackgroundTask(work.note, "own")

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        return Response(background=StarletteBackgroundTasks([own, own]) if several else own)

    with site.client() as client:
        client.post("/")

    assert site.at_start == [[NOTE, OWN, OWN] if several else [NOTE, OWN]]
    assert work.journal == (["x", "own", "own"] if several else ["x", "own"])


def test_a_response_whose_own_task_cannot_be_stored_still_runs_it(site: Site):
    """It is Starlette's and never asked to be stored: it runs as it always did."""
    Tasks = site.Tasks
    printer = work.Printer("laser")

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        return Response(background=BackgroundTask(printer.note, "page"))

    with site.client() as client:
        assert client.post("/").status_code == 200

    assert site.at_start == [[NOTE]]
    assert sorted(work.journal, key=str) == sorted([("laser", "page"), "x"], key=str)


def test_the_injected_object_may_be_put_on_the_response_by_hand(site: Site):
    """People write this, although FastAPI does it for them."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        return Response(background=background_tasks)

    with site.client() as client:
        client.post("/")

    assert site.at_start == [[NOTE]]
    assert work.journal == ["x"]


def test_tasks_put_on_the_list_itself_are_taken_too(site: Site):
    """`.tasks` is public in Starlette."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        background_tasks.tasks.append(BackgroundTask(work.note, "own"))

    with site.client() as client:
        client.post("/")

    assert site.at_start == [[NOTE, OWN]]
    assert work.journal == ["x", "own"]


def test_one_response_object_returned_by_many_requests_carries_each_ones_tasks(site: Site):
    """FastAPI runs the first request's tasks again and loses the second's. Nor may one client see another's link."""
    Tasks = site.Tasks
    shared = JSONResponse({"ok": True}, headers={"x-mine": "1"})

    @site.app.post("/{number}")
    async def endpoint(number: int, background_tasks: Tasks):
        if number != 3:
            background_tasks.add_task(work.note, number)
        return shared

    with site.client() as client:
        answers = [client.post(f"/{number}") for number in (1, 2, 3, 4)]

    assert work.journal == [1, 2, 4]
    ids = {row.arguments: row.id for row in site.rows()}
    links = [answer.headers.get_list("link") for answer in answers]
    assert [len(link) for link in links] == [1, 1, 0, 1]
    assert all(ids[f"[[{n}],{{}}]"] in link[0] for n, link in zip((1, 2, 4), [x for x in links if x], strict=True))
    assert {answer.headers["x-mine"] for answer in answers} == {"1"}
    assert {answer.headers["content-length"] for answer in answers} == {"11"}


def test_dependencies_add_to_the_same_request(site: Site):
    """In the order in which things were added."""
    Tasks = site.Tasks

    async def dependency(tasks: Tasks):
        tasks.add_task(work.note, "dependency")

    @site.app.post("/", dependencies=[Depends(dependency)])
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")

    with site.client() as client:
        client.post("/")

    assert site.at_start == [[ADDED, NOTE]]
    assert work.journal == ["dependency", "x"]


def test_a_dependency_alone_is_enough(site: Site):
    """The endpoint need not know."""
    Tasks = site.Tasks

    def dependency(tasks: Tasks):
        tasks.add_task(work.note, "dependency")

    @site.app.post("/")
    async def endpoint(needed: None = Depends(dependency)):
        return {}

    with site.client() as client:
        client.post("/")

    assert site.at_start == [[ADDED]]
    assert work.journal == ["dependency"]


@pytest.mark.parametrize("scope", ["function", "request"])
def test_a_dependency_with_yield_adds_before_and_after(site: Site, scope: Any):
    """After a request-scoped yield the answer has gone, and FastAPI loses such a task: here it is stored when added."""
    Tasks = site.Tasks

    async def dependency(tasks: Tasks) -> AsyncIterator[None]:
        tasks.add_task(work.note, "before")
        yield
        tasks.add_task(work.note, "after")

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks, needed: None = Depends(dependency, scope=scope)):
        background_tasks.add_task(work.note, "x")

    with site.client() as client:
        client.post("/")
        site.settled(3)

    stored = [("note", '[["before"],{}]'), NOTE, ("note", '[["after"],{}]')]
    assert site.at_start == [stored if scope == "function" else stored[:2]]
    assert site.names() == stored
    assert work.journal == ["before", "x", "after"]


def test_a_sync_dependency_with_yield_adds_after_the_answer(site: Site):
    """It runs on a thread of the framework's, outside of the event loop."""
    Tasks = site.Tasks

    def dependency(tasks: Tasks):
        yield
        tasks.add_task(work.note_async, "after")

    @site.app.post("/")
    def endpoint(needed: None = Depends(dependency)):
        return {}

    with site.client() as client:
        client.post("/")
        site.settled(1)

    assert work.journal == ["after"]


def test_fastapis_own_class_in_the_same_request_is_stored_too(new_site: Any):
    """A library's dependency asks for FastAPI's, the endpoint for ours: they share one object, as always."""
    site = new_site("a")
    seen = []

    def library(tasks: fastapi.BackgroundTasks):
        tasks.add_task(work.note, "dependency")
        seen.append(tasks)

    def older_library(tasks: StarletteBackgroundTasks):
        seen.append(tasks)

    @site.app.post("/", dependencies=[Depends(library), Depends(older_library)])
    async def endpoint(background_tasks: BackgroundTasks):
        background_tasks.add_task(work.note, "x")
        seen.append(background_tasks)

    with site.client() as client:
        client.post("/")

    assert site.at_start == [[ADDED, NOTE]]
    assert seen[0] is seen[1] is seen[2]
    assert isinstance(seen[0], fastapi.BackgroundTasks)


@pytest.mark.parametrize("size", [10, 300_000])
def test_an_upload_is_stored_with_its_task(site: Site, size: int):
    """Small ones travel in their row, large ones as a file: both are there when the answer leaves."""
    Tasks = site.Tasks
    files_at_start = []

    class Looking(Response):
        async def __call__(self, *asgi: Any) -> None:
            row = site.rows()[0].files[0]
            stored = site.reads.file(row.id)
            files_at_start.append((row.name, row.size, stored.content or site.files()[0].read_bytes()))
            await super().__call__(*asgi)

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: Tasks):
        background_tasks.add_task(work.read_upload, file)
        return Looking()

    with site.client() as client:
        client.post("/", files={"file": ("ä.txt", b"x" * size)})

    assert files_at_start == [("ä.txt", size, b"x" * size)]
    assert work.journal == [("ä.txt", b"x" * size)]


def test_each_task_of_a_request_has_its_link(site: Site):
    """A client that queued two can follow both, below the path the application is served from."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")
        background_tasks.add_task(work.note, "dependency")

    with site.client(root_path="/behind") as client:
        answer = client.post("/")

    wanted = [f'</behind/afterwards/tasks/{row.id}>; rel="status"' for row in site.rows()]
    assert answer.headers.get_list("link") == wanted


def test_a_request_that_adds_nothing_stores_nothing(site: Site):
    """No row, no header, and the answer as it was."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        return {"ok": True}

    with site.client() as client:
        answer = client.post("/")

    assert answer.json() == {"ok": True}
    assert "link" not in answer.headers
    assert site.at_start == [[]]


def test_options_in_the_app_say_what_its_answer_says(site: Site):
    """A delayed task is stored before the answer and not waited for by a TestClient."""

    @site.app.post("/")
    async def endpoint(background_tasks: BackgroundTasks):
        return background_tasks.options(delay=3600, priority=7).add_task(work.note, "x").id

    with site.client() as client:
        id = client.post("/").json()

    (row,) = site.rows()
    assert (row.id, row.state, row.priority) == (id, "scheduled", 7)
    assert row.run_at - row.created_at == 3600 * 1_000_000
    assert work.journal == []
