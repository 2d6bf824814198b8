"""Dependencies that run before the body: as FastAPI runs them, once, and closed as always."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Form, Header, HTTPException, Request, Response, Security, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer

from afterwards import BackgroundTasks, Uploads, uploads
from afterwards.errors import BodyTooEarly
from support import work
from support.site import Site

pytestmark = pytest.mark.fastapi

FILES = {"file": ("a.txt", b"hello")}
LARGE = {"file": ("a.txt", b"x" * 300_000)}
calls: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


def user(x_user: Annotated[str | None, Header()] = None) -> str:
    calls.append("user")
    if x_user is None:
        raise HTTPException(401, "Who are you?")
    return x_user


async def test_a_dependency_of_the_endpoint_runs_once_and_early(new_site):
    """A rate limit that counted twice, or a second look into the database, would be the price of the check."""
    site = new_site()

    @site.app.post("/")
    @uploads(before=[Depends(user)])
    async def endpoint(file: UploadFile, name: Annotated[str, Depends(user)], background_tasks: BackgroundTasks) -> str:
        background_tasks.add_task(work.note, name)
        return name

    with site.client() as client:
        nobody = client.post("/", files=LARGE)
        ann = client.post("/", files=FILES, headers={"X-User": "ann"})

    assert (nobody.status_code, nobody.json()) == (401, {"detail": "Who are you?"})
    assert nobody.headers["connection"] == "close"
    assert (ann.status_code, ann.json()) == (200, "ann")
    assert calls == ["user", "user"]
    assert work.journal == ["ann"]


async def test_what_it_yields_is_closed_after_the_answer_and_meets_errors(new_site):
    """A database session is not left open, and does not commit what failed."""
    site = new_site()

    async def session() -> AsyncIterator[str]:
        calls.append("open")
        try:
            yield "session"
        except BaseException as error:
            calls.append(type(error).__name__)
            raise
        finally:
            calls.append("closed")

    def plain() -> Iterator[str]:
        yield "plain"
        calls.append("plain closed")

    @site.app.post("/")
    @uploads(max_file=10, before=[Depends(session), Depends(plain, scope="function")])
    async def endpoint(file: UploadFile, one: Annotated[str, Depends(session)]) -> str:
        calls.append("endpoint")
        return one

    with site.client() as client:
        assert client.post("/", files=FILES).json() == "session"
        assert calls == ["open", "endpoint", "plain closed", "closed"]
        calls.clear()
        assert client.post("/", files=LARGE).status_code == 413

    assert calls == ["open", "Refusal", "closed"]


async def test_what_it_sets_on_the_response_is_sent(new_site):
    site = new_site()

    def mark(response: Response) -> None:
        response.headers["X-Marked"] = "yes"
        response.set_cookie("seen", "1")

    @site.app.post("/")
    @uploads(before=[Depends(mark)])
    async def endpoint(file: UploadFile) -> None: ...

    with site.client() as client:
        answer = client.post("/", files=FILES)

    assert (answer.headers["x-marked"], answer.cookies["seen"]) == ("yes", "1")


async def test_overrides_hold_for_it(new_site):
    """Tests of programs replace their user by another."""
    site = new_site()

    @site.app.post("/")
    @uploads(before=[Depends(user)])
    async def endpoint(file: UploadFile, name: Annotated[str, Depends(user)]) -> str:
        return name

    site.app.dependency_overrides[user] = lambda: "tester"
    with site.client() as client:
        answer = client.post("/", files=FILES)

    assert answer.json() == "tester"
    assert calls == []


async def test_a_missing_header_is_answered_as_the_application_does(new_site):
    """By FastAPI's 422, or by the program's own handler for it."""
    site = new_site()

    def token(x_token: Annotated[str, Header()]) -> str:
        return x_token

    @site.app.post("/")
    @uploads(before=[Depends(token)])
    async def endpoint(file: UploadFile) -> None: ...

    with site.client() as client:
        plain = client.post("/", files=LARGE)
    other = new_site()
    other.app.include_router(site.app.router)

    @other.app.exception_handler(RequestValidationError)
    async def own(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"mine": len(error.errors())}, 418)

    with other.client() as client:
        mine = client.post("/", files=LARGE)

    assert plain.status_code == 422
    assert plain.json()["detail"][0]["loc"] == ["header", "x-token"]
    assert (mine.status_code, mine.json()) == (418, {"mine": 1})
    assert plain.headers["connection"] == mine.headers["connection"] == "close"


async def test_it_may_be_any_exception_of_the_program(new_site):
    site = new_site()

    class Banned(Exception):
        pass

    def check() -> None:
        raise Banned

    @site.app.exception_handler(Banned)
    async def handle(request: Request, error: Banned) -> JSONResponse:
        return JSONResponse("banned", 403)

    @site.app.post("/")
    @uploads(before=[Depends(check)])
    async def endpoint(file: UploadFile) -> None: ...

    with site.client() as client:
        answer = client.post("/", files=LARGE)

    assert (answer.status_code, answer.json()) == (403, "banned")


async def test_the_document_shows_what_it_asks_for(new_site):
    """Clients that are made from the OpenAPI document send the token."""
    site = new_site()
    bearer, key = HTTPBearer(), APIKeyHeader(name="X-Key")

    @site.app.post("/upload")
    @uploads(before=[Depends(bearer), Security(key)])
    async def endpoint(file: UploadFile) -> None: ...

    router = APIRouter(prefix="/more")
    router.add_api_route("/upload", endpoint, methods=["POST"])
    site.app.include_router(router)
    with site.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
        refused = [client.post(path, files=LARGE).status_code for path in ("/upload", "/more/upload")]

    for path in ("/upload", "/more/upload"):
        assert [next(iter(one)) for one in paths[path]["post"]["security"]] == ["HTTPBearer", "APIKeyHeader"]
    assert all(status in (401, 403) for status in refused)


async def test_it_knows_the_path(new_site):
    """A parameter of the path is one, also for what runs early."""
    site = new_site()

    def allowed(album: int, page: int = 1) -> None:
        calls.append((album, page))
        if album != 7:
            raise HTTPException(403)

    @site.app.post("/albums/{album}")
    @uploads(before=[Depends(allowed)])
    async def endpoint(album: int, file: UploadFile) -> int:
        return album

    with site.client() as client:
        seven = client.post("/albums/7?page=3", files=FILES)
        eight = client.post("/albums/8", files=LARGE)

    assert (seven.json(), eight.status_code) == (7, 403)
    assert calls == [(7, 3), (8, 1)]


async def test_the_installations_checks_hold_where_files_come_in_and_nowhere_else(new_site):
    """A login form must not ask for a login first."""
    site = new_site(uploads=Uploads(before=[Depends(user)]))

    @site.app.post("/file")
    async def file(file: UploadFile) -> None: ...

    @site.app.post("/maybe")
    async def maybe(title: Annotated[str, Form()], file: UploadFile | None = None) -> None: ...

    @site.app.post("/list")
    async def several(files: list[UploadFile]) -> None: ...

    @site.app.post("/by-hand")
    async def by_hand(request: Request) -> int:
        return len(await request.form())

    @site.app.post("/login")
    async def login(name: Annotated[str, Form()], background_tasks: BackgroundTasks) -> str:
        return name

    @site.app.post("/public")
    @uploads(before=[])
    async def public(file: UploadFile) -> str:
        return "public"

    @site.app.get("/")
    async def home() -> str:
        return "home"

    with site.client() as client:
        closed = [client.post(path, files=LARGE).status_code for path in ("/file", "/maybe", "/list", "/by-hand")]
        login_answer = client.post("/login", files={"name": (None, "ann")})
        opened = [client.post("/public", files=FILES).json(), client.get("/").json()]

    assert closed == [401] * 4
    assert login_answer.json() == "ann"
    assert opened == ["public", "home"]


async def test_the_owner_is_a_dependency_or_a_function(new_site, new_app_owner):
    site, expected = new_app_owner

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(work.read_upload, file)

    with site.client() as client:
        client.post("/", files=FILES, headers={"X-User": "ann"})

    assert site.reads.file(site.rows()[0].files[0].id).owner == expected


def _by_request(request: Request) -> str:
    return request.headers["x-user"]


async def _by_request_async(request: Request) -> str | None:
    return None


@pytest.fixture(params=[(Depends(user), "ann"), (_by_request, "ann"), (_by_request_async, None), (None, None)])
def new_app_owner(request, new_site) -> tuple[Site, str | None]:
    owner, expected = request.param
    return new_site(uploads=Uploads(owner=owner)), expected


async def test_an_owner_that_is_no_text_is_named(new_site):
    """A number would count for nobody's limits, silently."""
    site = new_site(uploads=Uploads(owner=lambda request: 42))

    @site.app.post("/")
    async def endpoint(file: UploadFile) -> None: ...

    with site.client() as client, pytest.raises(TypeError, match=r"Uploads\(owner=...\) gave 42 for POST /"):
        client.post("/", files=FILES)


