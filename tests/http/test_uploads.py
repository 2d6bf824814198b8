"""Uploads over a real server: received once, handed on without a copy, opened again equal, and gone when refused."""

import asyncio
import io
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
import httpx
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.datastructures import UploadFile as StarletteUploadFile

from afterwards._domain.ids import new_id
from afterwards._domain.values import INLINE_BYTES as ARGUMENT_BYTES
from afterwards._files.pending import PendingFile
from afterwards._files.promotion import promote
from afterwards._files.spool import Spool
from afterwards._files.staging import INLINE_BYTES, StagedFile, Staging, _HashedFile
from afterwards._files.stored import StoredFile
from afterwards._web import handing, receiving
from afterwards.errors import UnstorableArgument, UnsupportedVersion
from support.stored import content_of

SIZES = [0, 10, INLINE_BYTES, INLINE_BYTES + 1, 400_000, 3_000_000]


class SignallingStaging(Staging):
    """The real staging, telling when a file has been opened."""

    __slots__ = ("opened",)

    def __init__(self, root: Path, owner: str) -> None:
        super().__init__(root, owner)
        self.opened = threading.Event()

    def open(self, id: str | None = None) -> StagedFile:
        file = super().open(id)
        self.opened.set()
        return file


class FullStaging(Staging):
    """A staging folder on a full disk: every file is /dev/full."""

    __slots__ = ()

    def open(self, id: str | None = None) -> StagedFile:
        full = _HashedFile(os.open("/dev/full", os.O_RDWR))
        return StagedFile(full, id=id or new_id(), path=self.root / "none", root=self.root)


class Site:
    """An application whose routes receive into staging and store after the endpoint, as the product's do."""

    def __init__(self, root: Path, staging: type[Staging] = SignallingStaging) -> None:
        self.root = root
        self.staging = staging(root, new_id())
        self.stored: list[StoredFile] = []
        self.requests = 0
        self.ended = threading.Condition()
        site = self

        class Route(APIRoute):
            def get_route_handler(self) -> Callable[[Request], Any]:
                handler = super().get_route_handler()

                async def answer(request: Request) -> Response:
                    request.state.given = given = []
                    try:
                        with receiving.Reception(site.staging, request):
                            response = await handler(request)
                        if given:
                            site.stored += await anyio.to_thread.run_sync(promote, given, site.root)
                        return response
                    finally:
                        for file in given:
                            file.release()

                return answer

        self.router = APIRouter(route_class=Route)
        self.app = FastAPI()

    def give(self, request: Request, upload: object) -> PendingFile | None:
        """What add_task does with an argument."""
        file = handing.keep(upload, self.staging, function="work", argument="file")
        if file is not None:
            request.state.given.append(file)
        return file

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                with self.ended:
                    self.requests += 1
                    self.ended.notify_all()

    def wait_for_end(self, requests: int = 1) -> None:
        """Return when so many requests are over, with all that follows their response."""
        with self.ended:
            assert self.ended.wait_for(lambda: self.requests >= requests, timeout=20)
        for thread in threading.enumerate():
            if thread.name == "afterwards-discard":
                thread.join(20)

    def files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file() and path.name != "promises"]


class Server(uvicorn.Server):
    """A server that says when it listens."""

    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


@contextmanager
def serving(site: Site) -> Iterator[httpx.Client]:
    site.app.include_router(site.router)
    server = Server(site)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.listening.wait(20)
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("size", SIZES)
def test_the_task_gets_the_upload_as_it_came(site: Site, size: int):
    """Name, size, type, headers and bytes: from a store on disk, not from the request's memory."""
    seen: list[StarletteUploadFile] = []

    @site.router.post("/")
    async def upload(file: UploadFile, request: Request):
        seen.append(file)
        site.give(request, file)

    content = os.urandom(size)
    part = ("Ünïcode ../../a.png", content, "image/png", {"X-Part": "1", "x-more": "2"})
    with serving(site) as client:
        assert client.post("/", files={"file": part}).status_code == 200

    (original,), (stored,) = seen, site.stored
    task = handing.as_upload(stored, stored.open(site.root))
    assert type(task) is type(original)
    assert (task.filename, task.size, task.content_type) == (original.filename, size, "image/png")
    assert task.headers.raw == original.headers.raw
    assert task.headers["x-part"] == "1"
    assert task.file.tell() == 0
    assert task.file.read() == content
    assert asyncio.run(read_again(task)) == content
    task.file.close()


