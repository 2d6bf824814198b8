"""Limits of size, number and type over HTTP, each at its edge, on every kind of route."""

import io
import zipfile
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, File, Form, Request, UploadFile

from afterwards import BackgroundTasks, Uploads, uploads
from support import work
from support.site import Site

pytestmark = pytest.mark.fastapi

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
PDF = b"%PDF-1.7\n" + b"\0" * 40


def upload_site(new_site: Any, settings: Uploads | None = None, **own: Any) -> Site:
    site: Site = new_site(uploads=settings)

    async def endpoint(files: list[UploadFile], background_tasks: BackgroundTasks) -> None:
        for file in files:
            background_tasks.add_task(work.read_upload, file)

    site.app.post("/")(uploads(**own)(endpoint) if own else endpoint)
    return site


def send(client: Any, *contents: bytes, name: str = "a", kind: str = "application/octet-stream") -> Any:
    return client.post("/", files=[("files", (name, content, kind)) for content in contents])


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413), (700_000, 413)])
def test_a_file_may_be_so_large_and_no_larger(new_site, own, size, status):
    site = upload_site(new_site, **({"max_file": 1000} if own else {"settings": Uploads(max_file=1000)}))

    with site.client() as client:
        answer = send(client, b"", b"x" * 1000, b"y" * size)
        files = site.files()

    assert answer.status_code == status
    assert len(site.rows()) == (3 if status == 200 else 0)
    assert files == []
    if status == 413:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "upload_too_large"
        assert "'a' has more than 1,000 bytes" in answer.json()["detail"]


@pytest.mark.parametrize(("files", "status"), [(0, 422), (3, 200), (4, 413)])
def test_a_form_may_have_so_many_files(new_site, files, status):
    site = upload_site(new_site, Uploads(max_files=3))

    with site.client() as client:
        answer = client.post("/", files=[("files", ("a", b"x"))] * files or {"other": (None, "x")})

    assert answer.status_code == status
    assert len(site.rows()) == (files if status == 200 else 0)


def test_more_files_than_starlette_takes_may_be_allowed(new_site):
    site = upload_site(new_site, Uploads(max_files=1_500))

    with site.client() as client:
        assert send(client, *[b"x"] * 1_200).status_code == 200
        assert send(client, *[b"x"] * 1_501).status_code == 413

    assert len(site.rows()) == 1000  # as many as the helper reads


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
def test_a_request_may_be_so_large(new_site, more, status):
    """With everything in it: boundaries, headers, fields."""
    site = new_site()

    @site.app.post("/raw")
    @uploads(max_request=10_000)
    async def endpoint(request: Request) -> int:
        return len(await request.body())

    with site.client() as client:
        answer = client.post("/raw", content=b"x" * (10_000 + more))
        chunked = client.post("/raw", content=iter([b"x" * 6_000, b"x" * (4_000 + more)]))

    assert (answer.status_code, chunked.status_code) == (status, status)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("max_owner", 3_000), ("max_owner_files", 3), ("max_total", 3_000), ("max_total_files", 3)],
)
def test_a_quota_is_used_up_to_its_edge(new_site, setting, value):
    """By one request after the other, and by none beyond it; another owner has a quota of its own."""
    site = upload_site(new_site, Uploads(**{setting: value}, owner=lambda request: request.headers["x-user"]))

    with site.client(headers={"X-User": "ann"}) as client:
        first = send(client, b"x" * 1_000, b"x" * 1_000)
        too_much = send(client, b"x" * 1_000, b"x" * 1_000)
        last = send(client, b"x" * 1_000)
        nothing = send(client, b"x")
        other = client.post("/", files={"files": b"x"}, headers={"X-User": "bob"})

    assert [one.status_code for one in (first, too_much, last, nothing)] == [200, 413, 200, 413]
    assert nothing.json()["code"] == "quota_exceeded"
    assert setting in nothing.json()["detail"]
    assert other.status_code == (200 if "owner" in setting else 413)
    assert site.afterwards._system.admitting.ledger.promised.bytes == 0


def test_what_no_task_takes_is_no_part_of_a_quota(new_site):
    """A file that is only looked at is not stored."""
    site = new_site(uploads=Uploads(max_total=3_000))

    @site.app.post("/")
    async def endpoint(file: UploadFile) -> int:
        return len(await file.read())

    with site.client() as client:
        sizes = [client.post("/", files={"file": b"x" * 2_000}).json() for _ in range(3)]

    assert sizes == [2_000] * 3


def test_a_form_without_files_needs_no_room(new_site):
    """An optional picture that is left out is not refused because the owner has too many."""
    site = new_site(uploads=Uploads(max_total=0, max_total_files=0))

    @site.app.post("/")
    async def endpoint(name: Annotated[str, Form()], file: UploadFile | None = None) -> str:
        return name

    with site.client() as client:
        answers = [
            client.post("/", files={"name": (None, "ann")}),
            client.post("/", files={"name": (None, "ann"), "file": b"x"}),
        ]

    assert [answer.status_code for answer in answers] == [200, 413]


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", "hello")
    return content.getvalue()


