"""HTTP as bytes on a socket, so that a test sees interim answers and can stop in the middle of a body."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.work import DEADLINE


@dataclass
class Answer:
    """One answer, with the interim ones before it."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes = b""
    interim: list["Answer"] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return self.headers[name.lower()]

    def get(self, name: str) -> str | None:
        return self.headers.get(name.lower())


class Wire:
    """One connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self._file = self.socket.makefile("rb")

    def start(self, method: str, path: str, headers: dict[str, Any], length: int | None = None) -> None:
        """Send the head of a request; `length` is its Content-Length."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self) -> Answer:
        """Read one head, interim or not."""
        line = self._file.readline().decode("latin-1")
        if not line:
            raise ConnectionResetError("the server closed the connection without an answer")
        headers = {}
        while (one := self._file.readline().decode("latin-1").strip()) != "":
            name, _, value = one.partition(":")
            headers[name.lower()] = value.strip()
        return Answer(int(line.split()[1]), headers)

    def answer(self, method: str = "GET") -> Answer:
        """Read the final answer, and what comes before it."""
        interim = []
        while (found := self.head()).status < 200:
            interim.append(found)
        found.interim = interim
        if method != "HEAD" and found.status != 204:
            found.body = self._file.read(int(found.get("content-length") or 0))
        return found

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    """Connect for as long as the block lasts."""
    one = Wire(port)
    try:
        yield one
    finally:
        one.close()


def request(
    port: int, method: str, path: str, headers: dict[str, Any] | None = None, body: bytes | None = None
) -> Answer:
    """Make one request on a connection of its own."""
    with wire(port) as one:
        one.start(method, path, headers or {}, None if body is None else len(body))
        if body:
            try:
                one.send(body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before it was read: the answer is there
        return one.answer(method)
