"""Proof of life between the processes of one machine, and a way to wake each other.

Each worker holds a lock on a file of its own, which the kernel gives up the moment the process ends, however it ends.
POSIX record locks are used because a forked child does not inherit them: a stray child must not keep its dead parent
alive. Beside the lock lies a named pipe; a byte in it says "look at the store". Losing one costs a second, not a task.
"""

import errno
import fcntl
import os
import threading
from pathlib import Path

_held: set[Path] = set()  # by this process: trying a lock of our own would give it up
_guard = threading.Lock()


class Presence:
    """One worker's lock and pipe in the `workers` folder of a data directory."""

    def __init__(self, root: Path, worker: str) -> None:
        self._folder = root / "workers"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._worker = worker
        self._lock = self._path(worker, "lock")
        self._descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with _guard:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _held.add(self._lock)
        self._pipe = self._path(worker, "wake")
        os.mkfifo(self._pipe, 0o600)
        # Opened for writing too, so that it never reports an end of file when the last writer leaves.
        self.descriptor = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def lives(self, worker: str) -> bool:
        """Tell whether another worker's process still runs."""
        path = self._path(worker, "lock")
        with _guard:
            if path in _held:
                return True
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    return True
                raise
            finally:
                os.close(descriptor)
        return False

    def wake_others(self) -> None:
        """Tell the other workers to look at the store."""
        for pipe in self._folder.glob("*.wake"):
            if pipe == self._pipe:
                continue
            try:
                descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in (errno.ENXIO, errno.ENOENT):  # nobody reads it: that worker has ended
                    continue
                raise
            try:
                os.write(descriptor, b"!")
            except BlockingIOError:  # full of hints already
                pass
            finally:
                os.close(descriptor)

    def drain(self) -> None:
        """Empty our pipe."""
        try:
            while len(os.read(self.descriptor, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def forget(self, worker: str) -> None:
        """Remove the files of a worker that has ended."""
        self._path(worker, "wake").unlink(missing_ok=True)
        self._path(worker, "lock").unlink(missing_ok=True)

    def close(self) -> None:
        """End our own presence."""
        self.forget(self._worker)
        os.close(self.descriptor)
        with _guard:
            _held.discard(self._lock)
            os.close(self._descriptor)

    def _path(self, worker: str, kind: str) -> Path:
        return self._folder / f"{worker}.{kind}"
