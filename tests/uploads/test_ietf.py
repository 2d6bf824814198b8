"""The IETF's resumable uploads (drafts up to -12, and the older ones that clients speak), on a real server.

The interim answers 104 are there where the server can send them: under our protocol.
"""

import base64
import hashlib
import os
from typing import Any

import msgspec
import pytest

from support.site import until
from support.talking import Answer, wire
from support.uploads import UPLOADS

NOW = {"Upload-Draft-Interop-Version": "8"}
PART = {**NOW, "Content-Type": "application/partial-upload"}
IANA = "https://iana.org/assignments/http-problem-types#"


def append(server: Any, where: str, offset: int, body: bytes, *, ends: bool, **headers: str) -> Answer:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    state = {"Upload-Offset": offset, "Upload-Complete": "?1" if ends else "?0"}
    return server.ask("PATCH", where, {**PART, **state, **more}, body)


def begin(server: Any, body: bytes = b"", **headers: str) -> str:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = server.ask("POST", UPLOADS, {**NOW, "Upload-Complete": "?0", **more}, body)
    assert answer.status == 201, answer
    assert answer["upload-complete"] == "?0"
    assert answer["upload-limit"]
    return answer["location"]


def state(server: Any, where: str) -> tuple[int, str, str | None]:
    answer = server.ask("HEAD", where, NOW)
    assert answer.status == 204
    assert answer["cache-control"] == "no-store"
    assert answer["upload-limit"]
    return int(answer["upload-offset"]), answer["upload-complete"], answer.get("upload-length")


@pytest.mark.parametrize("size", [0, 5, 200_000, 900_000])
def test_a_whole_file_in_one_request(server, size):
    content = os.urandom(size)
    headers = {**NOW, "Upload-Complete": "?1", "Content-Type": "image/png"}
    headers["Content-Disposition"] = "inline; filename=\"x.jpg\"; filename*=UTF-8''file%20name.jpg"
    answer = server.ask("POST", UPLOADS, headers, content)

    assert answer.status == 201
    assert answer["upload-complete"] == "?1"
    assert server.content(answer["location"]) == content
    document = msgspec.json.decode(answer.body)
    assert (document["name"], document["content_type"], document["state"]) == ("file name.jpg", "image/png", "finished")
    assert state(server, answer["location"]) == (size, "?1", str(size))


def test_a_file_in_several_requests_of_unknown_length(server):
    where = begin(server, b"hello ")
    assert state(server, where) == (6, "?0", None)
    middle = append(server, where, 6, b"wide ", ends=False)
    assert (middle.status, middle["upload-complete"], middle["upload-offset"]) == (204, "?0", "11")

    last = append(server, where, 11, b"world", ends=True)

    assert (last.status, last["upload-complete"]) == (200, "?1")
    assert state(server, where) == (16, "?1", "16")
    assert server.content(where) == b"hello wide world"


def test_reaching_the_length_does_not_end_an_upload_but_saying_so_does(server):
    where = begin(server, Upload_Length="5")
    append(server, where, 0, b"hello", ends=False)
    assert state(server, where) == (5, "?0", "5")
    assert server.content(where) is None

    assert append(server, where, 5, b"", ends=True).status == 200
    assert server.content(where) == b"hello"
    assert append(server, where, 5, b"", ends=True).status == 200  # the answer was lost, and is given again


def test_the_address_comes_before_the_body_and_progress_while_it_comes(server):
    """104: with the address at first, with the offset later; only to clients that know the draft."""
    if not server.ours:
        pytest.skip("uvicorn's own protocol sends no interim answers")
    content = os.urandom(1_000_000)
    with wire(server.port) as one:
        one.start("POST", UPLOADS, {**NOW, "Upload-Complete": "?1"}, len(content))
        first = one.head()
        assert first.status == 104
        assert first["upload-draft-interop-version"] == "8"
        assert first["upload-limit"]
        one.send(content[:400_000])
        until(lambda: server.is_written(first["location"]))
    until(lambda: not server.is_written(first["location"]))
    assert state(server, first["location"]) == (400_000, "?0", "1000000")
    last = append(server, first["location"], 400_000, content[400_000:], ends=True)
    assert last.status == 200
    assert all("location" not in one.headers for one in last.interim)
    assert server.content(first["location"]) == content


