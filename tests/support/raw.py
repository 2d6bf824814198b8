"""HTTP by hand, and servers that count what they read: what a client that will not stop sending meets."""

import contextlib
import re
import select
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from afterwards.server import HttpProtocol
from support.server import serving
from support.work import DEADLINE


class Count:
    """Bytes that a server has read from its sockets."""

    def __init__(self) -> None:
        self.read = 0


def counting(kind: Any, count: Count) -> Any:
    """Return a protocol class that counts."""

    class Buffered(kind):
        def buffer_updated(self, nbytes: int) -> None:
            count.read += nbytes
            super().buffer_updated(nbytes)

    class Plain(kind):
        def data_received(self, data: bytes) -> None:
            count.read += len(data)
            super().data_received(data)

    return Buffered if hasattr(kind, "buffer_updated") else Plain


SERVERS = {"ours": HttpProtocol, "httptools": HttpToolsProtocol, "h11": H11Protocol}


@contextlib.contextmanager
def serving_counted(app: Any, kind: str) -> Iterator[tuple[int, Count]]:
    """Serve with one of the protocols and yield the port and what was read."""
    count = Count()
    with serving(app, http=counting(SERVERS[kind], count)) as port:
        yield port, count


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: here", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def form(*parts: tuple[str, str | None, bytes], boundary: str = "b") -> bytes:
    """A multipart body: (field, file name or None, content)."""
    body = b""
    for field, name, content in parts:
        file = "" if name is None else f'; filename="{name}"\r\nContent-Type: application/octet-stream'
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"{file}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


FORM = "Content-Type: multipart/form-data; boundary=b"


class Reply:
    """What came back, and what could be sent before it did."""

    def __init__(self, raw: bytes, sent: int, *, closed: bool, interim: bytes) -> None:
        self.interim = interim
        top, _, self.body = raw.partition(b"\r\n\r\n")
        self.text = top.decode("latin-1")
        self.raw = raw
        self.sent = sent
        self.closed = closed
        found = re.match(r"HTTP/1\.1 (\d+)", self.text)
        assert found is not None, raw[:200]
        self.status = int(found[1])

    def header(self, name: str) -> str | None:
        found = re.search(rf"^{name}: *(.*)$", self.text, re.IGNORECASE | re.MULTILINE)
        return found[1].strip() if found is not None else None


def talk(port: int, begin: bytes, rest: Iterable[bytes] = (), *, asks: bool = False) -> Reply:
    """Send a request, the body as far as the server lets us, and read the answer to the end of the connection.

    With `asks`, nothing of the body is sent before the server has said 100.
    """
    end = time.monotonic() + DEADLINE
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(DEADLINE)
        client.sendall(begin)
        interim = b""
        if asks:
            interim = client.recv(65_536)
            assert interim.startswith(b"HTTP/1.1 100 "), interim
        sent = _send(client, rest, end)
        client.settimeout(DEADLINE)
        raw, closed = b"", False
        while not (closed or _is_whole(raw)):
            more = _receive(client)
            raw, closed = raw + more, not more
        if not closed:
            client.settimeout(1.0)
            closed = not _receive(client)
        return Reply(raw, sent, closed=closed, interim=interim)


def _send(client: socket.socket, blocks: Iterable[bytes], end: float) -> int:
    """Send until an answer comes or the connection is cut; return how many bytes went."""
    sent = 0
    client.setblocking(False)
    for block in blocks:
        view = memoryview(block)
        while view:
            assert time.monotonic() < end
            readable, writable, _ = select.select([client], [client], [], 0.1)
            if readable:
                return sent
            if writable:
                try:
                    count = client.send(view)
                except OSError:
                    return sent
                sent, view = sent + count, view[count:]
    return sent


def _receive(client: socket.socket) -> bytes:
    """Return what comes next; nothing when the connection has ended, or nothing comes within its timeout."""
    try:
        return client.recv(65_536)
    except ConnectionResetError:
        return b""
    except TimeoutError:
        return b"?"


def _is_whole(raw: bytes) -> bool:
    top, separator, body = raw.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: *(\d+)", top, re.IGNORECASE)
    return bool(separator) and found is not None and len(body) >= int(found[1])
