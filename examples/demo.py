"""Kills a server with `kill -9` in the middle of its work, starts it again, and shows that nothing it accepted is lost.

`make demo` runs it. It needs no network but 127.0.0.1, leaves nothing behind, and exits with 1 if anything was lost.
"""

import hashlib
import http.client
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0  # seconds: a deadline, not a wait


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A file to upload."""

    name: str
    kind: str
    content: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def samples() -> list[Sample]:
    """Make real files, from nothing to several megabytes."""
    chance = random.Random(7)
    text = "Answered means durable.\n" * 40
    table = "order,customer,total\n" + "".join(f"{n},c{n % 97},{n * 1.19:.2f}\n" for n in range(20_000))
    return [
        Sample(name="empty.bin", kind="application/octet-stream", content=b""),
        Sample(name="letter.txt", kind="text/plain", content=text.encode()),
        Sample(name="orders.csv", kind="text/csv", content=table.encode()),
        Sample(name="picture.png", kind="image/png", content=png(256)),
        Sample(name="noise.png", kind="image/png", content=png(900, chance)),
        Sample(name="scan-1.bin", kind="application/octet-stream", content=chance.randbytes(3_000_000)),
        Sample(name="scan-2.bin", kind="application/octet-stream", content=chance.randbytes(6_000_001)),
        Sample(name="grüße.txt", kind="text/plain", content="Grüße aus Köln\n".encode() * 1000),
        Sample(name="scan-3.bin", kind="application/octet-stream", content=chance.randbytes(1 << 20)),
        Sample(name="last.txt", kind="text/plain", content=b"the last one"),
    ]


def png(side: int, chance: random.Random | None = None) -> bytes:
    """Draw a square picture."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(
        b"\0" + (bytes((x * y) & 255 for x in range(side)) if chance is None else chance.randbytes(side))
        for y in range(side)
    )
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


class Server:
    """The example server, as a process of its own."""

    def __init__(self, data: Path, log: Path) -> None:
        command = [sys.executable, "-m", "afterwards", "run", "examples.server:app"]
        options = ["--port", "0", "--data", str(data), "--threads", "2"]
        self._log = log
        self._before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.process = subprocess.Popen(command + options, cwd=ROOT, stdout=output, stderr=output)
        where = self.until(self._address, "the server says where it is")
        self.connection = http.client.HTTPConnection(where, timeout=PATIENCE)

    def _address(self) -> str | None:
        for line in self._log.read_bytes()[self._before :].decode().splitlines(keepends=True):
            if " starts on http://" in line and line.endswith("\n"):
                return line.split("http://")[1].split(",")[0]
        return None

    def until(self, look: Callable[[], Any], what: str) -> Any:
        """Look until something is found."""
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"it did not happen that {what}:\n{self._log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.02)
        return found

    def upload(self, sample: Sample) -> tuple[int, dict[str, str]]:
        """Send a file as a browser does; return the status and the answer."""
        edge = uuid.uuid4().hex
        head = f'Content-Disposition: form-data; name="file"; filename="{sample.name}"\r\nContent-Type: {sample.kind}'
        body = f"--{edge}\r\n{head}\r\n\r\n".encode() + sample.content + f"\r\n--{edge}--\r\n".encode()
        self.connection.request("POST", "/files", body, {"Content-Type": f"multipart/form-data; boundary={edge}"})
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def task(self, url: str) -> dict[str, Any]:
        """Ask for a task's document."""
        self.connection.request("GET", url)
        found: dict[str, Any] = json.loads(self.connection.getresponse().read())
        return found

    def end(self) -> None:
        """Stop it, if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)


def states_on_disk(data: Path) -> Counter[str]:
    """Read the data directory; no server is needed for that."""
    command = [sys.executable, "-m", "afterwards", "tasks", "counts", "--json", "--data", str(data)]
    return Counter(json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout))


def told(states: Counter[str]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(states.items()) if number)


def size(count: int) -> str:
    return f"{count} B" if count < 1000 else f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"


def show(folder: Path) -> bool:
    """Tell the story; return whether everything that was accepted is there and right."""
    data, log, files = folder / "data", folder / "server.log", samples()
    first = Server(data, log)
    second: Server | None = None
    try:
        print(f"1. A server takes files and works on them after its answer (process {first.process.pid}).")
        print("     $ afterwards run examples.server:app --threads 2\n")
        print(f"2. {len(files)} files are uploaded, {size(sum(len(file.content) for file in files))} in all.")
        accepted: list[tuple[Sample, str]] = []
        for file in files:
            status, answer = first.upload(file)
            if status == 202:
                accepted.append((file, answer["status"]))
        print(f"   {len(accepted)} answers say 202: the file and its task are on the disk.\n")

        def halfway() -> bool:
            states = Counter(first.task(url)["state"] for _, url in accepted)
            return states["succeeded"] >= 3 and states["running"] >= 1

        first.until(halfway, "some tasks have ended and others run")
        print("3. In the middle of the work:")
        print(f"     $ kill -9 {first.process.pid}")
        first.process.kill()
        first.process.wait()
        states = states_on_disk(data)
        print(f"   What is on the disk: {told(states)}.\n")

        began = time.monotonic()
        second = Server(data, log)
        print(f"4. It is started again (process {second.process.pid}).")

        def ended() -> list[dict[str, Any]] | None:
            documents = [second.task(url) for _, url in accepted]
            return documents if all(document.get("finished_at") for document in documents) else None

        documents = second.until(ended, "every task has ended")
        print(f"   {time.monotonic() - began:.1f} s later every task has ended.\n")
        everything = compare(accepted, documents, unfinished=states.total() - states["succeeded"])
        return everything and len(accepted) == len(files)
    finally:
        first.end()
        if second is not None:
            second.end()


def compare(accepted: list[tuple[Sample, str]], documents: list[dict[str, Any]], *, unfinished: int) -> bool:
    """Hold the result of each task against its file."""
    print("5. What the tasks found, held against the files:")
    print(f"     {'file':<12} {'size':>8}  {'SHA-256':<12} attempts")
    right = repeated = 0
    for (file, _), document in zip(accepted, documents, strict=True):
        found = document["result"] or {}
        good = document["state"] == "succeeded" and found.get("sha256") == file.digest
        right += good
        interrupted = document["interruptions"]
        repeated += interrupted > 0
        attempts = f"{document['attempt']}" + (", the first was interrupted" if interrupted else "")
        verdict = f"{file.digest[:9]} ok" if good else f"WRONG: {document['state']}"
        print(f"     {file.name:<12} {size(len(file.content)):>8}  {verdict:<12} {attempts}")
    lost = len(accepted) - right
    summary = f"{unfinished} unfinished at the kill, {repeated} interrupted and repeated, {lost} lost."
    print(f"\n{len(accepted)} accepted, {summary}")
    return lost == 0 and unfinished > 0


def main() -> int:
    """Run the demonstration in a folder of its own, and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="afterwards-demo-"))
    try:
        return 0 if show(folder) else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    os.environ.pop("AFTERWARDS_DATA", None)
    sys.exit(main())
