"""The tutorials' programs, served by real servers: with one import changed, and unchanged by `afterwards run`."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.data import Data
from support.fixtures import new_site, new_start, site
from support.server import Program
from support.work import DEADLINE

__all__ = ["new_site", "new_start", "serve", "site", "way"]

SNIPPETS = Path(__file__).parent / "snippets"
OLD = re.compile(r"^from fastapi import BackgroundTasks, (.*)$", re.M)
NEW = r"from fastapi import \1\nfrom afterwards import BackgroundTasks"
PORT = re.compile(r"on http://127\.0\.0\.1:(\d+)")


class Served(Data):
    """One of the programs, serving in a folder of its own."""

    def __init__(self, name: str, way: str, folder: Path, *arguments: str, **environment: str) -> None:
        super().__init__(folder / "data")
        self.folder = folder
        self._arguments = arguments
        self._environment = environment
        self._way = way
        text = (SNIPPETS / f"{name}.py").read_text()
        if way == "one import changed":
            text, changed = OLD.subn(NEW, text)
            assert changed == 1
        (folder / f"{name}.py").write_text(text)
        self._target = f"{name}:app"
        self.start()

    def start(self) -> None:
        """Serve; for a second time after `stop` or `kill`."""
        command = ["uvicorn"] if self._way == "one import changed" else ["afterwards", "run"]
        self.program = Program(
            *command,
            self._target,
            "--port",
            "0",
            *self._arguments,
            folder=self.folder,
            data=self.data,
            **self._environment,
        )
        self.port = int(self.program.wait_for(PORT.pattern).group(1))
        self.program.wait_for("Application startup complete")
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=DEADLINE)

    def upload(self, path: str = "/upload", *, name: str = "a.txt", content: bytes = b"hello") -> httpx.Response:
        return self.client.post(path, files={"file": (name, content, "text/plain")})

    def written(self, name: str) -> bytes:
        """What the program's tasks wrote, in its folder."""
        return (self.folder / name).read_bytes()

    def kill(self) -> None:
        self.client.close()
        self.program.kill()

    def stop(self) -> int:
        self.client.close()
        return self.program.stop()

    def close(self) -> None:
        super().close()
        if self.program.process.poll() is None:
            self.kill()


Serve = Callable[..., Served]


@pytest.fixture(params=["one import changed", "launcher"])
def way(request: pytest.FixtureRequest) -> str:
    """How the program became durable."""
    return str(request.param)


@pytest.fixture
def serve(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Starts a program by its name, by both ways unless a test says which: `serve("save_file")`."""
    running: list[Served] = []

    def start(name: str, *arguments: str, way: str | None = None, **environment: Any) -> Served:
        folder = tmp_path / f"program{len(running)}"
        folder.mkdir()
        chosen = way or request.getfixturevalue("way")
        running.append(Served(name, chosen, folder, *arguments, **environment))
        return running[-1]

    yield start
    for served in running:
        served.close()
