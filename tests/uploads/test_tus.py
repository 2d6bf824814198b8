"""tus 1.0.0 as its document describes it, section by section, on a real server: uvicorn's own protocol, and ours."""

import base64
import hashlib
import itertools
import os
import zlib
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from afterwards._domain.ids import new_id
from afterwards._files.parts import part_path
from afterwards._files.staging import INLINE_BYTES
from support.site import until
from support.talking import Answer, wire
from support.uploads import BODY, TUS, UPLOADS


def problem(answer: Answer) -> dict[str, Any]:
    assert answer["content-type"] == "application/problem+json"
    found: dict[str, Any] = msgspec.json.decode(answer.body)
    assert found["status"] == answer.status
    assert len(found["detail"]) > 40
    return found


@pytest.mark.parametrize("size", [1, 70_000, INLINE_BYTES, INLINE_BYTES + 1, 3_000_000])
def test_a_file_arrives_in_one_request_after_its_creation(server, size):
    """Small ones rest in their row, large ones on the disk; both have the digest of what was sent."""
    content = os.urandom(size)
    where = server.create(size)
    assert server.offset(where) == 0

    answer = server.patch(where, 0, content)

    assert answer.status == 204
    assert answer["upload-offset"] == str(size)
    assert answer["tus-resumable"] == "1.0.0"
    assert server.content(where) == content
    assert server.offset(where) == size


def test_a_file_arrives_in_many_requests(server):
    content = os.urandom(1_000_000)
    where = server.create(len(content))

    for start in range(0, len(content), 170_001):
        assert server.offset(where) == start
        assert server.patch(where, start, content[start : start + 170_001]).status == 204

    assert server.content(where) == content
    assert not list((server.site.data / "uploads").iterdir())


def test_a_file_arrives_with_its_creation(server):
    """creation-with-upload: all of it, or the beginning."""
    content = os.urandom(600_000)
    for sent in (content[:1000], content[:500_000], content):
        where = server.create(len(sent), sent)
        assert server.content(where) == sent

    answer = server.ask("POST", UPLOADS, {**BODY, "Upload-Length": len(content)}, content[:400_000])
    assert answer["upload-offset"] == "400000"
    assert server.patch(answer["location"], 400_000, content[400_000:]).status == 204
    assert server.content(answer["location"]) == content


def test_an_empty_file_is_finished_when_it_is_created(server):
    where = server.create(0)
    assert server.ask("HEAD", where, TUS)["upload-length"] == "0"
    assert server.content(where) == b""


