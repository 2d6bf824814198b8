"""Files by their id: every header of the answer, and every way to ask for them, on both ways out."""

import base64
import contextlib
import email.parser
import email.policy
import hashlib
import os
from typing import Any

import apsw
import httpx
import pytest
from blake3 import blake3
from fastapi import Depends, HTTPException

from afterwards import Afterwards
from afterwards._domain.ids import new_id
from afterwards._files.outgoing import Outgoing
from afterwards._web import downloads
from support.shelf import Shelf, shelf_of

SMALL = b"".join(b"%04d" % number for number in range(250))
LARGE = os.urandom(3_000_017)
BOTH = pytest.mark.parametrize("content", [SMALL, LARGE], ids=["in-its-row", "on-the-disk"])
HOSTILE = [
    "../../etc/passwd",
    'x"; filename="y.exe',
    "a\r\nSet-Cookie: stolen=1\r\n\r\n<script>",
    "photo\u202egpj.exe",
    "NUL",
    "n" * 65_536 + ".txt",
    "\0\0",
    "報告 größe.pdf",
]


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    found: dict[str, Any] = answer.json()
    assert found["code"] == code
    return found


@BOTH
def test_a_file_comes_as_it_was_stored_and_harmless(shelf: Shelf, content: bytes):
    """What somebody sent is saved by browsers, not shown and not run (promise 11)."""
    id = shelf.put(content, "größe.bin")

    answer = shelf.get(id)

    assert answer.status_code == 200
    assert answer.content == content
    headers = answer.headers
    assert headers["content-length"] == str(len(content))
    assert headers["etag"] == f'"{blake3(content).hexdigest()}"'
    assert headers["accept-ranges"] == "bytes"
    assert headers["content-disposition"] == "attachment; filename=\"gro_e.bin\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.bin"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert headers["cross-origin-resource-policy"] == "same-site"
    assert headers["cache-control"] == "private, no-cache, no-transform"
    assert headers["last-modified"].endswith(" GMT")
    assert "repr-digest" not in headers


@BOTH
def test_head_has_the_same_headers_and_no_body(shelf: Shelf, content: bytes):
    id = shelf.put(content)

    head, got = shelf.get(id, method="HEAD"), shelf.get(id)

    assert head.status_code == 200
    assert head.content == b""
    for answer in (head, got):
        answer.headers.pop("date", None)
    assert head.headers == got.headers
    assert shelf.get(id, method="HEAD", range="bytes=0-1").status_code == 200  # ranges are for GET only
    assert shelf.get(new_id(), method="HEAD").status_code == 404


@BOTH
def test_one_range_is_a_part(shelf: Shelf, content: bytes):
    id, size = shelf.put(content), len(content)

    for asked, start, end in (("5-9", 5, 10), ("990-", 990, size), ("-10", size - 10, size), (f"0-{10**30}", 0, size)):
        answer = shelf.get(id, range=f"bytes={asked}")

        assert answer.status_code == 206
        assert answer.content == content[start:end]
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert answer.headers["etag"] == f'"{blake3(content).hexdigest()}"'


