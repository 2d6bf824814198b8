"""A real server in a thread, and real programs in processes of their own."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from support.work import DEADLINE

TESTS = Path(__file__).parent.parent


class Server(uvicorn.Server):
    """A uvicorn that says when it listens."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", **options))
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[int]:
    """Serve an application on a free port of 127.0.0.1 and yield the port."""
    server = Server(app, **options)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.listening.wait(DEADLINE)
        yield server.port
    finally:
        server.should_exit = True
        thread.join(DEADLINE)
    assert not thread.is_alive()


class Program:
    """`python -m ARGUMENTS`, its output read line by line."""

    def __init__(self, *arguments: str, folder: Path, data: Path, path: Path | None = None, **environment: str) -> None:
        # The program's own source and the tests' helpers; the interpreter finds Afterwards as this one does.
        search = [str(path or folder), str(TESTS), *filter(None, sys.path)]
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", *arguments],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(search),
                "AFTERWARDS_DATA": str(data),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, *, times: int = 1) -> re.Match[str]:
        """Return the match when so many lines match; a program that ends before is an error."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.lines if (match := re.search(pattern, line))]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= times or self._ended, timeout=DEADLINE)
            matches = found()
            assert len(matches) >= times, (pattern, self.lines)
        return matches[times - 1]

    @property
    def port(self) -> int:
        """The port it listens on, once it does."""
        return int(self.wait_for(r"running on http://127\.0\.0\.1:(\d+)").group(1))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def stop(self) -> int:
        """Ask it to stop, as a service manager would."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> int:
        try:
            return self.process.wait(DEADLINE)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self._reader.join(DEADLINE)
            assert self.process.stdout is not None
            self.process.stdout.close()


@contextmanager
def program(*arguments: str, **options: Any) -> Iterator[Program]:
    """Run a program for as long as the block lasts."""
    running = Program(*arguments, **options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.end()