def test_the_server_tells_what_it_can(server):
    answer = server.ask("OPTIONS", UPLOADS)
    assert answer.status == 204
    assert answer["tus-version"] == "1.0.0"
    assert set(answer["tus-extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "checksum",
        "expiration",
        "termination",
        "concatenation",
    }
    assert "sha1" in answer["tus-checksum-algorithm"].split(",")


def test_another_version_is_refused_and_nothing_is_done(server):
    where = server.create(5)
    for method, path, body in (("POST", UPLOADS, None), ("HEAD", where, None), ("DELETE", where, None)):
        answer = server.ask(method, path, {"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, body)
        assert answer.status == 412
        assert answer["tus-version"] == "1.0.0"
    answer = server.ask("PATCH", where, {**BODY, "Tus-Resumable": "0.2.2", "Upload-Offset": 0}, b"hello")
    assert answer.status == 412
    assert server.ask("POST", UPLOADS, {"Upload-Length": "5"}).status == 412
    assert server.offset(where) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload-Length": "-1"},
        {"Upload-Length": "1e3"},
        {"Upload-Length": "1" * 40},
        {"Upload-Length": "5", "Upload-Defer-Length": "1"},
        {"Upload-Defer-Length": "2"},
        {"Upload-Length": "5", "Upload-Metadata": "name not_base64!"},
        {"Upload-Length": "5", "Upload-Metadata": "a YQ==,a YQ=="},
        {"Upload-Length": "5", "Upload-Metadata": "a" * 20_000},
        {"Upload-Length": "5", "Upload-Concat": "whole"},
        {"Upload-Concat": "final;"},
        {"Upload-Concat": "final;/etc/passwd"},
        {"Upload-Concat": f"final;/x/{new_id()}", "Upload-Length": "5"},
    ],
)
def test_a_creation_that_means_nothing_is_refused(server, headers):
    assert problem(server.ask("POST", UPLOADS, {**TUS, **headers}))["status"] == 400


def test_metadata_comes_back_as_it_was_sent_and_names_the_file(server):
    told = "filename " + base64.b64encode("ünï/../côde.pdf".encode()).decode() + ",filetype YXBwbGljYXRpb24vcGRm,empty"
    where = server.create(3, **{"Upload-Metadata": told})
    assert server.ask("HEAD", where, TUS)["upload-metadata"] == told

    server.patch(where, 0, b"abc")

    row = server.site.reads.file(where[-43:])
    assert row.name == "ünï/../côde.pdf"
    assert row.content_type == "application/pdf"
    document = msgspec.json.decode(server.ask("GET", where).body)
    assert document["name"] == row.name
    assert document["complete"] is True
    assert document["file"]["id"] == row.id


def test_a_type_that_could_forge_a_header_is_dropped(server):
    evil = base64.b64encode(b"text/html\r\nX-Evil: 1").decode()
    where = server.create(
        1, **{"Upload-Metadata": f"filetype {evil},filename {base64.b64encode(bytes([0xFF, 0, 65])).decode()}"}
    )
    server.patch(where, 0, b"a")
    row = server.site.reads.file(where[-43:])
    assert row.content_type is None
    assert row.name == "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}A"


def test_a_stale_offset_is_refused_and_told(server):
    where = server.create(10)
    server.patch(where, 0, b"hello")
    for given in (0, 4, 6, 10, 99):
        answer = server.patch(where, given, b"x")
        assert problem(answer)["code"] == "wrong_offset"
        assert answer.status == 409
        assert answer["upload-offset"] == "5"
    assert server.patch(where, 5, b"world").status == 204
    assert server.patch(where, 5, b"world").status == 409
    assert server.content(where) == b"helloworld"


def test_a_patch_of_another_type_or_without_an_offset_is_refused(server):
    where = server.create(5)
    assert server.ask("PATCH", where, {**TUS, "Upload-Offset": 0, "Content-Type": "text/plain"}, b"hello").status == 415
    assert server.ask("PATCH", where, BODY, b"hello").status == 400
    assert server.ask("PATCH", where, {**BODY, "Upload-Offset": "x"}, b"hello").status == 400
    assert server.offset(where) == 0


def test_more_than_was_announced_is_refused_before_it_is_read(server):
    where = server.create(5)
    answer = server.patch(where, 0, b"hello world")
    assert problem(answer)["code"] == "inconsistent_length"
    assert server.offset(where) == 0
    assert server.patch(where, 0, b"hello").status == 204


def test_more_than_was_announced_ends_an_upload_when_it_came_in_chunks(server):
    """Nobody knows any more which of the two is right, and what came is part of no file."""
    where = server.create(300_000)
    with wire(server.port) as one:
        one.start("PATCH", where, {**BODY, "Upload-Offset": 0, "Transfer-Encoding": "chunked"})
        try:
            for _ in range(5):
                one.send(b"186a0\r\n" + bytes(100_000) + b"\r\n")
            one.send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert one.answer("PATCH").status == 400
    assert server.ask("HEAD", where, TUS).status == 410
    assert server.content(where) is None
    assert not list((server.site.data / "uploads").iterdir())


def test_a_body_in_chunks_arrives(server):
    content = os.urandom(700_000)
    where = server.create(len(content))
    with wire(server.port) as one:
        one.start("PATCH", where, {**BODY, "Upload-Offset": 0, "Transfer-Encoding": "chunked"})
        for start in range(0, len(content), 7000):
            piece = content[start : start + 7000]
            one.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        one.send(b"0\r\n\r\n")
        assert one.answer("PATCH").status == 204
    assert server.content(where) == content


def test_the_length_may_come_later_and_never_changes(server):
    where = server.create(Upload_Defer_Length="1")
    answer = server.ask("HEAD", where, TUS)
    assert answer["upload-defer-length"] == "1"
    assert answer.get("upload-length") is None
    server.patch(where, 0, b"hello")

    assert server.patch(where, 5, b" ", Upload_Length="3").status == 400  # less than there is
    assert server.patch(where, 5, b" ", Upload_Length="11").status == 204
    assert server.ask("HEAD", where, TUS)["upload-length"] == "11"
    assert server.patch(where, 6, b"world", Upload_Length="12").status == 400
    assert server.patch(where, 6, b"world").status == 204
    assert server.content(where) == b"hello world"


def test_a_deferred_upload_ends_with_an_empty_request(server):
    where = server.create(Upload_Defer_Length="1")
    server.patch(where, 0, b"hello")
    assert server.patch(where, 5, b"", Upload_Length="5").status == 204
    assert server.content(where) == b"hello"


CHECKSUMS = {
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "md5": lambda data: hashlib.md5(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "blake3": lambda data: blake3(data).digest(),
}


@pytest.mark.parametrize("algorithm", CHECKSUMS)
@pytest.mark.parametrize("size", [1000, 600_000])
def test_a_checksum_lets_nothing_damaged_in(server, algorithm, size):
    """460, and not a byte of that request is kept; the same bytes with their own checksum are."""
    content = os.urandom(2 * size)
    where = server.create(len(content))
    sums = [base64.b64encode(CHECKSUMS[algorithm](part)).decode() for part in (content[:size], content[size:])]
    assert server.patch(where, 0, content[:size], Upload_Checksum=f"{algorithm} {sums[0]}").status == 204

    wrong = server.patch(where, size, content[size:], Upload_Checksum=f"{algorithm} {sums[0]}")

    assert wrong.status == 460
    assert problem(wrong)["code"] == "wrong_checksum"
    assert server.offset(where) == size
    assert server.patch(where, size, content[size:], Upload_Checksum=f"{algorithm} {sums[1]}").status == 204
    assert server.content(where) == content


def test_a_small_whole_file_with_a_wrong_checksum_is_not_kept(server):
    where = server.create(5)
    wrong = base64.b64encode(bytes(20)).decode()
    assert server.patch(where, 0, b"hello", Upload_Checksum=f"sha1 {wrong}").status == 460
    assert server.offset(where) == 0
    assert server.content(where) is None
    answer = server.ask("POST", UPLOADS, {**BODY, "Upload-Length": 5, "Upload-Checksum": f"sha1 {wrong}"}, b"hello")
    assert answer.status == 460


@pytest.mark.parametrize("checksum", ["sha1", "sha1 abc", "whirlpool YQ==", "sha1 YQ==", "crc32 YWFhYWE="])
def test_a_checksum_that_is_none_is_refused(server, checksum):
    where = server.create(5)
    assert server.patch(where, 0, b"hello", Upload_Checksum=checksum).status == 400
    assert server.offset(where) == 0


def test_bytes_whose_checksum_never_came_to_be_compared_are_not_kept(server):
    """The connection ends in the middle: nobody can tell whether they are right."""
    content = os.urandom(900_000)
    where = server.create(len(content))
    server.patch(where, 0, content[:300_000])
    with wire(server.port) as one:
        checksum = "sha1 " + base64.b64encode(hashlib.sha1(content[300_000:]).digest()).decode()
        one.start("PATCH", where, {**BODY, "Upload-Offset": 300_000, "Upload-Checksum": checksum}, 600_000)
        one.send(content[300_000:700_000])
    assert server.offset(where) == 300_000
    assert server.patch(where, 300_000, content[300_000:], Upload_Checksum=checksum).status == 204
    assert server.content(where) == content


def test_what_came_before_the_connection_ended_is_kept(server):
    content = os.urandom(2_000_000)
    where = server.create(len(content))
    with wire(server.port) as one:
        one.start("PATCH", where, {**BODY, "Upload-Offset": 0}, len(content))
        one.send(content[:1_234_567])
        until(lambda: server.is_written(where))
    until(lambda: not server.is_written(where))
    kept = server.offset(where)
    assert kept == 1_234_567 or (not server.ours and kept < 1_234_567)
    assert server.patch(where, kept, content[kept:]).status == 204
    assert server.content(where) == content


def test_what_came_of_a_small_file_is_kept_too(server):
    """One that would have gone into its row, had it come whole."""
    if not server.ours:
        pytest.skip("uvicorn's own protocol forgets what it has not handed over when a client leaves")
    where = server.create(200_000)
    with wire(server.port) as one:
        one.start("PATCH", where, {**BODY, "Upload-Offset": 0}, 200_000)
        one.send(b"a" * 90_000)
        until(lambda: server.is_written(where))
    until(lambda: server.site.reads.upload(where[-43:]).offset == 90_000)
    assert server.patch(where, 90_000, b"b" * 110_000).status == 204
    assert server.content(where) == b"a" * 90_000 + b"b" * 110_000


def test_a_small_file_that_comes_whole_leaves_nothing_of_an_earlier_try(server):
    """Its server was killed before anything of it was on record, and the client did not ask where to go on."""
    where = server.create(200_000)
    part = part_path(where[-43:], server.site.data)
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(b"y" * 150_000)
    assert server.patch(where, 0, b"x" * 200_000).status == 204
    assert server.content(where) == b"x" * 200_000
    assert not part.exists()


def test_a_terminated_upload_is_gone_at_once(server):
    content = os.urandom(500_000)
    unfinished, finished = server.create(len(content)), server.create(len(content))
    server.patch(unfinished, 0, content[:400_000])
    server.patch(finished, 0, content)

    for where in (unfinished, finished):
        assert server.ask("DELETE", where, TUS).status == 204
        assert server.ask("HEAD", where, TUS).status == 410
        assert server.patch(where, 400_000, content[400_000:]).status == 410
        assert server.ask("DELETE", where, TUS).status == 410
        assert server.content(where) is None
    assert server.site.files() == []
    assert not list((server.site.data / "uploads").iterdir())


def test_unknown_ids_and_what_is_no_id_are_not_found(server):
    for id in (new_id(), "..", "%2e%2e%2fkey", "x" * 300):
        for method in ("HEAD", "GET", "DELETE"):
            assert server.ask(method, f"{UPLOADS}/{id}", TUS).status == 404
        assert server.patch(f"{UPLOADS}/{id}", 0, b"x").status == 404


def test_a_post_can_stand_for_other_methods(server):
    where = server.create(5)
    answer = server.ask("POST", where, {**BODY, "X-HTTP-Method-Override": "PATCH", "Upload-Offset": 0}, b"hello")
    assert answer.status == 204
    assert server.content(where) == b"hello"
    assert server.ask("POST", where, {**TUS, "X-HTTP-Method-Override": "DELETE"}).status == 204
    assert server.ask("POST", server.create(5), TUS).status == 400


def test_parts_are_joined_in_the_order_that_is_asked_for(server):
    content = os.urandom(1_500_000)
    cuts = [0, 1, 400_000, 400_000, 1_500_000]
    parts = [content[start:end] for start, end in itertools.pairwise(cuts)]
    where = [server.create(len(part), Upload_Concat="partial") for part in parts]
    for part, one in reversed(list(zip(parts, where, strict=True))):
        if part:
            assert server.patch(one, 0, part).status == 204
    assert server.ask("HEAD", where[0], TUS)["upload-concat"] == "partial"
    assert server.content(where[0]) is None

    final = server.create(Upload_Concat=f"final;{' '.join(where)}")

    answer = server.ask("HEAD", final, TUS)
    assert answer["upload-length"] == answer["upload-offset"] == "1500000"
    assert answer["upload-concat"] == f"final;{' '.join(where)}"
    assert server.content(final) == content
    assert server.patch(final, 1_500_000, b"x").status == 403
    assert [server.ask("HEAD", one, TUS).status for one in where] == [410] * 4
    assert not list((server.site.data / "uploads").iterdir())


def test_a_part_may_be_used_twice_in_one_file_and_small_ones_rest_in_the_row(server):
    one = server.create(2, Upload_Concat="partial")
    server.patch(one, 0, b"ab")
    final = server.create(Upload_Concat=f"final;http://127.0.0.1:{server.port}{one} {one}")
    assert server.content(final) == b"abab"


def test_unfinished_unknown_and_whole_uploads_are_no_parts(server):
    finished, unfinished, whole = (server.create(2, Upload_Concat="partial") for _ in range(2)), None, server.create(2)
    first, second = finished
    server.patch(first, 0, b"ab")
    server.patch(second, 0, b"a")
    server.patch(whole, 0, b"ab")
    for parts, status in (
        (f"{first} {second}", 409),
        (f"{first} {whole}", 409),
        (f"{first} {UPLOADS}/{new_id()}", 404),
    ):
        assert server.ask("POST", UPLOADS, {**TUS, "Upload-Concat": f"final;{parts}"}).status == status
    assert unfinished is None
    server.patch(second, 1, b"b")
    assert server.content(server.create(Upload_Concat=f"final;{first} {second}")) == b"abab"


def test_a_plain_post_of_a_file_is_an_upload_too(server):
    """What `curl --data-binary` sends; the answer tells where the file is."""
    for content in (b"hello", os.urandom(700_000)):
        headers = {"Content-Type": "image/png", "Content-Disposition": "attachment; filename*=UTF-8''%C3%A4.png"}
        answer = server.ask("POST", UPLOADS, headers, content)
        document = msgspec.json.decode(answer.body)
        assert answer.status == 201
        assert (document["name"], document["content_type"], document["size"]) == ("ä.png", "image/png", len(content))
        assert server.content(answer["location"]) == content
    assert server.ask("POST", UPLOADS, {"Content-Type": "multipart/form-data; boundary=x"}, b"--x--").status == 415
    assert server.ask("POST", UPLOADS).status == 400


def test_a_plain_post_that_is_cut_off_leaves_nothing(server):
    with wire(server.port) as one:
        one.start("POST", UPLOADS, {}, 900_000)
        one.send(bytes(500_000))
        until(lambda: any((server.site.data / "uploads").glob("*.part")))
    until(lambda: not any((server.site.data / "uploads").iterdir()))
    assert server.site.files() == []


def test_answers_can_be_read_by_scripts_of_sites_that_the_application_lets_in(server):
    exposed = server.ask("HEAD", server.create(5), TUS)["access-control-expose-headers"]
    assert {"Location", "Upload-Offset", "Upload-Length"} <= set(exposed.split(", "))