def parts(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Read multipart/byteranges with another one's parser."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + answer.content)
    assert message.get_content_type() == "multipart/byteranges"
    assert not message.defects
    found = [(part["content-range"], part.get_payload(decode=True)) for part in message.iter_parts()]
    return [(str(where), content) for where, content in found]


def test_several_ranges_are_several_parts(shelf: Shelf):
    """Text, because the parser of mail that reads them here would change line ends of other bytes."""
    for content in (SMALL, SMALL * 2000):
        id, size = shelf.put(content), len(content)

        answer = shelf.get(id, range=f"bytes=500-599,0-9,-5,{size}-")

        assert answer.status_code == 206
        assert answer.headers["content-length"] == str(len(answer.content))
        assert parts(answer) == [
            (f"bytes 500-599/{size}", content[500:600]),
            (f"bytes 0-9/{size}", content[:10]),
            (f"bytes {size - 5}-{size - 1}/{size}", content[-5:]),
        ]


@BOTH
def test_ranges_that_overlap_are_sent_once(shelf: Shelf, content: bytes):
    answer = shelf.get(shelf.put(content), range="bytes=" + ",".join(["0-99", "50-149"] * 40))

    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes 0-149/{len(content)}"
    assert answer.content == content[:150]


@BOTH
def test_ranges_that_cannot_be_had_are_refused_with_the_size(shelf: Shelf, content: bytes):
    id = shelf.put(content)

    many = ",".join(f"{start}-{start}" for start in range(0, 20_000, 2))
    for asked in (f"{len(content)}-", "-0", ",".join(["0-"] * 10_000), many):
        answer = shelf.get(id, range=f"bytes={asked}")

        problem(answer, 416, "range_refused")
        assert answer.headers["content-range"] == f"bytes */{len(content)}"
    assert shelf.get(id, range="bytes=9-1").status_code == 200
    assert shelf.get(id, range="pages=1-2").content == content


def test_a_result_has_a_head_too(shelf: Shelf):
    shelf.put(SMALL)
    [task] = shelf.site.rows()

    answer = shelf.client.head(f"/afterwards/tasks/{task.id}/result")

    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "4")


def test_an_empty_file_is_served(shelf: Shelf):
    id = shelf.put(b"")

    assert shelf.get(id).headers["content-length"] == "0"
    assert shelf.get(id, range="bytes=-5").status_code == 200
    assert shelf.get(id, range="bytes=0-").headers["content-range"] == "bytes */0"
    assert shelf.get(id, want_repr_digest="sha-256=1").status_code == 200


@BOTH
def test_conditions_are_honoured(shelf: Shelf, content: bytes):
    id = shelf.put(content)
    known = shelf.get(id).headers
    tag, date = known["etag"], known["last-modified"]

    for headers in ({"if_none_match": tag}, {"if_none_match": f'"x", W/{tag}'}, {"if_modified_since": date}):
        answer = shelf.get(id, **headers)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert shelf.get(id, method="HEAD", **headers).status_code == 304
    assert shelf.get(id, if_match=tag, if_none_match='"x"').status_code == 200
    problem(shelf.get(id, if_match='"x"'), 412, "precondition_failed")
    problem(shelf.get(id, if_unmodified_since="Tue, 14 Nov 2000 22:13:20 GMT"), 412, "precondition_failed")
    for good in (tag, date):
        assert shelf.get(id, range="bytes=1-2", if_range=good).content == content[1:3]
    for bad in ('"x"', f"W/{tag}", "Tue, 14 Nov 2000 22:13:20 GMT"):
        assert shelf.get(id, range="bytes=1-2", if_range=bad).content == content


@BOTH
def test_a_sum_is_worked_out_for_those_who_ask(shelf: Shelf, content: bytes):
    id = shelf.put(content)
    expected = f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"

    for wanted in ("sha-256=10", "sha-512=3, sha-256=1", "SHA-256", "unixsum=1,sha-256"):
        assert shelf.get(id, want_repr_digest=wanted).headers["repr-digest"] == expected
    assert shelf.get(id, want_repr_digest="sha-256=1", range="bytes=0-4").headers["repr-digest"] == expected
    assert shelf.get(id, method="HEAD", want_repr_digest="sha-256=1").headers["repr-digest"] == expected
    for not_wanted in ("sha-256=0", "sha-512=1", "blake3=1", "xsha-256=1", ""):
        assert "repr-digest" not in shelf.get(id, want_repr_digest=not_wanted).headers


def test_a_sum_of_other_bytes_is_told_to_nobody(shelf: Shelf):
    """A client that asks wants to know that it has what was stored."""
    id = shelf.put(LARGE)
    with open(shelf.path(id), "r+b") as file:
        file.write(b"!")

    for _ in range(2):
        problem(shelf.get(id, method="GET", want_repr_digest="sha-256=1"), 500, "damaged_file")