async def read_again(upload: StarletteUploadFile) -> bytes:
    await upload.seek(0)
    return await upload.read()


def test_the_name_is_never_part_of_a_path(site: Site):
    """What a client calls its file is data."""

    @site.router.post("/")
    async def upload(file: UploadFile, request: Request):
        site.give(request, file)

    with serving(site) as client:
        client.post("/", files={"file": ("../../../tmp/evil.sh", b"x" * 400_000)})

    (stored,) = site.stored
    assert stored.name == "../../../tmp/evil.sh"
    assert site.files() == [stored.path(site.root)]


def test_a_large_upload_is_written_once(site: Site):
    """The file the endpoint sees is the one that is stored: the same inode, renamed."""
    inodes = []

    @site.router.post("/")
    def upload(file: UploadFile, request: Request):
        inodes.append(os.fstat(file.file.fileno()).st_ino)
        site.give(request, file)

    with serving(site) as client:
        client.post("/", files={"file": b"x" * 5_000_000})

    assert [file.path(site.root).stat().st_ino for file in site.stored] == inodes


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_an_endpoint_that_reads_the_upload_itself_still_can(site: Site, size: int):
    """And the task reads it from the start, wherever the endpoint stopped."""
    content = os.urandom(size)

    @site.router.post("/async")
    async def in_loop(file: UploadFile, request: Request):
        first = await file.read(5)
        site.give(request, file)
        return file.file.tell() == 5 and first + await file.read() == content

    @site.router.post("/def")
    def in_thread(file: UploadFile, request: Request):
        site.give(request, file)
        return file.file.read() == content and file.size == len(content)

    with serving(site) as client:
        assert client.post("/async", files={"file": content}).json() is True
        assert client.post("/def", files={"file": content}).json() is True

    assert [content_of(file, site.root) for file in site.stored] == [content, content]


class Order(BaseModel):
    name: str
    photo: Annotated[UploadFile, File()]
    more: list[UploadFile] = []

    model_config = {"arbitrary_types_allowed": True}


def test_lists_models_and_bytes_work_as_ever(site: Site):
    """Every way FastAPI has of declaring a file."""
    parts = [os.urandom(size) for size in (10, 70_000, 400_000)]

    @site.router.post("/list")
    async def several(files: list[UploadFile], request: Request):
        for file in files:
            site.give(request, file)
        return [file.filename for file in files]

    @site.router.post("/model")
    async def model(order: Annotated[Order, Form()], request: Request):
        for file in (order.photo, *order.more):
            site.give(request, file)
        return order.name

    @site.router.post("/bytes")
    async def whole(file: Annotated[bytes, File()], request: Request):
        return site.give(request, file) is not None

    with serving(site) as client:
        names = client.post("/list", files=[("files", (str(i), part)) for i, part in enumerate(parts)]).json()
        fields = [("photo", ("p", parts[1])), ("more", ("q", parts[0])), ("more", ("r", parts[2]))]
        assert client.post("/model", data={"name": "Ada"}, files=fields).json() == "Ada"
        taken = [client.post("/bytes", files={"file": part}).json() for part in parts]

    assert names == ["0", "1", "2"]
    assert taken == [False, True, True]  # few bytes are an argument like any other
    loaded = [content_of(file, site.root) for file in site.stored]
    assert loaded == [*parts, parts[1], parts[0], parts[2], parts[1], parts[2]]


@pytest.mark.parametrize("size", [10, 100_000, 2_000_000])
def test_a_refused_request_leaves_nothing(site: Site, size: int):
    """Raised after add_task, raised before, or never reaching the endpoint: no file stays."""

    @site.router.post("/given")
    async def given(file: UploadFile, request: Request):
        site.give(request, file)
        raise HTTPException(409)

    @site.router.post("/broken")
    def broken(file: UploadFile):
        raise HTTPException(418, str(len(file.file.read())))

    @site.router.post("/invalid")
    async def invalid(file: UploadFile, number: Annotated[int, Form()]):
        raise AssertionError("not reached")

    with serving(site) as client:
        statuses = [client.post(path, files={"file": b"x" * size}).status_code for path in ("/given", "/broken")]
        statuses.append(client.post("/invalid", files={"file": b"x" * size}, data={"number": "x"}).status_code)
        site.wait_for_end(3)

    assert statuses == [409, 418, 422]
    assert site.files() == []