HTML = b"<!DOCTYPE html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
GIF_JS = b"GIF89a=1;/*" + b" " * 30 + b"*/alert(1)//"
POLYGLOTS = {  # name, what it claims to be, its bytes, what it really is
    "PDF and ZIP": ("a.pdf", "application/pdf", PDF + zipped(), "application/pdf"),
    "ZIP called PDF": ("a.pdf", "application/pdf", zipped(), "application/zip"),
    "GIF and script": ("a.gif", "image/gif", GIF_JS, "text/plain"),
    "SVG as PNG": ("a.png", "image/png", SVG, "image/svg+xml"),
    "HTML as CSV": ("a.csv", "text/csv", HTML, "text/html"),
    "HTML as PNG": ("a.png", "image/png", HTML, "text/html"),
    "a program as JPEG": ("a.jpg", "image/jpeg", b"MZ" + b"\0" * 60 + b"PE\0\0", None),
    "PNG as text": ("a.txt", "text/plain", PNG, "image/png"),
    "noise as PNG": ("a.png", "image/png", bytes(range(200, 256)) * 3, None),
}


@pytest.mark.parametrize("what", POLYGLOTS)
def test_a_file_is_judged_by_its_bytes(new_site, what):
    """Neither its name nor what the client calls it opens a door; both are recorded."""
    name, claimed, content, found = POLYGLOTS[what]
    site = upload_site(new_site, Uploads(accept=["image/png", "application/pdf"]))

    with site.client() as client:
        answer = send(client, content, name=name, kind=claimed)
        rows = site.rows()

    if found in ("image/png", "application/pdf"):
        assert answer.status_code == 200
        file = site.reads.file(rows[0].files[0].id)
        assert (file.type, file.content_type) == (found, claimed)
    else:
        assert (answer.status_code, answer.json()["code"]) == (415, "type_refused")
        assert rows == []


@pytest.mark.parametrize("what", POLYGLOTS)
def test_a_contradiction_is_refused_where_that_is_asked_for(new_site, what):
    name, claimed, content, _ = POLYGLOTS[what]
    strict = upload_site(new_site, mismatch="refuse")
    lax = upload_site(new_site)

    with strict.client() as client:
        refused = send(client, content, name=name, kind=claimed)
    with lax.client() as client:
        taken = send(client, content, name=name, kind=claimed)

    assert refused.status_code == (200 if what == "PDF and ZIP" else 415)
    assert taken.status_code == 200


def test_honest_files_are_no_contradiction(new_site):
    site = upload_site(new_site, mismatch="refuse")

    with site.client() as client:
        answers = [
            send(client, PNG, name="a.png", kind="image/png"),
            send(client, PDF, name="a.pdf", kind="application/octet-stream"),
            send(client, b"a,b\n1,2\n", name="a.csv", kind="application/vnd.ms-excel"),
            send(client, HTML, name="a.html", kind="text/html"),
            send(client, b"\xe4\xf6\xfc in Latin-1", name="a.txt", kind="text/plain"),
            send(client, b"anything", name="blob", kind="application/x-own"),
        ]

    assert [answer.status_code for answer in answers] == [200] * 6


def test_what_is_denied_is_denied_whatever_is_accepted(new_site):
    site = upload_site(new_site, accept=["image/*"], deny=["image/svg+xml"])

    with site.client() as client:
        answers = [send(client, PNG).status_code, send(client, SVG).status_code, send(client, PNG, SVG).status_code]

    assert answers == [200, 415, 415]
    assert len(site.rows()) == 1


def test_a_type_is_known_after_the_first_bytes(new_site):
    """Of a large file that is not wanted, nothing gets as far as the disk."""
    site = upload_site(new_site, accept=["image/*"])

    with site.client() as client:
        answer = send(client, HTML + b" " * 3_000_000)
        was_staged = (site.data / "staging").exists()
        send(client, PNG + b" " * 3_000_000)

    assert (answer.status_code, was_staged) == (415, False)
    assert (site.data / "staging").exists()  # made with the first file that is


def test_routes_without_tasks_routers_and_mounts_are_limited_too(new_site):
    """Who limits the files of an application limits them wherever they come in."""
    site = new_site(uploads=Uploads(max_file=1_000))
    router, mounted = APIRouter(), FastAPI()

    async def endpoint(file: Annotated[bytes, File()]) -> int:
        return len(file)

    async def by_hand(request: Request) -> list[str]:
        return list(await request.form())

    site.app.post("/plain")(endpoint)
    router.post("/routed")(endpoint)
    mounted.post("/inner")(endpoint)
    site.app.post("/hand")(by_hand)
    site.app.include_router(router, prefix="/in")
    site.app.mount("/mount", mounted)

    with site.client() as client:
        paths = ["/plain", "/in/routed", "/mount/inner", "/hand"]
        large = [client.post(path, files={"file": b"x" * 1_001}).status_code for path in paths]
        small = [client.post(path, files={"file": b"x" * 1_000}).status_code for path in paths]

    assert large == [413] * 4
    assert small == [200] * 4


def test_a_handler_of_the_program_answers_refusals_its_own_way(new_site):
    """As with every other error of that status."""
    site = upload_site(new_site, Uploads(max_file=10))

    @site.app.exception_handler(413)
    async def handle(request: Request, error: Any) -> Any:
        from fastapi.responses import PlainTextResponse

        return PlainTextResponse(f"too much: {error.error.code}", 413)

    with site.client() as client:
        assert send(client, b"x" * 11).text == "too much: upload_too_large"


def test_the_environment_limits_a_program_that_says_nothing(new_site, monkeypatch):
    monkeypatch.setenv("AFTERWARDS_MAX_FILE", "1 kB")
    site = upload_site(new_site)

    with site.client() as client:
        assert [send(client, b"x" * size).status_code for size in (1_000, 1_001)] == [200, 413]
