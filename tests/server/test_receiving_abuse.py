"""What hostile clients send, by both ways: names that are labels, forms that are none, lengths that are wrong."""

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from support import work
from support.server import serving
from support.site import Site, until
from support.wire import BOUNDARY, WAYS, digest, form, head, part, receiving, wire


@pytest.fixture(params=WAYS)
def site(request: pytest.FixtureRequest, new_site: Any) -> Iterator[Site]:
    site = receiving(new_site("a"))
    with serving(site, **WAYS[request.param]) as port:
        site.port = port
        yield site


NAMES = {
    "traversal": b"../../../../tmp/evil",
    "absolute": b"/etc/passwd",
    "windows": rb"C:\\Windows\\system32\\evil.dll",
    "nul": b"a\0b",
    "long": b"x" * 3_000,
    "bidi": "photo\u202egpj.exe".encode(),
    "not utf-8": b"\xff\xfe.png",
    "lone surrogate": b"\xed\xa0\x80.png",
    "device": b"CON",
    "pipe": b"/dev/stdin",
    "dots": b"..",
    "empty": b"",
    "percent": b"%2e%2e%2f%00",
    "quoted line end": b"a%0D%0ASet-Cookie: x=1",
}


def test_hostile_names_are_labels(site: Site):
    """Each comes back as it was sent, as far as it is text, and no path is made of it."""
    contents = {name: random.Random(name).randbytes(300_000) for name in NAMES}
    body = form(*(part(contents[name], name=sent) for name, sent in NAMES.items()))
    with wire(site.port) as client:
        answer = client.send(head("/files", len(body)) + body).answer()
    site.settled(len(NAMES))

    assert answer.status == 200, answer
    assert [file[2] for file in answer.json()["files"]] == [digest(content) for content in contents.values()]
    assert sorted(found[1] for found in work.journal) == sorted(digest(content) for content in contents.values())
    assert all(path.parent.parent == site.data / "files" for path in site.files())
    assert len({path.name for path in site.files()}) == len(NAMES)


def test_the_same_name_twice_is_two_files(site: Site):
    body = form(part(b"first"), part(b"second"))
    with wire(site.port) as client:
        answer = client.send(head("/files", len(body)) + body).answer()
    site.settled(2)

    assert [file[0] for file in answer.json()["files"]] == ["a.bin", "a.bin"]
    assert sorted(work.journal) == sorted([("a.bin", digest(b"first")), ("a.bin", digest(b"second"))])


LARGE = b"x" * 700_000
MARK = b"--" + BOUNDARY
FORMS = {
    "no final delimiter": (part(LARGE), "ends before its final boundary"),
    "cut in a delimiter": (part(LARGE) + MARK, "ends before its final boundary"),
    "cut in a head": (part(LARGE) + part(b"")[:60], "ends before its final boundary"),
    "no name": (
        MARK + b"\r\nContent-Disposition: form-data\r\n\r\n" + LARGE + b"\r\n" + MARK + b"--",
        "must be provided",
    ),
    "no disposition": (MARK + b"\r\nX: y\r\n\r\n" + LARGE + b"\r\n" + MARK + b"--", "must be provided"),
    "another boundary": (b"--other\r\n" + LARGE, "Invalid multipart data"),
    "a million headers": (MARK + b"\r\n" + b"X: y\r\n" * 1_000_000 + b"\r\n", "Invalid multipart data"),
    "a head without end": (MARK + b"\r\nX: " + b"y" * 1_000_000, "Invalid multipart data"),
    "a name of 64 KiB": (form(part(LARGE, name=b"x" * 65_536)), "Invalid multipart data"),
    "1,001 files": (form(*[part(b"x" * 500)] * 1_001), "Too many files"),
    "1,001 fields": (form(*[part(b"x" * 500, name=None)] * 1_001), "Too many fields"),
    "a field that is too long": (form(part(b"x" * 1_100_000, name=None)), "Part exceeded maximum size"),
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_that_is_none_is_refused_and_leaves_nothing(site: Site, kind: str):
    """400 with the reason, as FastAPI answers it, whether sent at once or in small pieces."""
    body, reason = FORMS[kind]
    with wire(site.port) as client:
        try:
            client.send(head("/files", len(body)) + body)
        except (ConnectionResetError, BrokenPipeError):
            pass  # refused before its end
        answer = client.answer()
    small = body[:1_000]
    with wire(site.port) as client:
        refused = client.send(head("/files", len(small)) + small).answer().status

    assert (answer.status, refused) in {(400, 400), (400, 422)}
    assert reason in answer.json()["detail"]
    until(lambda: site.files() == [], site.files)
    assert site.rows() == []


def test_a_missing_boundary_is_refused(site: Site):
    body = form(part(LARGE))
    with wire(site.port) as client:
        answer = client.send(head("/files", len(body), kind=b"multipart/form-data") + body).answer()

    assert (answer.status, answer.json()) == (400, {"detail": "Missing boundary in multipart."})


def test_a_form_within_a_form_is_a_file(site: Site):
    """Nested multipart was given up by its standard; nobody unpacks it behind the program's back."""
    inner = b'--inner\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--inner--\r\n' * 10_000
    body = form(part(inner))
    with wire(site.port) as client:
        answer = client.send(head("/files", len(body)) + body).answer()

    assert answer.json()["files"] == [["a.bin", len(inner), digest(inner)]]


@pytest.mark.parametrize("extra", [b"\r\n" * 200_000, b"epilogue " * 50_000])
def test_what_surrounds_a_form_is_skipped(site: Site, extra: bytes):
    body = form(part(LARGE)) + extra
    with wire(site.port) as client:
        answer = client.send(head("/files", len(body)) + body).answer()

    assert answer.json()["files"][0][2] == digest(LARGE)


@pytest.mark.parametrize(
    "length",
    [
        b"Content-Length: -1",
        b"Content-Length: 12x",
        b"Content-Length: 99999999999999999999999999",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    ],
)
def test_a_length_that_is_none_is_refused(site: Site, length: bytes):
    """Two servers that read it differently could be played off against each other."""
    with wire(site.port) as client:
        client.send(b"POST /files HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\nhello")
        answer = client.answer()
        client.end()

    assert answer.status == 400


def test_a_chunked_body_arrives(site: Site):
    """Of unknown length, so it goes by the event loop on every server."""
    content = os.urandom(3_000_000)
    body = form(part(content))
    start = head("/files", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    pieces = [body[at : at + 77_777] for at in range(0, len(body), 77_777)]
    with wire(site.port) as client:
        client.send(start)
        for piece in pieces:
            client.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        answer = client.send(b"0\r\n\r\nGET /ping HTTP/1.1\r\nHost: x\r\n\r\n").answer()

        assert answer.json()["files"] == [["a.bin", len(content), digest(content)]]
        assert client.answer().json() == "pong"