@pytest.mark.parametrize("asks", ["form", "body", "json", "stream"])
async def test_the_body_is_not_there_yet(new_site, asks: str):
    """A form that was read here would be kept for the endpoint, without any limit having been asked."""

    async def read(request: Request) -> None:
        if asks == "stream":
            async for _ in request.stream():
                calls.append("block")
        else:
            calls.append(await getattr(request, asks)())

    site = new_site(uploads=Uploads(max_file=10, before=[Depends(read)], allow=Depends(user)))

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(work.note, file.filename)

    with site.client(headers={"X-User": "ann"}) as client:
        with pytest.raises(BodyTooEarly, match="runs before the body is read"):
            client.post("/", files=FILES)
        if asks != "form":  # a body that is no form has nothing for `form()` to read
            assert client.post("/afterwards/uploads", content=b"hello").json()["code"] == "body_too_early"
    assert calls == ([] if asks == "form" else ["user"])
    assert work.journal == []


async def test_an_application_that_is_not_ours_is_left_alone(new_site):
    """The name that is replaced does for others what it did."""
    app = FastAPI()

    @app.post("/")
    async def endpoint(file: UploadFile, name: Annotated[str, Depends(user)]) -> str:
        return name

    new_site()
    from fastapi.testclient import TestClient

    with TestClient(app) as client:
        assert client.post("/", files=FILES, headers={"X-User": "ann"}).json() == "ann"
    assert calls == ["user"]
