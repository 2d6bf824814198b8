"""However a route is made and wherever it hangs, its tasks are stored; what is not ours stays as it was."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import fastapi
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount
from typing_extensions import TypeAliasType

from afterwards import BackgroundTasks
from afterwards._web.injection import Route
from support import work
from support.server import TESTS
from support.site import Site

NOTE = ("note", '[["x"],{}]')


def _adding(Tasks: Any) -> Callable[..., Any]:
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.note, "x")

    return endpoint


@pytest.mark.parametrize("prefix", ["", "/deep"])
def test_a_routers_routes(site: Site, prefix: str):
    """No route class to set anywhere."""
    inner, outer = APIRouter(), APIRouter(prefix="/outer")
    inner.post("/inner")(_adding(site.Tasks))
    outer.post("/own")(_adding(site.Tasks))
    outer.include_router(inner, prefix=prefix)
    site.app.include_router(outer, prefix="/v1")
    site.app.include_router(inner)

    with site.client() as client:
        for path in ("/v1/outer/own", f"/v1/outer{prefix}/inner", "/inner"):
            assert client.post(path).status_code == 200

    assert site.at_start == [[NOTE], [NOTE] * 2, [NOTE] * 3]
    assert work.journal == ["x"] * 3


def test_a_route_added_while_the_program_runs(site: Site):
    """Plugins do that."""
    with site.client() as client:
        site.app.add_api_route("/late", _adding(site.Tasks), methods=["POST"])
        assert client.post("/late").status_code == 200

    assert site.at_start == [[NOTE]]


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_mounted_applications_routes(site: Site, started: bool, depth: int):
    """Its start-up is never run by FastAPI, so it hangs on the one it is mounted in, also two floors down."""
    mounted = FastAPI()
    mounted.post("/")(_adding(site.Tasks))
    for _ in range(depth - 1):
        outer = FastAPI()
        outer.mount("/sub", mounted)
        mounted = outer
    site.app.mount("/sub", mounted)

    client = site.client()
    if started:
        with client:
            answer = client.post("/sub" * depth + "/")
    else:
        answer = client.post("/sub" * depth + "/")

    assert answer.status_code == 200
    assert site.at_start == [[NOTE]]
    assert work.journal == ["x"]
    assert answer.headers["link"] == f'</afterwards/tasks/{site.rows()[0].id}>; rel="status"'


def test_an_application_mounted_in_another_framework(new_site: Any):
    """The outer one knows nothing of us, and runs no start-up of ours."""
    site = new_site("a")
    site.app.post("/")(_adding(BackgroundTasks))
    outer = Starlette(routes=[Mount("/api", app=site)])

    answer = TestClient(outer).post("/api/")

    assert answer.status_code == 200
    assert site.at_start == [[NOTE]]
    assert answer.headers["link"].startswith("</api/afterwards/tasks/")


class Wrapping(APIRoute):
    """Somebody's own route class, as FastAPI's documentation shows it."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler = super().get_route_handler()

        async def wrapped(request: Request) -> Response:
            try:
                response = await handler(request)
            except ZeroDivisionError:
                return JSONResponse({"detail": "handled"}, 400)
            response.headers["x-wrapped"] = "yes"
            return response

        return wrapped


def test_somebodys_own_route_class(site: Site):
    """It works on the response before we do, and an error that it turns into an answer is still an error."""
    Tasks = site.Tasks
    router = APIRouter(route_class=Wrapping)
    router.post("/")(_adding(Tasks))

    @router.post("/broken")
    async def broken(background_tasks: Tasks):
        background_tasks.add_task(work.note, "never")
        return 1 / 0

    site.app.include_router(router)
    with site.client() as client:
        good, bad = client.post("/"), client.post("/broken")

    assert (good.headers["x-wrapped"], bad.status_code) == ("yes", 400)
    assert site.at_start == [[NOTE], [NOTE]]
    assert work.journal == ["x"]


class Replacing(APIRoute):
    """One that answers with something else than the endpoint did."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler = super().get_route_handler()

        async def wrapped(request: Request) -> Response:
            await handler(request)
            return JSONResponse({"replaced": True})

        return wrapped


def test_a_route_class_that_replaces_the_response_loses_no_task(site: Site):
    """The endpoint succeeded and the client hears a yes, whoever wrote it."""
    router = APIRouter(route_class=Replacing)
    router.post("/")(_adding(site.Tasks))
    site.app.include_router(router)

    with site.client() as client:
        assert client.post("/").json() == {"replaced": True}
        site.settled(1)

    assert site.at_start == [[NOTE]]
    assert work.journal == ["x"]


def test_middleware_in_front(site: Site):
    """Starlette's BaseHTTPMiddleware passes the answer on from another task, and once lost what came after it."""

    async def dispatch(request: Request, call_next: Any) -> Response:
        response = await call_next(request)
        response.headers["x-seen"] = "yes"
        return response

    site.app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    site.app.middleware("http")(dispatch)
    site.app.post("/")(_adding(site.Tasks))

    with site.client() as client:
        answer = client.post("/")

    assert answer.headers["x-seen"] == "yes"
    assert "link" in answer.headers
    assert site.at_start == [[NOTE]]
    assert work.journal == ["x"]


Aliased = TypeAliasType("Aliased", BackgroundTasks)


class Child(BackgroundTasks):
    """Somebody's own subclass."""


async def _text(background_tasks: "BackgroundTasks"):
    background_tasks.add_task(work.note, "x")


