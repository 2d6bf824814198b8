"""Files received: large and small, beside what FastAPI does with the same form, and what else the server can do then.

curl sends the large ones. Ours answers when digest, bytes, names and rows are on stable storage; FastAPI's
`UploadFile`, copied with `shutil.copyfileobj`, when they are in the page cache. Another request is sent all the while.
"""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.children import Child, ChildFailed
from benchmarks.figures import Part, percentile, ratios
from benchmarks.run import Run, Samples, turns
from benchmarks.wire import Connection

MEBIBYTE = 1 << 20
SMALL = 65_536
CLIENTS = 8
PING = 0.01  # seconds between two of the other requests
FULL = 1024  # MiB of a large file; with fewer no figure is proven
SIDES = {"afterwards": "fast", "afterwards, portable": "portable", "plain FastAPI": "plain"}

Quantities = dict[tuple[str, str], float]


def measure(run: Run) -> Part:
    part = Part(name="files")
    if shutil.which("curl") is None:
        part.absent = dict.fromkeys(SIDES, "curl is not installed")
        return part
    mebibytes, small = run.size(FULL, 128), run.size(2_000, 300)
    samples = Samples(part, run)
    with run.folder("source") as folder:
        source = folder / "large.bin"
        with source.open("wb") as file:
            for _ in range(mebibytes):
                file.write(os.urandom(MEBIBYTE))
        for repeat in range(run.repeats):
            sides = [(side, partial(_large, run, kind, source)) for side, kind in SIDES.items()]
            for side, measure_side in turns(repeat, sides):
                samples.take(side, repeat, measure_side)
            for side, kind in turns(
                repeat, [(side, partial(_small, run, kind, small)) for side, kind in SIDES.items()]
            ):
                samples.take(side, repeat, kind)
            samples.take("afterwards", repeat, partial(_abreast, run, source))
    samples.need(*SIDES)
    _promise(part, samples, mebibytes, small)
    samples.keep()
    return part


def _promise(part: Part, samples: Samples, mebibytes: int, small: int) -> None:
    def against(what: str, side: str = "afterwards") -> float:
        return median(ratios(samples.of(side, what), samples.of("plain FastAPI", what)))

    form = f"{mebibytes} MiB form"
    part.promise(f"{form}, against UploadFile", against("large"), "x", at_least=3)
    part.promise(f"server CPU of a {form}, against UploadFile", against("large CPU"), "x", at_most=0.35)
    part.promise(f"{form}, portable, against UploadFile", against("large", "afterwards, portable"), "x", at_least=1.8)
    part.promise(f"{small} files of 64 KiB, against UploadFile", against("small"), "x", at_least=1.5)
    part.promise("another request meanwhile, p99", median(samples.of("afterwards", "ping p99")), "ms", at_most=10)
    part.promise("another request meanwhile, max", median(samples.of("afterwards", "ping max")), "ms", at_most=25)
    growth = median(samples.of("afterwards", "growth, 8 at once"))
    part.promise(f"peak memory growth, {CLIENTS} forms at once", growth, "MiB", at_most=64)


@contextmanager
def _server(run: Run, kind: str) -> Iterator[tuple[int, Child]]:
    start = partial(run.ours, module="benchmarks.receivers")
    with run.folder(kind) as folder, run.serving(lambda port: start(folder, kind, port)) as found:
        yield found


def _large(run: Run, kind: str, source: Path) -> Quantities:
    with _server(run, kind) as found:
        return asyncio.run(_one(*found, source))


async def _one(port: int, child: Child, source: Path) -> Quantities:
    await _send_small(port, 20)  # warm
    os.sync()
    before = machine.usage(child.pid)
    pings: list[float] = []
    pinging = asyncio.create_task(_ping(port, pings))
    begin = time.monotonic()
    await _curl(port, source)
    seconds = time.monotonic() - begin
    pinging.cancel()
    size = source.stat().st_size
    cpu = machine.usage(child.pid).cpu - before.cpu
    return {
        ("large", "MB/s"): size / seconds / 1e6,
        ("large CPU", "s/GiB"): cpu / (size / (1 << 30)),
        ("ping p99", "ms"): percentile(pings, 0.99) * 1000,
        ("ping max", "ms"): max(pings) * 1000,
    }


def _small(run: Run, kind: str, count: int) -> Quantities:
    with _server(run, kind) as found:
        return asyncio.run(_many(*found, count))


async def _many(port: int, child: Child, count: int) -> Quantities:
    await _send_small(port, 50)
    os.sync()
    before = machine.usage(child.pid)
    begin = time.monotonic()
    await _send_small(port, count)
    seconds = time.monotonic() - begin
    cpu = machine.usage(child.pid).cpu - before.cpu
    return {("small", "files/s"): count / seconds, ("small CPU", "ms/file"): cpu / count * 1000}


def _abreast(run: Run, source: Path) -> Quantities:
    with _server(run, "fast") as found:
        return asyncio.run(_eight(*found, source))


async def _eight(port: int, child: Child, source: Path) -> Quantities:
    await _send_small(port, 50)
    machine.forget_peak(child.pid)
    before = machine.usage(child.pid)
    await asyncio.gather(*(_curl(port, source) for _ in range(CLIENTS)))
    return {("growth, 8 at once", "MiB"): (machine.usage(child.pid).peak - before.resident) / MEBIBYTE}


async def _curl(port: int, source: Path) -> None:
    sending = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "-F", f"file=@{source}", f"http://127.0.0.1:{port}/upload"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    answer, complaint = await sending.communicate()
    if answer.decode() != str(source.stat().st_size):
        raise ChildFailed(f"curl's upload was answered {answer[:200]!r} {complaint.decode().strip()}")


async def _ping(port: int, pings: list[float]) -> None:
    connection = await Connection.to(port)
    while True:
        begin = time.perf_counter()
        await connection.request("GET", "/ping")
        pings.append(time.perf_counter() - begin)
        await asyncio.sleep(PING)


_BODY = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="small.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + os.urandom(SMALL) + b"\r\n--b--\r\n"
)


async def _send_small(port: int, count: int) -> None:
    numbers = iter(range(count))

    async def body() -> AsyncIterator[bytes]:
        yield _BODY

    async def client() -> None:
        connection = await Connection.to(port)
        for _ in numbers:
            answer = await connection.send("/upload", len(_BODY), "multipart/form-data; boundary=b", body())
            if (answer.status, answer.body) != (200, str(SMALL).encode()):
                raise ChildFailed(f"a small upload was answered {answer.status}: {answer.body[:200]!r}")
        connection.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
