"""Downloads that go wrong: clients that leave, stand still or come back, files that change or go, others in between."""

import hashlib
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

from afterwards._files.outgoing import Handover, Outgoing
from afterwards._files.sweep import remove
from afterwards._store.contract import ask_blocking
from afterwards._store.upkeep import Prune, Pruned
from afterwards._web import downloads
from support.data import until
from support.shelf import Raw, Shelf, shelf_of
from support.work import DEADLINE

LARGE = os.urandom(16 << 20)  # more than the buffers between two programs hold
LATER = 10**18  # microseconds: everything has been kept long enough by then


@pytest.fixture
def id(shelf: Shelf) -> str:
    return shelf.put(LARGE)


def prune(shelf: Shelf) -> Pruned:
    """What the pruner does when everything is old: rows first, bytes afterwards."""
    shelf.put(b"of the newest task")  # which stays, because no position in the log is used twice
    store = shelf.site.afterwards._system.store
    found: Pruned = ask_blocking(store, Prune(before=LATER, now=LATER, limit=1000))
    remove(found.files, shelf.site.data)
    return found


def test_a_cut_download_goes_on_where_it_was_cut(shelf: Shelf, id: str):
    """As curl and browsers do it: Range from where they are, If-Range with the tag they began with."""
    tag = shelf.get(id, method="HEAD").headers["etag"]
    have = b""
    while len(have) < len(LARGE):
        with Raw(shelf.port) as client:
            client.ask(id, f"Range: bytes={len(have)}-", f"If-Range: {tag}")
            head = client.head()
            assert head["status"] == "206"
            assert head["content-range"] == f"bytes {len(have)}-{len(LARGE) - 1}/{len(LARGE)}"
            have += client.body(min(random.randrange(1, len(LARGE) // 2), len(LARGE) - len(have)))
            client.reset()

    assert hashlib.sha256(have).digest() == hashlib.sha256(LARGE).digest()
    until(lambda: shelf.open_files(id) == 0)


def test_one_connection_serves_one_download_after_the_other(shelf: Shelf, id: str):
    """What comes after a body that the server sent itself is where it belongs, asked for at once or later."""
    with Raw(shelf.port) as client:
        for _ in range(2):
            client.ask(id)
            client.ask(id, "Range: bytes=0-9,100-109")
            client.ask(id, method="HEAD")
            client.ask(id, "Range: bytes=-7")

            assert client.head()["content-length"] == str(len(LARGE))
            assert client.body(len(LARGE)) == LARGE
            several = client.head()
            assert several["status"] == "206"
            assert client.body(int(several["content-length"])).endswith(b"--\r\n")
            assert client.head()["content-length"] == str(len(LARGE))
            assert client.head()["content-length"] == "7"
            assert client.body(7) == LARGE[-7:]


def test_a_client_that_leaves_leaves_nothing_open(shelf: Shelf, id: str):
    for _ in range(20):
        with Raw(shelf.port) as client:
            client.ask(id)
            client.head()
            client.body(random.randrange(1 << 16))
            client.reset()

    until(lambda: shelf.open_files(id) == 0, lambda: shelf.open_files(id))
    assert shelf.get(id).content == LARGE


def test_a_client_that_stands_still_is_cut_off(shelf: Shelf, id: str, monkeypatch: pytest.MonkeyPatch):
    """O1: it holds a thread for a moment and a descriptor until the limit, whatever it has asked for."""
    monkeypatch.setattr(downloads, "PATIENCE", 0.5)
    clients = [Raw(shelf.port, window=4096) for _ in range(20)]
    for client in clients:
        client.ask(id)
        assert client.head()["status"] == "200"

    until(lambda: shelf.open_files(id) == 0, lambda: shelf.open_files(id))

    for client in clients:
        if shelf.way == "sendfile":
            assert client.rest() < len(LARGE)
        client.reset()


def test_clients_that_stand_still_hold_up_nobody_else(shelf: Shelf, id: str):
    """There are more of them than threads that send."""
    clients = [Raw(shelf.port, window=4096) for _ in range(40)]
    for client in clients:
        client.ask(id)
        client.head()

    assert shelf.get(id).content == LARGE

    for client in clients:
        client.reset()
    until(lambda: shelf.open_files(id) == 0)


def test_a_slow_client_gets_it_all(shelf: Shelf, id: str):
    with Raw(shelf.port, window=8192) as client:
        client.ask(id, "Range: bytes=0-3999999")
        client.head()

        assert b"".join(client.body(50_000) for _ in range(80)) == LARGE[:4_000_000]


def test_a_file_that_is_removed_in_the_middle_is_still_sent_whole(shelf: Shelf, id: str):
    """Pruning looks at no downloads; what is open stays until it is closed."""
    with Raw(shelf.port, window=65_536) as client:
        client.ask(id)
        client.head()
        start = client.body(1000)

        assert prune(shelf).files == (id,)

        assert shelf.get(id).status_code == 404
        assert start + client.body(len(LARGE) - 1000) == LARGE
    until(lambda: shelf.open_files(id) == 0)


def test_downloads_while_files_are_pruned_are_whole_or_not_there(shelf: Shelf):
    contents = {shelf.put(content): content for content in (os.urandom(2_000_000) for _ in range(8))}
    begun = threading.Barrier(len(contents) + 1)

    def download(id: str) -> list[int]:
        statuses = []
        with httpx.Client(base_url=f"http://127.0.0.1:{shelf.port}", timeout=20) as client:
            begun.wait(DEADLINE)
            while not statuses or statuses[-1] == 200:
                answer = client.get(f"/afterwards/files/{id}")
                assert answer.status_code == 404 or (answer.status_code == 200 and answer.content == contents[id])
                statuses.append(answer.status_code)
        return statuses

    with ThreadPoolExecutor(len(contents)) as threads:
        downloads = [threads.submit(download, id) for id in contents]
        begun.wait(DEADLINE)
        assert sorted(prune(shelf).files) == sorted(contents)

        assert all(future.result()[-1] == 404 for future in downloads)


@pytest.mark.parametrize("change", ["shorter", "other"])
def test_a_file_that_changes_in_the_middle_breaks_the_connection(
    shelf: Shelf, id: str, change: str, caplog: pytest.LogCaptureFixture
):
    """The length has been promised, so an end before it is how the client learns of it."""
    with Raw(shelf.port, window=4096) as client:
        client.ask(id)
        assert client.head()["content-length"] == str(len(LARGE))
        client.body(1000)

        with shelf.path(id).open("r+b") as file:
            if change == "shorter":
                file.truncate(5_000_000)
            else:
                file.seek(15_000_000)
                file.write(b"something else")

        assert 1000 + client.rest() < len(LARGE)
    until(lambda: shelf.open_files(id) == 0)
    assert "was cut off" in caplog.text
    assert id in caplog.text


def test_many_downloads_at_once_are_each_whole(shelf: Shelf, id: str):
    def download(number: int) -> bool:
        start = number * 1000
        url = f"http://127.0.0.1:{shelf.port}/afterwards/files/{id}"
        return httpx.get(url, headers={"range": f"bytes={start}-"}, timeout=20).content == LARGE[start:]

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(download, range(32)))
    until(lambda: shelf.open_files(id) == 0)


def test_no_whole_file_is_in_memory(shelf: Shelf, id: str, monkeypatch: pytest.MonkeyPatch):
    """Every read is a block, and the server that sends it itself reads no more than what it is."""
    sizes: list[int] = []
    original = Outgoing.read

    def noted(self: Outgoing, span: Any) -> bytes:
        sizes.append(span.size)
        return original(self, span)

    monkeypatch.setattr(Outgoing, "read", noted)

    shelf.get(id)

    assert max(sizes) <= downloads.BLOCK
    assert sum(sizes) <= (4096 if shelf.way == "sendfile" else len(LARGE) + 4096)


def test_a_file_system_without_sendfile_is_read(new_site: Any, monkeypatch: pytest.MonkeyPatch):
    """Some have none; then the same thread reads, and nothing else changes."""

    def refused(*_: Any) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", refused)
    for shelf in shelf_of(new_site("a"), "sendfile"):
        id = shelf.put(LARGE)

        assert shelf.get(id).content == LARGE
        assert shelf.get(id, range="bytes=5-").content == LARGE[5:]


@pytest.mark.parametrize("way", ["sendfile", "blocks"])
def test_compression_in_between_leaves_files_alone(new_site: Any, way: str):
    """A packed file with a tag of the unpacked one would be put together wrongly by whoever resumes it."""
    site = new_site("a")
    site.app.add_middleware(GZipMiddleware)
    for shelf in shelf_of(site, way):
        for content in (b"text " * 1000, b"text " * 1_000_000):
            id = shelf.put(content, "a.txt")

            answer = shelf.get(id, accept_encoding="gzip")

            assert answer.headers["content-length"] == str(len(content))
            assert answer.content == content
            assert shelf.get(id, accept_encoding="gzip", range="bytes=5-9").content == content[5:10]


@pytest.mark.parametrize("way", ["sendfile", "blocks"])
def test_a_middleware_that_makes_its_own_messages_changes_nothing(new_site: Any, way: str):
    """It drops the offer without knowing, so the file goes out in blocks."""
    site = new_site("a")

    async def pass_on(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-passed"] = "yes"
        return response

    site.app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    for shelf in shelf_of(site, way):
        id = shelf.put(LARGE)

        answer = shelf.get(id, range="bytes=3-")

        assert answer.headers["x-passed"] == "yes"
        assert answer.content == LARGE[3:]
        until(lambda id=id, shelf=shelf: shelf.open_files(id) == 0)


def test_an_offer_is_taken_once_or_not_at_all(tmp_path: Any):
    """Somebody in between may keep a message and pass it on late, when the body has been sent otherwise."""
    file: Any = None
    early, late = Handover(file, [b"x"]), Handover(file, [b"x"])

    assert early.take()
    assert not early.take()
    assert not early.withdraw()
    assert late.withdraw()
    assert not late.take()
