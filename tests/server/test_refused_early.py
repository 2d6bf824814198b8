"""What is refused is refused at once: a gibibyte that is not wanted is not read, and not one byte of it is staged."""

import itertools
import json
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, Header, HTTPException, UploadFile
from starlette.requests import Request

from afterwards import BackgroundTasks, Uploads, uploads
from support import work
from support.raw import FORM, SERVERS, form, head, serving_counted, talk
from support.site import Site, until

pytestmark = pytest.mark.fastapi

GIB = 1 << 30
OURS = 65_536  # bytes that our protocol reads of what is refused, its head included
UVICORNS = 65_536 + 262_144  # uvicorn's own stop reading at 64 KiB, which one read of an event loop exceeds
START = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


def endless() -> Iterator[bytes]:
    """A client that sends until it is stopped."""
    return itertools.chain([START], itertools.repeat(b"x" * 65_536, GIB // 65_536))


def current_user(authorization: Annotated[str | None, Header()] = None) -> str:
    if authorization != "Bearer good":
        raise HTTPException(401, "Who are you?", headers={"WWW-Authenticate": "Bearer"})
    return "ann"


def needs_a_header(x_token: Annotated[str, Header()]) -> str:
    return x_token


REFUSED: dict[str, tuple[Uploads, list[str], int, str]] = {
    "auth": (Uploads(before=[Depends(current_user)]), [FORM], 401, "Who are you?"),
    "a missing header": (Uploads(before=[Depends(needs_a_header)]), [FORM], 422, "x-token"),
    "a request too large": (Uploads(max_request="10 MB"), [FORM], 413, "max_request"),
    "a file too large": (Uploads(max_file="10 MB"), [FORM], 413, "max_file"),
    "an owner's quota": (Uploads(max_owner="10 MB", owner=lambda request: "ann"), [FORM], 413, "max_owner"),
    "the total": (Uploads(max_total="10 MB"), [FORM], 413, "max_total"),
    "the disk's reserve": (Uploads(reserve=1 << 60), [FORM], 507, "no room left"),
    "the type of a raw body": (Uploads(), ["Content-Type: text/html"], 415, "text/html"),
    "a raw body too large": (Uploads(max_file=GIB - 1), ["Content-Type: image/png"], 413, "max_file"),
}


def site_of(new_site: Any, settings: Uploads) -> Site:
    site: Site = new_site("a", uploads=settings)

    @site.app.post("/form")
    async def take_form(file: UploadFile, background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(work.read_upload, file)

    @site.app.post("/raw")
    @uploads(accept=["image/*"])
    async def take_raw(request: Request, background_tasks: BackgroundTasks) -> dict[str, int]:
        return {"size": sum([len(chunk) async for chunk in request.stream()])}

    return site


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("why", REFUSED)
def test_a_gibibyte_that_is_refused_is_not_read(new_site, kind, why):
    """The client is answered at once, and the server has read no more of it than came with the head."""
    settings, headers, status, text = REFUSED[why]
    site = site_of(new_site, settings)
    path = "/form" if FORM in headers else "/raw"

    with serving_counted(site, kind) as (port, count):
        reply = talk(port, head(path, *headers, f"Content-Length: {GIB}"), endless())
        files = site.files()

    assert reply.status == status
    assert text in reply.body.decode()
    assert reply.closed
    assert count.read <= (OURS if kind == "ours" else UVICORNS)
    assert files == []
    assert site.rows() == []


@pytest.mark.parametrize("kind", SERVERS)
def test_a_client_that_asks_first_is_not_told_to_go_on(new_site, kind):
    """`Expect: 100-continue`: not one byte of the body crosses the network."""
    site = site_of(new_site, Uploads(before=[Depends(current_user)], max_request="1 MB"))
    ask = "Expect: 100-continue"
    good = "Authorization: Bearer good"
    body = form(("file", "a", b"x" * 1000))

    with serving_counted(site, kind) as (port, _):
        nobody = talk(port, head("/form", FORM, ask, f"Content-Length: {GIB}"))
        large = talk(port, head("/form", FORM, ask, good, f"Content-Length: {GIB}"))
        small = talk(
            port, head("/form", FORM, ask, good, f"Content-Length: {len(body)}", "Connection: close"), [body], asks=True
        )

    assert [nobody.status, large.status] == [401, 413]
    assert nobody.header("www-authenticate") == "Bearer"
    assert b"100 Continue" not in nobody.raw + large.raw
    assert (small.interim[:12], small.status) == (b"HTTP/1.1 100", 200)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_refusal_is_a_problem(new_site, kind):
    """Programs tell refusals apart by their code, people by their text."""
    site = site_of(new_site, Uploads(max_request="1 MB"))

    with serving_counted(site, kind) as (port, _):
        reply = talk(port, head("/form", FORM, f"Content-Length: {GIB}"))

    problem = json.loads(reply.body)
    assert reply.header("content-type") == "application/problem+json"
    assert reply.header("connection") == "close"
    assert (problem["code"], problem["status"], problem["instance"]) == ("upload_too_large", 413, "/form")
    assert "1,073,741,824 bytes" in problem["detail"]


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(
    ("settings", "path", "most"),
    [
        (Uploads(max_request=3 << 20), "/form", 3 << 20),
        (Uploads(max_file=3 << 20), "/form", 3 << 20),
        (Uploads(max_owner=3 << 20, owner=lambda request: "ann"), "/form", 3 << 20),
        (Uploads(max_request=3 << 20), "/raw", 3 << 20),
    ],
)
def test_a_body_of_unknown_length_is_read_to_the_limit_and_no_further(new_site, kind, settings, path, most):
    """Who declares nothing is stopped a moment after the limit, and nothing of it stays."""
    site = site_of(new_site, settings)
    png = b"\x89PNG\r\n\x1a\n" + b"x" * 65_528
    first = START + png if path == "/form" else png
    chunks = (b"%x\r\n%b\r\n" % (len(part), part) for part in itertools.chain([first], itertools.repeat(png, 16_384)))
    kind_header = FORM if path == "/form" else "Content-Type: image/png"

    with serving_counted(site, kind) as (port, count):
        reply = talk(port, head(path, kind_header, "Transfer-Encoding: chunked"), chunks)
        until(lambda: site.files() == [], site.files)

    assert reply.status == 413
    assert count.read <= most + (2 << 20)
    assert site.rows() == []
    assert site.afterwards._system.admitting.ledger.promised.bytes == 0


def test_what_is_let_in_early_is_let_in(new_site):
    """The same endpoint, with all that it asks for."""
    site = site_of(new_site, Uploads(before=[Depends(current_user)], max_request="1 MB", max_owner="1 MB", owner=who))
    body = form(("file", "a", b"x" * 1000))

    with serving_counted(site, "ours") as (port, _):
        headers = [FORM, "Authorization: Bearer good", f"Content-Length: {len(body)}", "Connection: close"]
        reply = talk(port, head("/form", *headers), [body])
        site.settled(1)

    assert reply.status == 200
    assert site.states() == ["succeeded"]
    assert site.reads.file(site.rows()[0].files[0].id).owner == "ann"


def who(request: Request) -> str:
    return "ann"
