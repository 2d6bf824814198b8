"""Stored files behind a real server, by both ways in which their bytes can leave."""

import io
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import UploadFile

from afterwards import BackgroundTasks
from afterwards._domain.pace import Pace
from afterwards._files.stored import path_of
from afterwards.server import HttpProtocol
from support import work
from support.data import until
from support.server import serving
from support.site import Site
from support.work import DEADLINE


class Impatient(HttpProtocol):
    """Our protocol, which cuts off a client that stands still for half a second."""

    pace = Pace(stall=0.5, rate=1.0, grace=60.0)


PROTOCOLS: dict[str, Any] = {
    "sendfile": Impatient,  # the server sends the file itself
    "blocks": "httptools",  # any other server: it is read and sent in blocks
}


class Shelf:
    """An application whose files are put there by name and content, and its server."""

    def __init__(self, site: Site, port: int, way: str) -> None:
        self.site = site
        self.port = port
        self.way = way
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE)
        self._next: tuple[str | None, bytes] = ("", b"")

        @site.app.post("/put")
        async def put(background_tasks: BackgroundTasks) -> str:
            name, content = self._next
            return background_tasks.add_task(work.read_upload, UploadFile(io.BytesIO(content), filename=name)).id

    def put(self, content: bytes, name: str | None = "a.bin") -> str:
        """Store a file and return its id."""
        self._next = (name, content)
        task = self.client.post("/put").raise_for_status().json()
        until(lambda: self.client.get(f"/afterwards/tasks/{task}").json()["state"] == "succeeded")
        id: str = self.client.get(f"/afterwards/tasks/{task}").json()["files"][0]["id"]
        return id

    def path(self, id: str) -> Path:
        """Where its bytes are on the disk."""
        return path_of(id, self.site.data)

    def get(self, id: str, query: str = "", method: str = "GET", **headers: str) -> httpx.Response:
        """Ask for a file; `if_range=...` becomes `If-Range: ...`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.request(method, f"/afterwards/files/{id}{query}", headers=named)

    def open_files(self, id: str) -> int:
        """How many descriptors of this process are open on a file, removed or not."""
        if sys.platform != "linux":
            pytest.skip("open descriptors are counted in /proc")
        found = 0
        for fd in os.listdir("/proc/self/fd"):
            try:
                found += id in os.readlink(f"/proc/self/fd/{fd}")
            except FileNotFoundError:  # closed since it was listed
                continue
        return found


class Raw:
    """A connection of a client that behaves as it likes."""

    def __init__(self, port: int, *, window: int | None = None) -> None:
        self.socket = socket.socket()
        if window is not None:  # what the system takes for it before it reads
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(("127.0.0.1", port))
        self.buffer = b""

    def ask(self, id: str, *lines: str, method: str = "GET") -> None:
        head = "\r\n".join([f"{method} /afterwards/files/{id} HTTP/1.1", "Host: x", *lines, "", ""])
        self.socket.sendall(head.encode())

    def head(self) -> dict[str, str]:
        """Read the head of an answer; the status is under "status"."""
        while b"\r\n\r\n" not in self.buffer:
            assert self._more(), self.buffer
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        found = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return {**found, "status": status.split(" ")[1]}

    def body(self, count: int) -> bytes:
        """Read so many bytes, or those that there are until the end."""
        while len(self.buffer) < count and self._more():
            pass
        body, self.buffer = self.buffer[:count], self.buffer[count:]
        return body

    def rest(self) -> int:
        """Read to the end, whatever kind of end; tell how many bytes there were."""
        count = len(self.buffer)
        self.buffer = b""
        while self._more():
            count += len(self.buffer)
            self.buffer = b""
        return count

    def _more(self) -> bool:
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def reset(self) -> None:
        """Leave as a program that was killed does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def shelf_of(site: Site, way: str, **options: Any) -> Iterator[Shelf]:
    with serving(site.app, http=PROTOCOLS[way], **options) as port:
        shelf = Shelf(site, port, way)
        with shelf.client:
            yield shelf


@pytest.fixture(params=list(PROTOCOLS))
def shelf(request: pytest.FixtureRequest, new_site: Any) -> Iterator[Shelf]:
    yield from shelf_of(new_site("a"), request.param)