async def _annotated(background_tasks: Annotated[BackgroundTasks, "for humans"]):
    background_tasks.add_task(work.note, "x")


async def _default(number: int = 1, background_tasks: BackgroundTasks = None):  # type: ignore[assignment]
    background_tasks.add_task(work.note, "x")


async def _keyword(number: int = 1, *, background_tasks: BackgroundTasks):
    background_tasks.add_task(work.note, "x")


async def _child(background_tasks: Child):
    background_tasks.add_task(work.note, "x")


class Callable_:
    """An endpoint that is an object."""

    def __call__(self, background_tasks: BackgroundTasks):
        background_tasks.add_task(work.note, "x")


WAYS: dict[str, Any] = {
    "text": _text,
    "Annotated": _annotated,
    "= None": _default,
    "keyword-only": _keyword,
    "subclass": _child,
    "object": Callable_(),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_writing_the_parameter(new_site: Any, way: str):
    """What FastAPI accepts for its own class."""
    site = new_site("a")
    site.app.add_api_route("/", WAYS[way], methods=["POST"])

    with site.client() as client:
        assert client.post("/").status_code == 200

    assert site.at_start == [[NOTE]]
    (route,) = [route for route in site.app.routes if getattr(route, "path", "") == "/"]
    assert Route(route.dependant).ours()


def _accepts_type_aliases() -> bool:
    router = APIRouter()
    native = TypeAliasType("native", fastapi.BackgroundTasks)

    async def endpoint(background_tasks: native):  # type: ignore[valid-type]
        pass

    try:
        router.post("/")(endpoint)
    except fastapi.exceptions.FastAPIError:
        return False
    return bool(router.routes[0].dependant.background_tasks_param_name)  # type: ignore[attr-defined]


def test_a_type_alias_works_where_fastapi_lets_it(new_site: Any):
    """`type Tasks = BackgroundTasks`: as far as the same works with FastAPI's own class, and nowhere silently not."""
    site = new_site("a")

    async def endpoint(background_tasks: Aliased):
        background_tasks.add_task(work.note, "x")

    if not _accepts_type_aliases():
        with pytest.raises(fastapi.exceptions.FastAPIError):
            site.app.post("/")(endpoint)
        return
    site.app.post("/")(endpoint)
    with site.client() as client:
        client.post("/")
    assert site.at_start == [[NOTE]]
    assert Route(site.app.routes[-1].dependant).ours()


def test_the_openapi_document_is_the_same(new_site: Any):
    """Neither a parameter nor a header shows up that was not there before."""
    documents = []
    for Tasks in (fastapi.BackgroundTasks, BackgroundTasks):
        app = new_site("a").app if Tasks is BackgroundTasks else FastAPI()

        def dependency(tasks: Tasks) -> None:
            pass

        @app.post("/things/{number}", dependencies=[Depends(dependency)])
        async def endpoint(number: int, file: fastapi.UploadFile, background_tasks: Tasks) -> dict[str, int]:
            return {}

        documents.append(app.openapi()["paths"]["/things/{number}"])

    assert documents[0] == documents[1]


def test_other_applications_of_the_process_stay_as_they_were(new_site: Any):
    """They get exactly FastAPI's class, their tasks run as ever, and an error of one reaches their server as ever."""
    new_site("b")
    other = FastAPI()
    seen: list[Any] = []

    @other.post("/")
    async def endpoint(background_tasks: fastapi.BackgroundTasks, response: Response):
        background_tasks.add_task(lambda: seen.append("ran"))
        seen.append(type(background_tasks))
        return {}

    @other.post("/starlette")
    async def older(background_tasks: StarletteBackgroundTasks):
        background_tasks.add_task(work.fail)
        seen.append(type(background_tasks))

    with TestClient(other) as client:
        answer = client.post("/")
        with pytest.raises(RuntimeError, match="no luck"):
            client.post("/starlette")

    assert seen == [fastapi.BackgroundTasks, "ran", fastapi.BackgroundTasks]
    assert "link" not in answer.headers


EARLY = """
import os, sys
from fastapi import APIRouter, FastAPI, BackgroundTasks
from support import work

early = APIRouter()
app = FastAPI()

@early.post("/early")
async def endpoint(background_tasks: BackgroundTasks):
    background_tasks.add_task(work.note, "x")

if sys.argv[1] == "route":
    app.post("/own")(endpoint)

from fastapi.testclient import TestClient
from afterwards import Afterwards
from afterwards.errors import RoutesTooEarly

if sys.argv[1] == "router":
    app.include_router(early, prefix="/v1")
try:
    afterwards = Afterwards(app, data=sys.argv[2])
    if sys.argv[1] == "router after":
        app.include_router(early, prefix="/v1")
    with TestClient(app) as client:
        answer = client.post("/v1/early")
    print(answer.status_code, "link" in answer.headers, work.journal)
except RoutesTooEarly as error:
    print(error)
"""


@pytest.mark.parametrize("when", ["route", "router", "router after"])
def test_routes_made_before_the_import_are_covered_or_refused(tmp_path: Path, when: str):
    """A route that would lose its tasks must not look as if it kept them."""
    (tmp_path / "early.py").write_text(EARLY)

    done = subprocess.run(
        [sys.executable, "early.py", when, str(tmp_path / "data")],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join([str(TESTS), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    if when == "route":
        assert "made before afterwards was imported" in done.stdout
        assert "/own" in done.stdout
    else:
        assert done.stdout.strip() == "200 True ['x']", done.stderr