def test_a_sum_is_worked_out_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    id = shelf.put(LARGE)
    read: list[int] = []
    original = Outgoing.read
    shelf.get(id, method="HEAD", want_repr_digest="sha-256=1")

    def counted(self: Outgoing, span: Any) -> bytes:
        read.append(span.size)
        return original(self, span)

    monkeypatch.setattr(Outgoing, "read", counted)
    shelf.get(id, method="HEAD", want_repr_digest="sha-256=1")

    assert sum(read) <= 4096  # only what it is was looked at


@pytest.mark.parametrize("name", HOSTILE, ids=[str(number) for number in range(len(HOSTILE))])
def test_a_name_is_only_a_label(shelf: Shelf, name: str):
    answer = shelf.get(shelf.put(LARGE, name))

    header = answer.headers["content-disposition"]
    assert answer.content == LARGE
    assert header.startswith('attachment; filename="')
    assert len(header) < 1200
    assert "stolen" not in answer.headers
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("name", [None, "", "..", "\u202e"])
def test_a_file_without_a_name_has_its_id(shelf: Shelf, name: str | None):
    id = shelf.put(SMALL, name)

    assert shelf.get(id).headers["content-disposition"] == f'attachment; filename="{id}"'


@pytest.mark.parametrize(
    ("content", "name", "type", "shown"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a.png", "image/png", True),
        (b"just text", "a.txt", "text/plain; charset=utf-8", True),
        (b"%PDF-1.7\n" + bytes(50), "a.pdf", "application/pdf", False),
        (b"a,b\n", "a.csv", "text/csv; charset=utf-8", False),
        (b"<html><script>alert(1)</script>", "a.png", "application/octet-stream", False),
        (b"<svg onload='alert(1)'>", "a.svg", "application/octet-stream", False),
        (b"<?xml version='1.0'?><a/>", "a.xml", "application/octet-stream", False),
        (b"alert(1)", "a.js", "application/octet-stream", False),
        (bytes(range(256)), "a.html", "application/octet-stream", False),
    ],
)
def test_the_type_is_what_the_bytes_are_and_nothing_that_runs(
    shelf: Shelf, content: bytes, name: str, type: str, shown: bool
):
    id = shelf.put(content, name)

    assert shelf.get(id).headers["content-type"] == type
    assert shelf.get(id).headers["content-disposition"].startswith("attachment;")
    inline = shelf.get(id, "?inline=1")
    assert inline.headers["content-type"] == type
    assert inline.headers["content-disposition"].startswith("inline;" if shown else "attachment;")
    assert inline.headers["content-security-policy"].endswith("sandbox")


@pytest.mark.parametrize("id", ["x", "0" * 43, "%2e%2e", "%00", "a" * 5000])
def test_what_is_no_file_is_said_so(shelf: Shelf, id: str):
    problem(shelf.get(id), 404, "unknown_file")


def test_a_missing_or_damaged_file_is_a_problem_with_a_reason(shelf: Shelf):
    """Never a 500 without one, and never the start of an answer that cannot be ended."""
    id = shelf.put(LARGE)
    path = shelf.path(id)

    os.truncate(path, 1000)
    found = problem(shelf.get(id), 500, "damaged_file")
    assert "it has 1,000 bytes instead of 3,000,017" in found["detail"]
    assert str(shelf.site.data) not in found["detail"]
    path.unlink()
    path.symlink_to("/etc/passwd")
    problem(shelf.get(id), 500, "damaged_file")
    path.unlink()
    os.mkfifo(path)
    problem(shelf.get(id), 500, "damaged_file")
    path.unlink()
    for method in ("GET", "HEAD"):
        assert shelf.get(id, method=method).status_code == 500
    problem(shelf.get(id, if_none_match="*"), 500, "missing_file")
    assert shelf.open_files(id) == 0


