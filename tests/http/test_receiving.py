"""Uploads over real connections, by both ways: a thread that reads the socket, and the event loop.

One suite for both, because a program must not be able to tell which one it was: the same bytes, rows and errors.
"""

import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from support import work
from support.server import serving
from support.site import Site, until
from support.wire import BOUNDARY, WAYS, Wire, descriptors, digest, form, head, part, receiving, wire

pytestmark = pytest.mark.fastapi

SIZES = [0, 1, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 524_288, 1_048_576, 1_048_577, 5_000_003]


@pytest.fixture(params=WAYS)
def port(request: pytest.FixtureRequest, new_site: Any) -> Iterator[int]:
    request.getfixturevalue("new_start")
    site = receiving(new_site("a"))
    request.node.site = site
    with serving(site, **WAYS[request.param]) as port:
        yield port


@pytest.fixture
def site(request: pytest.FixtureRequest, port: int) -> Site:
    return request.node.site


def test_every_size_arrives_over_one_connection(site: Site, port: int):
    """Each side of every limit on the way, and the connection goes on after each."""
    contents = [random.Random(size).randbytes(size) for size in SIZES]
    with wire(port) as client:
        for size, content in zip(SIZES, contents, strict=True):
            body = form(part(b"before", field=b"note", name=None), part(content))
            answer = client.send(head("/files", len(body)) + body).answer()

            assert answer.status == 200, answer
            assert answer.json() == {"files": [["a.bin", size, digest(content)]], "note": "before"}
    site.settled(len(SIZES))

    assert sorted(work.journal) == sorted(("a.bin", digest(content)) for content in contents)


def near_delimiters(rng: random.Random, size: int) -> bytes:
    """Bytes full of what looks like the end of the part."""
    whole = b"\r\n--" + BOUNDARY
    pieces = [whole[:at] for at in range(1, len(whole))] + [b"\r", b"\n", b"-", b"--" + BOUNDARY, whole[:-1] + b"\0"]
    found = bytearray()
    while len(found) < size:
        found += rng.choice(pieces)
        if rng.random() < 0.01:
            found += rng.randbytes(rng.randrange(300_000))
    while whole in found:
        found = found.replace(whole, b"")
    return bytes(found[:size])


@pytest.mark.parametrize("seed", range(4))
def test_what_looks_like_a_delimiter_is_data(site: Site, port: int, seed: int):
    """Wherever a block ends."""
    rng = random.Random(seed)
    contents = [near_delimiters(rng, rng.choice([0, 100, 70_000, 400_000, 1_500_000])) for _ in range(3)]
    body = form(*(part(content) for content in contents))
    with wire(port) as client:
        client.send(head("/files", len(body)))
        at = 0
        while at < len(body):
            step = rng.choice([1, 100, 65_536, 262_144, 1_000_000])
            client.send(body[at : at + step])
            at += step
        answer = client.answer()

    assert [file[2] for file in answer.json()["files"]] == [digest(content) for content in contents]


@pytest.mark.parametrize("size", [10, 100_000, 400_000, 3_000_000])
def test_a_pipelined_request_is_answered_next(site: Site, port: int, size: int):
    """It may be in the same packet as the end of the body before it."""
    body = form(part(b"x" * size))
    with wire(port) as client:
        client.send(head("/files", len(body)) + body + b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = [client.answer(), client.answer()]

    assert [answer.status for answer in answers] == [200, 200]
    assert (answers[0].json()["files"][0][1], answers[1].json()) == (size, "pong")


@pytest.mark.parametrize("size", [10, 400_000])
def test_the_body_is_asked_for_when_it_is_wanted(site: Site, port: int, size: int):
    """`Expect: 100-continue`, which curl sends with anything large."""
    body = form(part(b"x" * size))
    with wire(port) as client:
        assert client.send(head("/files", len(body), b"Expect: 100-continue")).answer().status == 100
        answer = client.send(body).answer()

    assert answer.json()["files"][0][1] == size


def test_another_request_is_answered_while_a_body_arrives(site: Site, port: int):
    body = form(part(os.urandom(3_000_000)))
    with wire(port) as slow, wire(port) as other:
        slow.send(head("/files", len(body)) + body[:1_500_000])
        for _ in range(3):
            assert other.send(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").answer().json() == "pong"
        answer = slow.send(body[1_500_000:]).answer()

    assert answer.status == 200


def test_many_that_pause_hold_nobody_up(site: Site, port: int):
    """More of them than there are threads; a thread is given back when no data comes."""
    body = form(part(os.urandom(600_000)))
    paused = [Wire(port).send(head("/files", len(body)) + body[:400_000]) for _ in range(40)]
    try:
        with wire(port) as client:
            assert client.send(head("/files", len(body)) + body).answer().status == 200
        assert [client.send(body[400_000:]).answer().status for client in paused] == [200] * 40
    finally:
        for client in paused:
            client.close()


def cut(site: Site, port: int, connections: int) -> None:
    """Send so many uploads and cut each at a random byte, gently or not."""
    rng = random.Random(connections)
    with wire(port) as client:
        client.send(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").answer()
    before = descriptors()
    started = 0
    for _ in range(connections):
        size = rng.choice([100, 70_000, 300_000, 2_000_000])
        body = form(part(b"x" * (size // 2)), part(rng.randbytes(size // 2)))
        whole = head("/files", len(body)) + body
        at = rng.randrange(len(whole))
        client = Wire(port).send(whole[:at])
        started += at >= len(whole) - len(body)
        if rng.random() < 0.5:  # a reset
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif rng.random() < 0.5:
            client.socket.shutdown(socket.SHUT_WR)
        client.close()

    site.wait_for_requests(started + 1)
    until(lambda: site.files() == [], site.files)
    until(lambda: descriptors() <= before + SPARE, lambda: (before, descriptors()))
    assert site.rows() == []


SPARE = 4  # descriptors of the database's readers, made when first needed


def test_cut_connections_leave_nothing(site: Site, port: int):
    """No task, no byte, no descriptor."""
    cut(site, port, 60)


@pytest.mark.torture
def test_a_thousand_cut_connections_leave_nothing(site: Site, port: int):
    cut(site, port, 1_000)


def test_a_full_disk_is_507_and_its_room_comes_back(new_site: Any, tiny_disk: Any):
    """In the middle of the body; and nothing has to be restarted."""
    for way in WAYS.values():
        site = receiving(Site(tiny_disk / "data"))
        try:
            with serving(site, **way) as port, wire(port) as client:
                small = form(part(b"x" * 1_000_000))
                assert client.send(head("/files", len(small)) + small).answer().status == 200
                large = form(part(b"x" * 24_000_000))
                with wire(port) as unlucky:
                    unlucky.send(head("/files", len(large)))
                    try:
                        unlucky.send(large)
                    except (ConnectionResetError, BrokenPipeError):
                        pass  # refused in the middle
                    answer = unlucky.answer()
                assert answer.status == 507
                assert "no room left" in answer.json()["detail"]
                assert str(tiny_disk) not in answer.body.decode()
                until(lambda site=site: len(site.files()) <= 1, site.files)
                with wire(port) as lucky:
                    assert lucky.send(head("/files", len(small)) + small).answer().status == 200
            site.settled(2)
        finally:
            site.close()
        for path in site.files():
            path.unlink()