def test_progress_is_told_in_interim_answers(server, monkeypatch):
    if not server.ours:
        pytest.skip("uvicorn's own protocol sends no interim answers")
    monkeypatch.setattr("afterwards._files.incoming.SYNC_BYTES", 300_000)
    where = begin(server, Upload_Length="2000000")
    with wire(server.port) as one:
        one.start("PATCH", where, {**PART, "Upload-Offset": 0, "Upload-Complete": "?1"}, 2_000_000)
        one.send(bytes(1_000_000))
        told = one.head()
        assert told.status == 104
        assert 0 < int(told["upload-offset"]) <= 1_000_000
        assert "location" not in told.headers
        assert server.site.reads.upload(where[-43:]).offset >= int(told["upload-offset"])
        one.send(bytes(1_000_000))
        assert one.answer("PATCH").status == 200


@pytest.mark.parametrize("version", [None, "2", "9", "x"])
def test_clients_of_another_draft_get_no_interim_answer(server, version):
    headers = {"Upload-Complete": "?1", **({} if version is None else {"Upload-Draft-Interop-Version": version})}
    answer = server.ask("POST", UPLOADS, headers, bytes(400_000))
    assert answer.status == 201
    assert answer.interim == []
    assert server.content(answer["location"]) == bytes(400_000)


def test_a_wrong_offset_says_the_right_one(server):
    where = begin(server, b"hello")
    answer = append(server, where, 3, b"x", ends=False)
    assert answer.status == 409
    assert (answer["upload-offset"], answer["upload-complete"]) == ("5", "?0")
    problem = msgspec.json.decode(answer.body)
    assert problem["type"] == f"{IANA}mismatching-upload-offset"
    assert (problem["expected-offset"], problem["provided-offset"]) == (5, 3)
    assert append(server, where, 5, b" world", ends=True).status == 200


def test_lengths_that_contradict_each_other_are_refused(server):
    headers = {**NOW, "Upload-Complete": "?1", "Upload-Length": "7"}
    answer = server.ask("POST", UPLOADS, headers, b"hello")
    assert answer.status == 400
    assert answer["upload-complete"] == "?0"
    assert msgspec.json.decode(answer.body)["type"] == f"{IANA}inconsistent-upload-length"

    where = begin(server, Upload_Length="10")
    assert append(server, where, 0, b"hello", ends=False, Upload_Length="11").status == 400
    assert server.ask("HEAD", where, NOW).status == 410  # nobody knows which of the two is right


def test_more_than_the_length_ends_the_upload(server):
    where = begin(server, b"hello", Upload_Length="10")
    assert append(server, where, 5, b" world!", ends=False).status == 400
    assert server.ask("HEAD", where, NOW).status == 410


def test_a_complete_upload_takes_nothing_more(server):
    where = server.ask("POST", UPLOADS, {**NOW, "Upload-Complete": "?1"}, b"hello")["location"]
    answer = append(server, where, 5, b"!", ends=True)
    assert answer.status == 400
    assert msgspec.json.decode(answer.body)["type"] in (f"{IANA}completed-upload", f"{IANA}inconsistent-upload-length")
    assert server.content(where) == b"hello"


def test_headers_that_are_missing_or_no_structured_values_are_refused(server):
    where = begin(server)
    assert server.ask("PATCH", where, {**PART, "Upload-Complete": "?1"}, b"x").status == 400
    assert server.ask("PATCH", where, {**PART, "Upload-Offset": 0}, b"x").status == 400
    assert server.ask("PATCH", where, {**PART, "Upload-Offset": 0, "Upload-Complete": "true"}, b"x").status == 400
    assert server.ask("PATCH", where, {**NOW, "Upload-Offset": 0, "Upload-Complete": "?1"}, b"x").status == 415
    assert state(server, where) == (0, "?0", None)


