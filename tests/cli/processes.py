"""Starts `afterwards` as its users do, as processes of their own, and ends exactly those."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from afterwards._domain.tasks import AttemptRow, TaskRow
from afterwards._store.contract import Filter
from afterwards._store.sqlite.store import SqliteStore

SOURCE = Path(__file__).parents[2] / "src"
PATIENCE = 30.0  # seconds: a deadline for what takes well under one on a machine that is not overloaded

T = TypeVar("T")

PROGRAM = """
import asyncio, os, time
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()

def mark(text):
    with open("marks", "a") as file:
        file.write(f"{text} {os.getpid()}\\n")

async def sleep(seconds: float):
    mark("begin")
    await asyncio.sleep(seconds)
    mark("end")
    return seconds

def sleep_def(seconds: float):
    mark("begin")
    time.sleep(seconds)
    mark("end")

def fail(text: str):
    raise ValueError(text)

async def wait_for(name: str):
    mark("begin")
    while not os.path.exists(name):
        await asyncio.sleep(0.02)
    mark("end")

@app.post("/sleep/{seconds}")
async def post_sleep(seconds: float, background_tasks: BackgroundTasks):
    background_tasks.add_task(sleep, seconds)

@app.post("/def/{seconds}")
async def post_def(seconds: float, background_tasks: BackgroundTasks):
    background_tasks.add_task(sleep_def, seconds)

@app.post("/wait/{name}")
async def post_wait(name: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(wait_for, name)

@app.post("/fail/{text}")
async def post_fail(text: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(fail, text)

@app.post("/lambda")
async def post_lambda(background_tasks: BackgroundTasks):
    background_tasks.add_task(lambda: mark("lambda"))

@app.get("/stream")
async def stream():
    async def lines():
        while True:
            yield "line\\n"
            await asyncio.sleep(0.05)
    return StreamingResponse(lines())

@app.get("/pid")
async def pid():
    return os.getpid()
"""


def until(look: Callable[[], T], what: str, *, within: float = PATIENCE) -> T:
    """Look until something true is found, and return it."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"after {within:g} s still not: {what}"
        time.sleep(0.02)
    return found


def environment(said: dict[str, str] | None = None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AFTERWARDS_")}
    return kept | {"PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"} | (said or {})


class Running:
    """One `afterwards ...` that goes on until it is ended."""

    def __init__(self, folder: Path, *arguments: str, said: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.output = folder / f"output-{time.monotonic_ns()}"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "afterwards", *arguments],
                cwd=folder,
                env=environment(said),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def says(self, pattern: str, *, times: int = 1) -> re.Match[str]:
        """Wait until something is printed so many times, and return the last of them."""

        def look() -> list[re.Match[str]]:
            found = list(re.finditer(pattern, self.text))
            assert len(found) >= times or self.process.poll() is None, f"it ended without {pattern!r}:\n{self.text}"
            return found if len(found) >= times else []

        try:
            return until(look, pattern)[-1]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text}") from None

    @property
    def url(self) -> str:
        return self.says(r"http://127\.0\.0\.1:\d+")[0]

    def request(self, method: str, path: str, *, timeout: float = PATIENCE) -> Any:
        """Return the decoded answer; a connection made before the server is ready waits in its socket."""
        request = urllib.request.Request(self.url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            raise

    def post(self, path: str) -> Any:
        return self.request("POST", path)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """End it; what it has started ends with it. The second signal is for tasks that would use all of the drain."""
        for patience in (1, 15):
            if self.process.poll() is None:
                self.process.terminate()
                try:
                    self.process.wait(patience)
                except subprocess.TimeoutExpired:
                    continue
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)


def command(
    folder: Path, *arguments: str, columns: int | None = None, said: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `afterwards ...` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "afterwards", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        env=environment(said) | ({} if columns is None else {"COLUMNS": str(columns)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Data:
    """Looks into a data directory from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def store(self) -> Iterator[SqliteStore]:
        store = SqliteStore(self.folder / "afterwards.db")
        try:
            yield store
        finally:
            store.close()

    def tasks(self) -> list[TaskRow]:
        """Return all tasks, oldest first."""
        with self.store() as store:
            return store.tasks(Filter(limit=1000))[::-1]

    def attempts(self, id: str) -> list[AttemptRow]:
        with self.store() as store:
            return store.attempts(id)

    def states(self) -> list[str]:
        return [task.state.value for task in self.tasks()]


def marks(folder: Path) -> list[tuple[str, int]]:
    """Return what the program's tasks have written: (text, process)."""
    file = folder / "marks"
    if not file.exists():
        return []
    return [(text, int(pid)) for text, pid in (line.split() for line in file.read_text().splitlines())]
