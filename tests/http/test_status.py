"""The status routes: one task by its id, its result, and what is said where there is none."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from afterwards import Afterwards, BackgroundTasks
from afterwards._domain.ids import new_id
from support import work
from support.data import until
from support.server import serving
from support.site import Site
from support.work import DEADLINE

UNKNOWN = new_id()


@pytest.fixture
def site(new_site: Any) -> Site:
    site: Site = new_site("a")
    queueing(site.app)
    return site


def queueing(app: FastAPI) -> None:
    """Add endpoints that queue one task each and answer with its id."""

    def endpoint(function: Any) -> Any:
        async def queue(background_tasks: BackgroundTasks) -> str:
            return background_tasks.add_task(function, "x").id

        return queue

    for function in (work.note, work.fail, work.hold):
        app.post(f"/{function.__name__}")(endpoint(function))


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem that an answer is, with what holds for every one of them checked."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    found: dict[str, Any] = answer.json()
    assert found["type"] == f"urn:afterwards:problem:{found['code']}"
    assert found["status"] == answer.status_code
    assert found["title"]
    assert found["detail"]
    assert found["instance"] == answer.request.url.path
    return found


def test_the_link_of_an_answer_leads_to_the_document_and_on_to_the_result(site: Site):
    """A client needs to know nothing but what it was answered."""
    with site.client() as client:
        queued = client.post("/note")
        document = client.get(queued.links["status"]["url"])
        result = client.get(document.json()["links"]["result"])

    assert document.json()["id"] == queued.json()
    assert document.json()["state"] == "succeeded"
    assert document.json()["result"] == "x"
    assert document.json()["durable"] is True
    assert [one["state"] for one in document.json()["attempts"]] == ["succeeded"]
    assert document.headers["x-content-type-options"] == "nosniff"
    assert document.headers["cache-control"] == "private, no-cache"
    assert "retry-after" not in document.headers
    assert result.status_code == 200
    assert result.json() == "x"


def test_a_document_that_has_not_changed_is_not_sent_again(site: Site):
    """Polling costs next to nothing, and a weak comparison is enough for it."""
    with site.client() as client:
        path = f"/afterwards/tasks/{client.post('/note').json()}"
        tag = client.get(path).headers["etag"]
        same = [client.get(path, headers={"If-None-Match": one}) for one in (tag, f'"x", {tag}', f"W/{tag}", "*")]
        other = client.get(path, headers={"If-None-Match": '"x"'})

    assert tag.startswith('"')
    assert [one.status_code for one in same] == [304] * 4
    assert {one.headers["etag"] for one in same} == {tag}
    assert {one.content for one in same} == {b""}
    assert other.status_code == 200


@pytest.mark.parametrize("id", [UNKNOWN, "x", UNKNOWN.upper(), "%00", "x" * 5_000])
@pytest.mark.parametrize("rest", ["", "/events", "/result"])
def test_an_id_that_nobody_was_given_is_404_everywhere(site: Site, id: str, rest: str):
    """Whatever the shape of it, and without repeating all of it."""
    with site.client() as client:
        found = problem(client.get(f"/afterwards/tasks/{id}{rest}"))

    assert (found["status"], found["code"]) == (404, "unknown_task")
    assert len(found["detail"]) < 500


def test_a_failed_task_has_no_result_but_a_reason(site: Site):
    """409 with the error, and nothing of where in the program it came from."""
    with site.client() as client:
        id = client.post("/fail").json()
        document = client.get(f"/afterwards/tasks/{id}").json()
        found = problem(client.get(f"/afterwards/tasks/{id}/result"))

    assert document["error"] == {"type": "RuntimeError", "message": "no luck with x"}
    assert (found["status"], found["code"], found["state"]) == (409, "task_failed", "failed")
    assert found["error"] == {"type": "RuntimeError", "message": "no luck with x"}
    assert "Traceback" not in json.dumps([document, found])
    assert __file__ not in json.dumps([document, found])


def test_an_open_task_asks_for_patience(site: Site):
    """200 with Retry-After for its document; 409 for its result."""
    with serving(site) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as client:
        path = f"/afterwards/tasks/{client.post('/hold').json()}"
        assert work.held.acquire(timeout=DEADLINE)
        document = client.get(path)
        found = problem(client.get(f"{path}/result"))
        work.gate.set()
        site.settled(1)

    assert document.json()["state"] == "running"
    assert document.headers["retry-after"] == "1"
    assert (found["status"], found["code"], found["state"]) == (409, "task_open", "running")


def test_a_long_poll_is_answered_when_the_task_ends(site: Site):
    """And not before: it is sent while the task runs, and shows it ended."""
    with (
        serving(site) as port,
        ThreadPoolExecutor(1) as pool,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as client,
    ):
        path = f"/afterwards/tasks/{client.post('/hold').json()}"
        assert work.held.acquire(timeout=DEADLINE)
        waiting = pool.submit(client.get, path, headers={"Prefer": 'respond-async, wait="30"; x=y'})
        until(lambda: bool(site.afterwards._system.engine.hub._listeners))
        assert not waiting.done()
        work.gate.set()
        answer = waiting.result(DEADLINE)

    assert answer.json()["state"] == "succeeded"
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.headers["vary"] == "Prefer"
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize(
    ("prefer", "applied"), [("wait=999", "wait=60"), ("wait=-1", None), ("wait=soon", None), ("handling=strict", None)]
)
def test_only_a_wait_that_means_something_is_applied(site: Site, prefer: str, applied: str | None):
    """RFC 7240: a preference that is not understood is ignored. Longer than proxies allow is cut."""
    with site.client() as client:
        path = f"/afterwards/tasks/{client.post('/note').json()}"
        answer = client.get(path, headers={"Prefer": prefer})

    assert answer.status_code == 200
    assert answer.headers.get("preference-applied") == applied


def test_a_wait_that_is_over_shows_the_task_as_it_is(site: Site):
    """No error: the client asks again."""
    with serving(site) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as client:
        path = f"/afterwards/tasks/{client.post('/hold').json()}"
        answer = client.get(path, headers={"Prefer": "wait=0"})
        work.gate.set()
        site.settled(1)

    assert answer.status_code == 200
    assert answer.json()["state"] in ("queued", "running")
    assert answer.headers["preference-applied"] == "wait=0"


def test_a_long_poll_whose_client_has_left_waits_no_longer(site: Site):
    """Clients give up and come back; what they leave behind must not pile up."""
    hub = None
    with serving(site) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as client:
        path = f"/afterwards/tasks/{client.post('/hold').json()}"
        hub = site.afterwards._system.engine.hub
        with pytest.raises(httpx.ReadTimeout):
            client.get(path, headers={"Prefer": "wait=60"}, timeout=httpx.Timeout(DEADLINE, read=0.5))
        until(lambda: not hub._listeners)
        work.gate.set()
        site.settled(1)


def test_an_unsaved_task_is_shown_as_not_durable(new_site: Any):
    """What could not be stored is visible all the same, and says that it is lost with the process."""
    site: Site = new_site("b")
    printer = work.Printer("p")
    ids: list[str] = []

    @site.app.post("/")
    async def endpoint(background_tasks: site.Tasks) -> None:  # type: ignore[name-defined]
        ids.append(background_tasks.add_task(printer.note, "x").id)

    with site.client() as client:
        client.post("/")
        document = client.get(f"/afterwards/tasks/{ids[0]}").json()
        found = problem(client.get(f"/afterwards/tasks/{ids[0]}/result"))

    assert document["durable"] is False
    assert document["state"] == "succeeded"
    assert (found["status"], found["code"]) == (409, "task_not_stored")


def test_the_applications_own_error_answers_do_not_replace_problems(site: Site):
    """One format for our errors, whatever the application does with its own."""

    @site.app.exception_handler(Exception)
    @site.app.exception_handler(HTTPException)
    async def own(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"own": True}, 418)

    with site.client() as client:
        assert problem(client.get("/afterwards/tasks/x"))["status"] == 404
        assert problem(client.get(f"/afterwards/tasks/{UNKNOWN}?traceback=perhaps"))["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/uploads/x", "PUT", "DELETE, GET, HEAD, OPTIONS, PATCH, POST"),
        ("/uploads", "GET", "OPTIONS, POST"),
        ("/files/x", "DELETE", "GET, HEAD"),
        ("/files/x?expires=1&signature=x", "DELETE", "GET, HEAD"),
        ("/tasks/x/result", "PATCH", "GET, HEAD"),
        ("/tasks/x?traceback=1", "POST", "GET"),
        ("/health", "DELETE", "GET"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405_with_all_that_it_takes(site: Site, path, method, allowed):
    with site.client() as client:
        answer = client.request(method, f"/afterwards{path}")

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "method_not_allowed"
    assert allowed in answer.json()["detail"]


def test_health_is_ready_and_says_nothing_more(site: Site):
    """A probe without rights learns no names and no folders."""
    with site.client() as client:
        answer = client.get("/afterwards/health")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "reasons": [], "warnings": []}
    assert answer.headers["cache-control"] == "no-store"


def test_health_is_503_with_the_reason_when_the_program_stops(site: Site):
    """A load balancer must send nothing more while the last tasks are finished."""
    stopping = threading.Thread(target=site.afterwards._system.stop)
    with serving(site, lifespan="off") as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        client.post("/hold")
        assert work.held.acquire(timeout=DEADLINE)
        engine = site.afterwards._system.engine
        engine.stopping = True  # as the stop sets it first of all
        answer = client.get("/afterwards/health")
        engine.stopping = False
        work.gate.set()
        site.settled(1)
        stopping.start()
        stopping.join(DEADLINE)

    assert answer.status_code == 503
    assert [one["code"] for one in answer.json()["reasons"]] == ["stopping"]
    assert answer.headers["retry-after"] == "1"


def test_a_data_directory_that_cannot_be_used_is_a_503_without_its_path(tmp_path: Path):
    """The client hears that it can come back; where the folder lies is for the log."""
    folder = tmp_path / "data"
    folder.write_text("a file")
    app = FastAPI()
    Afterwards(app, data=folder)

    found = problem(TestClient(app).get("/afterwards/health"))

    assert (found["status"], found["code"]) == (503, "store_refused")
    assert str(tmp_path) not in json.dumps(found)


def test_links_hold_below_a_root_path_and_inside_another_application(tmp_path: Path):
    """What a client is told is what it can ask, wherever the application hangs."""
    inner = FastAPI()
    afterwards = Afterwards(inner, data=tmp_path / "data")
    queueing(inner)
    outer = FastAPI()
    outer.mount("/inner", inner)

    try:
        client = TestClient(outer, root_path="/site")
        queued = client.post("/site/inner/note")
        status = queued.links["status"]["url"]
        document = client.get(status)
    finally:
        afterwards._system.stop()

    assert status == f"/site/inner/afterwards/tasks/{queued.json()}"
    assert document.json()["links"]["self"] == status


def test_links_of_a_mounted_application_lead_to_the_one_with_the_routes(tmp_path: Path):
    """Tasks queued in a part are seen where the whole shows its tasks."""
    outer, inner = FastAPI(), FastAPI()
    queueing(inner)
    outer.mount("/inner", inner)
    afterwards = Afterwards(outer, data=tmp_path / "data")
    try:
        with TestClient(outer) as client:
            status = client.post("/inner/note").links["status"]["url"]
            document = client.get(status)
    finally:
        afterwards._system.stop()

    assert status.startswith("/afterwards/tasks/")
    assert document.json()["links"]["self"] == status


def test_the_routes_are_in_the_openapi_document_unless_it_is_switched_off(tmp_path: Path):
    """Described like the rest, under a tag of their own, without adding to or renaming the application's schemas."""
    app, quiet = FastAPI(), FastAPI()
    Afterwards(app, data=tmp_path / "a", prefix="/jobs/")
    Afterwards(quiet, data=tmp_path / "b", docs=False)

    found = app.openapi()

    assert {path: sorted(calls) for path, calls in found["paths"].items()} == {
        "/jobs/tasks/{id}": ["get"],
        "/jobs/tasks/{id}/events": ["get"],
        "/jobs/tasks/{id}/result": ["get"],
        "/jobs/files/{id}": ["get"],
        "/jobs/tasks/{id}/retry": ["post"],
        "/jobs/tasks": ["get"],
        "/jobs/health": ["get"],
        "/jobs/uploads": ["options", "post"],
        "/jobs/uploads/{id}": ["delete", "get", "head", "options", "patch", "post"],
    }
    assert {tag for calls in found["paths"].values() for call in calls.values() for tag in call["tags"]} == {
        "afterwards"
    }
    assert "schemas" not in found.get("components", {})
    assert quiet.openapi()["paths"] == {}


def test_a_program_that_makes_no_afterwards_has_no_routes(site: Site):
    """Importing the class adds nothing to anybody's application."""
    app = FastAPI()
    router = APIRouter()
    queueing(app)
    app.include_router(router)

    assert [path for path in app.openapi()["paths"] if "afterwards" in path] == []
