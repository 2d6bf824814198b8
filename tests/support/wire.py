"""A client that sends exactly the bytes it is told to, and an application that receives uploads in every way."""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import Form, UploadFile

from afterwards.server import HttpProtocol
from support import work
from support.site import Site
from support.work import DEADLINE

BOUNDARY = b"the-boundary"

# Both ways of receiving, the fast one on both event loops.
WAYS: dict[str, dict[str, Any]] = {
    "fast": {"http": HttpProtocol, "loop": "uvloop"},
    "fast-asyncio": {"http": HttpProtocol, "loop": "asyncio"},
    "portable": {"loop": "uvloop"},
}


@dataclass
class Answer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Wire:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._rest = b""

    def send(self, data: bytes) -> "Wire":
        self.socket.sendall(data)
        return self

    def answer(self) -> Answer:
        """Read one answer, the next one's bytes left alone."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split(" ")[1])
        length = int(headers.get("content-length", "0"))
        while len(self._rest) < length:
            self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return Answer(status, headers, body)

    def end(self) -> bytes:
        """Read until the server closes its side, and return what came."""
        try:
            while data := self.socket.recv(65_536):
                self._rest += data
        except ConnectionResetError:
            pass
        return self._rest

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError(f"the server closed the connection after {self._rest!r}")
        self._rest += data

    def close(self) -> None:
        self.socket.close()


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    opened = Wire(port)
    try:
        yield opened
    finally:
        opened.close()


def head(path: str, length: int, *more: bytes, kind: bytes = b"multipart/form-data; boundary=" + BOUNDARY) -> bytes:
    """The head of a POST."""
    lines = [b"POST " + path.encode() + b" HTTP/1.1", b"Host: x", b"Content-Type: " + kind]
    return b"\r\n".join([*lines, b"Content-Length: %d" % length, *more, b"", b""])


def part(content: bytes, *, field: bytes = b"files", name: bytes | None = b"a.bin") -> bytes:
    """One part of a form; a field when it has no name."""
    filename = b"" if name is None else b'; filename="' + name + b'"'
    disposition = b'Content-Disposition: form-data; name="' + field + b'"' + filename
    return b"--" + BOUNDARY + b"\r\n" + disposition + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def remember(file: UploadFile) -> None:
    """The task: says what it was given."""
    work.journal.append((file.filename, digest(file.file.read())))


def receiving(site: Site) -> Site:
    """Give a site its routes."""
    Tasks = site.Tasks

    @site.app.post("/files")
    async def files(tasks: Tasks, files: list[UploadFile], note: str = Form("")) -> Any:
        for file in files:
            tasks.add_task(remember, file)
        seen = [[file.filename, file.size, digest(await file.read())] for file in files]
        return {"files": seen, "note": note}

    @site.app.get("/ping")
    async def ping() -> str:
        return "pong"

    return site


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))