@pytest.mark.parametrize("version", [NOW, {"Upload-Draft-Interop-Version": "3"}, {}], ids=str)
@pytest.mark.parametrize("told", ["?2", "", "true", "?1, ?0"])
def test_what_does_not_say_whether_it_is_complete_creates_nothing(server, version, told):
    """As a plain upload it would be finished, with the first part of a file in it."""
    name = "Upload-Incomplete" if version.get("Upload-Draft-Interop-Version") == "3" else "Upload-Complete"
    answer = server.ask("POST", UPLOADS, {**version, name: told}, b"the first part")
    assert answer.status == 400
    assert name in msgspec.json.decode(answer.body)["detail"]
    assert begin(server, b"x", Upload_Complete="?0;why=unknown")


def test_the_digest_of_the_whole_is_compared_at_the_end(server):
    content = os.urandom(700_000)
    right = base64.b64encode(hashlib.sha256(content).digest()).decode()
    for digest, status in ((right, 200), (base64.b64encode(bytes(32)).decode(), 400)):
        where = begin(server, content[:300_000], Repr_Digest=f"sha-256=:{digest}:")
        answer = append(server, where, 300_000, content[300_000:], ends=True)
        assert answer.status == status
    assert msgspec.json.decode(answer.body)["type"] == f"{IANA}digest-mismatching-values"
    assert server.ask("HEAD", where, NOW).status == 410
    assert server.content(where) is None


def test_the_digest_of_a_request_lets_nothing_damaged_in(server):
    where = begin(server, b"hello")
    right = base64.b64encode(hashlib.sha512(b" world").digest()).decode()
    wrong = base64.b64encode(bytes(64)).decode()
    assert append(server, where, 5, b" world", ends=True, Content_Digest=f"sha-512=:{wrong}:").status == 400
    assert state(server, where)[:2] == (5, "?0")
    assert append(server, where, 5, b" world", ends=True, Content_Digest=f"md9=:YQ==:, sha-512=:{right}:").status == 200
    assert server.content(where) == b"hello world"
    assert (
        server.ask("POST", UPLOADS, {**NOW, "Upload-Complete": "?1", "Content-Digest": "md9=:YQ==:"}, b"x").status
        == 400
    )


def test_a_digest_is_told_to_who_wants_it(server):
    headers = {**NOW, "Upload-Complete": "?1", "Want-Repr-Digest": "sha-512=0, sha-256=3, unknown=9"}
    for content in (b"hello", os.urandom(500_000)):
        answer = server.ask("POST", UPLOADS, headers, content)
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert answer["repr-digest"] == f"sha-256=:{digest}:"


def test_limits_are_told_in_advance(server):
    assert server.ask("OPTIONS", UPLOADS)["upload-limit"] == "min-size=0"


def test_cancelled_means_gone(server):
    where = begin(server, b"hello")
    assert server.ask("DELETE", where).status == 204
    assert server.ask("HEAD", where, NOW).status == 410
    assert append(server, where, 5, b"x", ends=True).status == 410


def test_a_client_of_a_protocol_may_get_the_offset_too(server):
    where = begin(server, b"hello")
    answer = server.ask("GET", where, NOW)
    assert (answer.status, answer["upload-offset"], answer["upload-complete"]) == (200, "5", "?0")
    assert msgspec.json.decode(answer.body)["offset"] == 5


def test_the_clients_of_ios_17_say_it_the_other_way_round(server):
    """Draft -01, interop version 3: `Upload-Incomplete`, and no media type for what is appended."""
    old = {"Upload-Draft-Interop-Version": "3"}
    answer = server.ask("POST", UPLOADS, {**old, "Upload-Incomplete": "?1"}, b"hello ")
    assert (answer.status, answer["upload-incomplete"]) == (201, "?1")
    headers = {**old, "Upload-Incomplete": "?0", "Upload-Offset": 6}
    answer = server.ask("PATCH", answer["location"], headers, b"world")
    assert (answer.status, answer["upload-incomplete"]) == (200, "?0")


def test_both_protocols_may_be_used_on_one_upload(server):
    where = begin(server, b"hello ")
    assert server.patch(where, 6, b"wo").status == 204
    assert append(server, where, 8, b"rld", ends=True).status == 200
    assert server.content(where) == b"hello world"
