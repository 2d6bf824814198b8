"""Resumable uploads: one large file by one PATCH, and many small ones by eight clients, beside the servers of others.

The client sends from the page cache with sendfile, so that it costs little. Ours answers when the bytes, their digest
and their rows are on stable storage; the others sync nothing and make no digest.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import machine
from benchmarks.children import ROOT, Child, ChildFailed
from benchmarks.figures import Part, ratios
from benchmarks.run import Run, Samples, turns
from benchmarks.task import DIRECTORY

SMALL = 65_536
WARM = 1 << 20  # bytes of a first upload, which is not measured
CLIENTS = 8
NODE = ROOT / "benchmarks" / "peers" / "node"
TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Content-Type": "application/offset+octet-stream"}
_EDGE = "afterwards-benchmark-boundary"

Quantities = dict[tuple[str, str], float]
Serving = Callable[[], AbstractContextManager[tuple[int, Child]]]


def measure(run: Run) -> Part:
    part = Part(name="resumable")
    samples = Samples(part, run)
    mebibytes, small = run.size(1024, 64), run.size(2000, 100)
    servers: dict[str, tuple[Serving, str]] = {
        "afterwards": (lambda: _serving(run, "resumable-ours", partial(_ours, run)), "/afterwards/uploads"),
        "@tus/server": (lambda: _serving(run, "resumable-node", _node), "/files"),
        "tuspyserver": (lambda: _serving(run, "resumable-py", partial(_tuspyserver, run)), "/files"),
    }
    if not (NODE / "node_modules").exists():
        part.absent["@tus/server"] = "not installed: run `npm ci` in benchmarks/peers/node"
    with run.folder("resumable-source") as folder:
        source = folder / "source"
        source.write_bytes(os.urandom(1 << 20) * mebibytes)
        for repeat in range(run.repeats):
            sides: list[tuple[str, Callable[[], Quantities]]] = [
                (side, partial(_large, serving, path, source)) for side, (serving, path) in servers.items()
            ]
            for side, measure_side in turns(repeat, [*sides, ("UploadFile", partial(_form, run, source))]):
                samples.take(side, repeat, measure_side)
            for side, (serving, path) in servers.items():
                if side != "tuspyserver":  # some 170 files a second: it would take most of the time
                    samples.take(f"{side}, small", repeat, partial(_many, serving, path, small))
    samples.keep()
    wanted = (("UploadFile", "MB/s", 3.5), ("@tus/server", "MB/s", 3.5), ("tuspyserver", "MB/s", 2.5))
    for side, what, bound in wanted:
        _promise(part, samples, "afterwards", side, what, bound, f"{mebibytes} MiB by one PATCH")
    _promise(part, samples, "afterwards, small", "@tus/server, small", "files/s", 5.0, f"{small} files of 64 KiB")
    return part


def _promise(part: Part, samples: Samples, ours: str, side: str, what: str, bound: float, title: str) -> None:
    mine, theirs = samples.of(ours, what), samples.of(side, what)
    if mine and len(mine) == len(theirs):
        found = sorted(ratios(mine, theirs))[len(mine) // 2]
        part.promise(f"{title}, against {side}", found, "x", at_least=bound)


@contextmanager
def _serving(run: Run, name: str, start: Callable[[Path, str], Child]) -> Iterator[tuple[int, Child]]:
    with run.folder(name) as folder, run.serving(lambda port: start(folder, port)) as found:
        yield found


def _ours(run: Run, folder: Path, port: str) -> Child:
    return run.ours(folder, "serve", port, module="benchmarks.resumable_app")


def _node(folder: Path, port: str) -> Child:
    return Child(["node", str(NODE / "serve.mjs"), str(folder), port], environment={}, log=folder / "output.log")


def _tuspyserver(run: Run, folder: Path, port: str) -> Child:
    if run.peers_python is None:
        raise ChildFailed("no interpreter with the peers: `make bench` makes one")
    environment = {DIRECTORY: str(folder), "PYTHONPATH": str(ROOT)}
    command = [str(run.peers_python), "-m", "benchmarks.peers.tuspyserver", "serve", port]
    return Child(command, environment=environment, log=folder / "output.log")


def _large(serving: Serving, path: str, source: Path) -> Quantities:
    size = source.stat().st_size
    with serving() as (port, child), _Connection(port) as connection:
        where = connection.create(path, WARM)
        connection.head("PATCH", where, {**BODY, "Upload-Offset": "0"}, WARM)
        connection.socket.sendall(bytes(WARM))
        connection.expect(204)
        where = connection.create(path, size)
        before = machine.usage(child.pid)
        begin = time.monotonic()
        connection.head("PATCH", where, {**BODY, "Upload-Offset": "0"}, size)
        with source.open("rb") as file:
            connection.socket.sendfile(file)
        connection.expect(204)
        return _told(size, begin, before.cpu, child)


def _form(run: Run, source: Path) -> Quantities:
    size = source.stat().st_size
    start = f'--{_EDGE}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode()
    end = f"\r\n--{_EDGE}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={_EDGE}"}
    with run.folder("resumable-form") as folder:
        serving = run.serving(lambda port: run.ours(folder, "plain", port, module="benchmarks.resumable_app"))
        with serving as (port, child), _Connection(port) as connection:
            connection.head("POST", "/upload", kind, len(start) + WARM + len(end))
            connection.socket.sendall(start + bytes(WARM) + end)
            connection.expect(201)
            before = machine.usage(child.pid)
            begin = time.monotonic()
            connection.head("POST", "/upload", kind, len(start) + size + len(end))
            connection.socket.sendall(start)
            with source.open("rb") as file:
                connection.socket.sendfile(file)
            connection.socket.sendall(end)
            connection.expect(201)
            return _told(size, begin, before.cpu, child)


def _told(size: int, begin: float, cpu: float, child: Child) -> Quantities:
    seconds = time.monotonic() - begin
    used = machine.usage(child.pid).cpu - cpu
    return {("MB/s", "MB/s"): size / 1e6 / seconds, ("server CPU", "s/GiB"): used / size * (1 << 30)}


def _many(serving: Serving, path: str, count: int) -> Quantities:
    content = os.urandom(SMALL)
    failures: list[BaseException] = []

    def send(port: int, number: int) -> None:
        try:
            with _Connection(port) as connection:
                for _ in range(number):
                    where = connection.create(path, SMALL)
                    connection.head("PATCH", where, {**BODY, "Upload-Offset": "0"}, SMALL)
                    connection.socket.sendall(content)
                    connection.expect(204)
        except (ChildFailed, OSError) as error:
            failures.append(error)

    with serving() as (port, child):
        before = machine.usage(child.pid)
        threads = [threading.Thread(target=send, args=(port, count // CLIENTS)) for _ in range(CLIENTS)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - begin
        if failures:
            raise ChildFailed(f"a small upload failed: {failures[0]}")
        done = count // CLIENTS * CLIENTS
        used = machine.usage(child.pid).cpu - before.cpu
        return {("files/s", "files/s"): done / seconds, ("server CPU", "ms/file"): used / done * 1000}


class _Connection:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def head(self, method: str, path: str, headers: dict[str, str], length: int) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def expect(self, status: int) -> dict[str, str]:
        """Read an answer.

        Raises:
            ChildFailed: It is another one.
        """
        line = self._file.readline().decode()
        headers = {}
        while one := self._file.readline().decode().strip():
            name, _, value = one.partition(":")
            headers[name.lower()] = value.strip()
        body = self._file.read(int(headers.get("content-length", 0)))
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self._file.readline(), 16):
                body += self._file.read(size + 2)[:size]
            self._file.readline()
        if not line or int(line.split()[1]) != status:
            raise ChildFailed(f"an upload was answered with {line.strip() or 'nothing'}: {body[:200]!r}")
        return headers

    def create(self, path: str, size: int) -> str:
        self.head("POST", path, {**TUS, "Upload-Length": str(size)}, 0)
        where = self.expect(201)["location"]
        return urlsplit(where).path
