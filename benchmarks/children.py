"""Starts the processes under test and ends exactly those.

Each child leads its own process group, so that workers it forks end with it; nothing is ever looked up by name. What a
child prints goes to a file of its measurement, whose end is shown when the child fails.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 10.0  # seconds a child gets to end after SIGTERM before its group is killed


class ChildFailed(Exception):
    """A process under test ended badly or did not do what it was started for in time."""


class Child:
    """One running command. Leaving the block ends its whole group."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], log: Path, user: str | None = None
    ) -> None:
        self.command = list(command)
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=user,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to what is left of the group."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait until the leader is reaped."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # everything of the group has ended by itself
        self.process.wait()

    def finish(self, *, within: float) -> None:
        """Wait for the command to end by itself with status 0, `within` seconds."""
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise self.failure(f"did not finish within {within:.0f} s") from None
        if status != 0:
            raise self.failure(f"ended with status {status}")

    def until(self, true: Callable[[], bool], *, within: float, what: str, every: float = 0.02) -> None:
        """Ask `true` until it is, while the child lives, at most `within` seconds."""
        deadline = time.monotonic() + within
        while not true():
            if self.process.poll() is not None:
                raise self.failure(f"ended with status {self.process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise self.failure(f"after {within:.0f} s still not {what}")
            time.sleep(every)

    def failure(self, what: str) -> ChildFailed:
        """The exception for `what`, with the last lines the child printed."""
        tail = self.log.read_text(errors="replace").strip().splitlines()[-8:]
        return ChildFailed(f"{' '.join(self.command[1:])}: {what}\n    " + "\n    ".join(tail))


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
