"""A large upload handed to a task: memory while it arrives and is read, and bytes written for it.

The body is made as it is sent. Peak memory is the kernel's own high-water mark, reset after a small upload has warmed
the server up; bytes written are the process's, as the kernel counts them. The task reads the whole file and its result
must prove size and checksum. Plain FastAPI stores the same upload beside it, without a task: its file is gone by then.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator

from benchmarks import machine
from benchmarks.children import Child, ChildFailed
from benchmarks.figures import Part
from benchmarks.run import Run, Samples
from benchmarks.wire import Connection

CHUNK = 1 << 20
BOUNDARY = "afterwards-benchmark-boundary"
WITHIN = 120.0  # seconds until the task of an upload must be done

Quantities = dict[tuple[str, str], float]


def measure(run: Run) -> Part:
    part = Part(name="upload")
    samples = Samples(part, run)
    mebibytes = run.size(1024, 128)
    for repeat in range(run.repeats):
        samples.take("afterwards", repeat, lambda: _ours(run, mebibytes))
        samples.take("plain FastAPI", repeat, lambda: _plain(run, mebibytes))
    samples.keep()
    for row in part.rows:
        if row.side == "afterwards" and row.what == "peak growth":
            part.promise(f"peak memory growth, {mebibytes} MiB upload", row.median, "MiB", at_most=32)
        if row.side == "afterwards" and row.what == "written / upload":
            part.promise("bytes written for an upload", row.median, "x", at_most=1.05)
    return part


def _ours(run: Run, mebibytes: int) -> Quantities:
    with run.our_server("upload") as (_, port, child):
        return asyncio.run(_watched(port, child, mebibytes, with_task=True))


def _plain(run: Run, mebibytes: int) -> Quantities:
    with run.our_server("upload-plain", "benchmarks.memory") as (_, port, child):
        return asyncio.run(_watched(port, child, mebibytes, with_task=False))


async def _watched(port: int, child: Child, mebibytes: int, *, with_task: bool) -> Quantities:
    await _upload(port, 2, with_task=with_task)
    machine.forget_peak(child.pid)
    before = machine.usage(child.pid)
    begin = time.monotonic()
    await _upload(port, mebibytes, with_task=with_task)
    seconds = time.monotonic() - begin
    after = machine.usage(child.pid)
    size = mebibytes * CHUNK
    return {
        ("peak growth", "MiB"): (after.peak - before.resident) / CHUNK,
        ("written / upload", "x"): (after.written - before.written) / size,
        ("answered and done", "s"): seconds,
    }


async def _upload(port: int, mebibytes: int, *, with_task: bool) -> None:
    """Send one file of that size and wait until its task has read it."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="large.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    block = bytes(range(256)) * (CHUNK // 256)

    async def chunks() -> AsyncIterator[bytes]:
        yield head
        for _ in range(mebibytes):
            yield block
        yield tail

    connection = await Connection.to(port)
    length = len(head) + mebibytes * CHUNK + len(tail)
    answer = await connection.send("/upload", length, f"multipart/form-data; boundary={BOUNDARY}", chunks())
    if answer.status != 202:
        raise ChildFailed(f"POST /upload of {mebibytes} MiB answered {answer.status}: {answer.body[:300]!r}")
    if with_task:
        proof = 0
        for _ in range(mebibytes):
            proof = zlib.crc32(block, proof)
        result = await _result(connection, answer.json()["id"])
        if result != {"size": mebibytes * CHUNK, "crc32": proof}:
            raise ChildFailed(f"the task read something else than was sent: {result}")
    connection.close()


async def _result(connection: Connection, id: str) -> object:
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        answer = await connection.request("GET", f"/afterwards/tasks/{id}")
        if answer.status != 200:
            raise ChildFailed(f"GET of task {id} answered {answer.status}: {answer.body[:300]!r}")
        document = answer.json()
        if document["state"] == "succeeded":
            return document["result"]
        if document["state"] in ("failed", "quarantined", "cancelled", "expired"):
            raise ChildFailed(f"the upload's task ended {document['state']}: {document.get('error')}")
        await asyncio.sleep(0.05)
    raise ChildFailed(f"the upload's task was not done within {WITHIN:.0f} s")