def test_an_exception_handler_may_still_read_the_form(site: Site):
    """What was open to it before must not be closed under its hands."""

    @site.router.post("/")
    async def invalid(file: UploadFile, number: Annotated[int, Form()]):
        raise AssertionError("not reached")

    @site.app.exception_handler(RequestValidationError)
    async def explain(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"length": len(await error.body["file"].read())}, 422)

    with serving(site) as client:
        assert client.post("/", files={"file": b"x" * 1_000_000}).json() == {"length": 1_000_000}
        site.wait_for_end()

    assert site.files() == []


def test_a_cut_upload_leaves_nothing(site: Site):
    """The client goes away in the middle of its second file."""
    reached = []

    @site.router.post("/")
    async def upload(files: list[UploadFile]):
        reached.append(files)

    with serving(site) as client:
        with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as line:
            line.sendall(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            )
            for _ in range(2):
                line.sendall(b'--b\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\n')
                line.sendall(b"x" * 3_000_000 + b"\r\n")
            assert site.staging.opened.wait(20)
            assert site.files() != []
        site.wait_for_end()

    assert reached == []
    assert site.files() == []


def test_a_malformed_form_leaves_nothing(site: Site):
    @site.router.post("/")
    async def upload(file: UploadFile):
        raise AssertionError("not reached")

    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 2_000_000
    body += b"\r\n--b\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--b--\r\n"
    with serving(site) as client:
        answer = client.post("/", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
        site.wait_for_end()

    assert answer.status_code == 400
    assert site.files() == []


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_a_form_closed_before_the_commit_costs_the_task_nothing(site: Site, size: int):
    """`async with request.form()` and `await file.close()` are common; the task was given the file before."""
    content = os.urandom(size)

    @site.router.post("/form")
    async def by_hand(request: Request):
        async with request.form() as form:
            site.give(request, form["file"])

    @site.router.post("/close")
    async def closes(file: UploadFile, request: Request):
        site.give(request, file)
        await file.close()

    with serving(site) as client:
        assert client.post("/form", files={"file": content}).status_code == 200
        assert client.post("/close", files={"file": content}).status_code == 200

    assert [content_of(file, site.root) for file in site.stored] == [content, content]
    assert len(site.files()) == (0 if size == 10 else 2)


def test_one_upload_for_several_tasks_is_one_file(site: Site):
    """Twice to one task or once to two: the same id, stored once."""
    ids = []

    @site.router.post("/")
    async def upload(file: UploadFile, request: Request):
        ids.extend(file.id for file in [site.give(request, file), site.give(request, file)] if file)

    with serving(site) as client:
        client.post("/", files={"file": b"x" * 400_000})

    assert len(site.stored) == 1
    assert ids == [site.stored[0].id] * 2


def test_other_programs_get_starlettes_own_files(tmp_path: Path):
    """Routes that are not ours, in the same process, see no change."""
    site = Site(tmp_path)
    kinds: list[type] = []

    @site.app.post("/foreign")
    async def upload(file: UploadFile):
        kinds.append(type(file.file))

    with serving(site) as client:
        client.post("/foreign", files={"file": b"x" * 2_000_000})

    assert kinds == [tempfile.SpooledTemporaryFile]
    assert os.listdir(tmp_path) == []


async def test_what_outlives_its_request_gets_starlettes_own_files(staging: Staging):
    """A task started by a handler may keep the request; what it parses later is not received by us."""
    body = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nc\r\n--x--\r\n'
    requests = [a_request(body), a_request(body)]
    with receiving.Reception(staging, requests[0]):
        during = await requests[0].form()
    with receiving.Reception(staging, requests[1]):
        pass
    after = await requests[1].form()

    assert [type(form["a"].file) for form in (during, after)] == [Spool, tempfile.SpooledTemporaryFile]
    await during.close()
    await after.close()


def a_request(body: bytes) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full, which is a full disk")
def test_a_full_disk_while_receiving_is_507_and_tells_no_path(tmp_path: Path):
    """Not "error parsing the body", as if the client had made a mistake."""
    site = Site(tmp_path, FullStaging)

    @site.router.post("/")
    async def upload(file: UploadFile):
        raise AssertionError("not reached")

    with serving(site) as client:
        answer = client.post("/", files={"file": b"x" * 2_000_000})

    assert answer.status_code == 507
    assert "no room left" in answer.json()["detail"]
    assert str(tmp_path) not in answer.text


def test_a_fastapi_that_reads_forms_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch):
    """Better a refusal at start than uploads that nobody received."""
    handler = APIRoute.get_route_handler

    def later(self: APIRoute) -> Any:
        answer = handler(self)
        return lambda request: answer(Request(request.scope, request.receive))

    receiving.check()
    monkeypatch.setattr(APIRoute, "get_route_handler", later)
    with pytest.raises(UnsupportedVersion, match="Install a FastAPI"):
        receiving.check()


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path, new_id())