@pytest.mark.parametrize(
    ("verdict", "status", "code"), [("held", 409, "file_held"), ("infected", 403, "file_infected")]
)
def test_what_a_scan_holds_back_is_not_given(shelf: Shelf, verdict: str, status: int, code: str):
    id = shelf.put(SMALL)
    with contextlib.closing(apsw.Connection(str(shelf.site.data / "afterwards.db"))) as database:
        database.set_busy_timeout(20_000)
        database.execute("UPDATE file SET verdict = ? WHERE id = ?", (verdict, id))

    for query in ("", "?" + shelf.site.afterwards.link(id, expires_in=60).partition("?")[2]):
        found = problem(shelf.get(id, query), status, code)
        assert id in found["detail"]


def test_a_signed_link_opens_one_file_until_its_time(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    id, other = shelf.put(SMALL), shelf.put(SMALL * 2)
    link = shelf.site.afterwards.link(id, expires_in=60)
    assert link.startswith(f"/afterwards/files/{id}?")

    assert shelf.client.get(link).content == SMALL
    assert shelf.client.head(link).status_code == 200
    problem(shelf.client.get(link.replace(id, other)), 403, "link_refused")
    problem(shelf.client.get(link + "&inline=1"), 403, "link_refused")
    problem(shelf.client.get(link.replace("expires=1", "expires=2")), 403, "link_refused")
    clock = shelf.site.afterwards._system.engine.clock
    now = clock.now()
    monkeypatch.setattr(type(clock), "now", lambda _: now + 100 * 1_000_000)
    problem(shelf.client.get(link), 403, "link_expired")


def test_a_link_for_a_file_that_is_none_is_refused_at_once(shelf: Shelf):
    with pytest.raises(ValueError, match="id of a file"):
        shelf.site.afterwards.link("../key", expires_in=60)
    with pytest.raises(ValueError, match="expires_in"):
        shelf.site.afterwards.link(new_id(), expires_in=0)


def signed(new_site: Any, **settings: Any) -> Any:
    return shelf_of(new_site("a", files="signed", **settings), "sendfile")


def test_where_links_are_wanted_an_id_alone_opens_nothing(new_site: Any):
    for shelf in signed(new_site, token="secret"):
        id = shelf.put(SMALL)

        problem(shelf.get(id), 403, "link_needed")
        problem(shelf.get(id, "?inline=1"), 403, "link_needed")
        assert shelf.get(id, method="HEAD").status_code == 403
        problem(shelf.get(id, "?expires=99999999999&signature=0"), 403, "link_refused")
        problem(shelf.get(id, "?%65xpires=99999999999"), 403, "link_refused")
        problem(shelf.get(id, authorization="Bearer wrong"), 401, "admin_only")
        problem(shelf.get(id, "?signature=", authorization="Bearer secret"), 403, "link_refused")
        assert shelf.get(id, authorization="Bearer secret").content == SMALL
        assert shelf.client.get(shelf.site.afterwards.link(id, expires_in=60)).content == SMALL
        shown = shelf.client.get(shelf.site.afterwards.link(id, expires_in=60, inline=True))
        assert shown.headers["content-disposition"].startswith("inline")


def test_an_application_that_knows_its_admins_is_asked(new_site: Any):
    def only_admins(who: str = "") -> None:
        if who != "admin":
            raise HTTPException(418, "no")

    for shelf in signed(new_site, admin=Depends(only_admins)):
        id = shelf.put(SMALL)

        assert shelf.get(id).status_code == 418
        assert shelf.get(id, "?who=admin").content == SMALL
        assert shelf.client.get(shelf.site.afterwards.link(id, expires_in=60)).content == SMALL


def test_a_policy_that_is_none_is_refused():
    with pytest.raises(ValueError, match="files='secret'"):
        Afterwards(files="secret")  # type: ignore[arg-type]


def test_the_server_sends_the_file_itself_where_it_can(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    """Or both ways would be one, and the other tests show nothing."""
    id = shelf.put(LARGE)
    blocks: list[int] = []
    original = downloads.Download._in_blocks

    async def noted(self: Any, *args: Any) -> None:
        blocks.append(1)
        await original(self, *args)

    monkeypatch.setattr(downloads.Download, "_in_blocks", noted)

    assert shelf.get(id).content == LARGE
    assert len(blocks) == (shelf.way == "blocks")