def keep(value: object, staging: Staging) -> PendingFile | None:
    return handing.keep(value, staging, function="work", argument="file")


@pytest.mark.parametrize("size", SIZES)
def test_an_upload_made_by_hand_is_copied(staging: Staging, size: int):
    """Tests and scripts make them over BytesIO or an open file; position and file stay theirs."""
    content = os.urandom(size)
    made = StarletteUploadFile(io.BytesIO(content), filename="a", headers=Headers({"content-type": "x/y"}))
    made.file.seek(size // 2)
    kept = keep(made, staging)
    assert kept is not None

    (stored,) = promote([kept], staging.root)

    assert content_of(stored, staging.root) == content
    assert (stored.name, stored.content_type, stored.headers) == ("a", "x/y", (("content-type", "x/y"),))
    assert made.file.tell() == size // 2


def test_an_upload_starlette_received_before_us_is_copied(staging: Staging):
    """A middleware may have parsed the form already."""
    with tempfile.SpooledTemporaryFile(max_size=10) as file:
        file.write(b"x" * 100_000)
        kept = keep(UploadFile(file, filename="a"), staging)
        assert kept is not None

        (stored,) = promote([kept], staging.root)

    assert content_of(stored, staging.root) == b"x" * 100_000


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_many_bytes_become_a_file_and_few_do_not(staging: Staging, kind: type):
    few, many = kind(b"x" * ARGUMENT_BYTES), kind(b"x" * (ARGUMENT_BYTES + 1))
    kept = keep(many, staging)
    if isinstance(many, bytearray):
        many.clear()  # the task gets what it was when it was given
    assert kept is not None

    (stored,) = promote([kept], staging.root)

    assert keep(few, staging) is None
    assert content_of(stored, staging.root) == b"x" * (ARGUMENT_BYTES + 1)


class OneWay(io.BytesIO):
    def seekable(self) -> bool:
        return False


def closed() -> io.BytesIO:
    file = io.BytesIO()
    file.close()
    return file


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (closed(), "whose file is closed already"),
        (io.StringIO("text"), "made over a StringIO, which does not give bytes"),
        (OneWay(), "made over a OneWay, which cannot be read from its start"),
        (None, "made over a NoneType, which does not give bytes"),
    ],
)
def test_an_upload_that_cannot_be_kept_is_refused_by_name(staging: Staging, file: Any, problem: str):
    """At add_task, while the caller can still be told; with the argument and the remedy."""
    with pytest.raises(UnstorableArgument, match=f"argument file of work .* the upload 'a.txt', {problem}"):
        keep(StarletteUploadFile(file, filename="a.txt"), staging)


def test_a_spool_closed_before_it_was_given_is_refused(staging: Staging):
    with receiving.Reception(staging, a_request(b"")) as reception:
        spool: Spool = reception.open()
    spool.close()

    with pytest.raises(UnstorableArgument, match="closed already"):
        keep(StarletteUploadFile(spool, filename="a"), staging)  # type: ignore[arg-type]


def test_other_values_are_none_of_our_business(staging: Staging):
    assert [keep(value, staging) for value in (None, 1, "x" * 100_000, [b"x" * 100_000], Path("a"))] == [None] * 5


@pytest.mark.parametrize("size", [10, 400_000])
async def test_a_reopened_upload_is_whole_and_read_only(staging: Staging, size: int):
    kept = keep(StarletteUploadFile(io.BytesIO(b"x" * size), filename=None), staging)
    assert kept is not None
    (stored,) = promote([kept], staging.root)

    upload = handing.as_upload(stored, stored.open(staging.root))

    assert (upload.filename, upload.size, upload.content_type) == (None, size, None)
    assert await upload.read(4) == b"xxxx"
    await upload.seek(0)
    assert len(await upload.read()) == size
    with pytest.raises(io.UnsupportedOperation):
        await upload.write(b"x")
    await upload.close()
    assert upload.file.closed
