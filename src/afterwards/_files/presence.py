"""Proof of life between the processes of one machine, and a way to wake each other.

Each worker holds a lock on a file of its own, which the kernel gives up the moment the process ends, however it ends.
POSIX record locks are used because a forked child does not inherit them: a stray child must not keep its dead parent
alive. Beside the lock lies a named pipe; a byte in it says "look at the store". Losing one costs a second, not a task.
Nothing is read from or written to what is not a file or pipe of ours: no link is followed.
"""

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Collection
from pathlib import Path

from afterwards._domain.ids import is_id
from afterwards._files.disk import DISK
from afterwards.errors import StoreRefused

YOUNG = 60.0  # seconds that a process gets between its lock and its row
_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_Identity = tuple[int, int]  # device and inode: one file may be reached by several paths
_held: set[_Identity] = set()  # by this process: opening and closing the file of such a lock would give it up
_guard = threading.Lock()


def _forget_parent() -> None:
    """A forked child holds none of its parent's locks."""
    global _guard
    _guard = threading.Lock()
    _held.clear()


os.register_at_fork(after_in_child=_forget_parent)


class Presence:
    """One worker's lock and pipe in the `workers` folder of a data directory."""

    def __init__(self, root: Path, worker: str) -> None:
        """Become present.

        Raises:
            StoreRefused: The place has no locks or no named pipes, or something else lies there.
        """
        self._folder = root / "workers"
        self._worker = worker
        self._lock = self._path(worker, "lock")
        self._pipe = self._path(worker, "wake")
        self._process = os.getpid()
        self._closed = False
        try:
            DISK.make_folder(self._folder)
            self._descriptor = lock(self._lock)
            self._identity = _identity(os.fstat(self._descriptor))
            os.mkfifo(self._pipe, 0o600)
            # Opened for writing too, so that it never reports an end of file when the last writer leaves.
            self.descriptor = os.open(self._pipe, os.O_RDWR | _OPEN)
        except OSError as error:
            raise StoreRefused(
                f"{self._folder} cannot hold the lock and the pipe by which processes know of each other: "
                f"{error.strerror}. Make room there, or choose a data directory on a local disk of this user."
            ) from error

    def renew(self) -> None:
        """Take our lock again: code of this process that closes the file gives it up, and the file can be removed."""
        with _guard:
            if self._closed or os.getpid() != self._process:
                return
            if os.fstat(self._descriptor).st_nlink == 0:
                fresh = os.open(self._lock, os.O_RDWR | os.O_CREAT | _OPEN, 0o600)
                _held.discard(self._identity)
                os.close(self._descriptor)
                self._descriptor, self._identity = fresh, _identity(os.fstat(fresh))
                _held.add(self._identity)
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:  # somebody looks at this moment whether we live
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise

    def sweep(self, known: Collection[str]) -> None:
        """Remove what processes that died at their very start have left: they are on no record."""
        for path in self._folder.glob("*.lock"):
            if (
                path.stem not in known
                and path.stem != self._worker
                and not self.lives(path.stem)
                and _age(path) > YOUNG
            ):
                self.forget(path.stem)

    def lives(self, worker: str) -> bool:
        """Tell whether another worker's process still runs. True also where that cannot be told: its lease decides."""
        if not is_id(worker):
            return False  # no process of ours, and no name of a file
        return is_held(self._path(worker, "lock"))

    def wake_others(self) -> None:
        """Tell the other workers to look at the store."""
        wake(self._folder.parent, besides=self._pipe)

    def drain(self) -> None:
        """Empty our pipe."""
        try:
            while len(os.read(self.descriptor, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def forget(self, worker: str) -> None:
        """Remove the files of a worker that has ended."""
        if is_id(worker):
            self._path(worker, "wake").unlink(missing_ok=True)
            self._path(worker, "lock").unlink(missing_ok=True)

    def close(self) -> None:
        """End our own presence; doing it twice changes nothing."""
        if os.getpid() != self._process or self._closed:
            return  # it is the parent's; or the descriptors' numbers may be somebody else's by now
        self._closed = True
        self.forget(self._worker)
        os.close(self.descriptor)
        unlock(self._descriptor)

    def _path(self, worker: str, kind: str) -> Path:
        return self._folder / f"{worker}.{kind}"


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def lock(path: Path) -> int:
    """Make a file and hold a lock on it that ends with this process; return its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
    with _guard:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _held.add(_identity(os.fstat(descriptor)))
    return descriptor


def unlock(descriptor: int) -> None:
    """Give up what `lock` gave."""
    with _guard:
        _held.discard(_identity(os.fstat(descriptor)))
        os.close(descriptor)


def living(root: Path) -> bool:
    """Tell whether any worker of a data directory lives; no presence of one's own is needed."""
    return any(is_held(path) for path in (root / "workers").glob("*.lock"))


def is_held(path: Path) -> bool:
    """Tell whether a process holds a lock. True also where that cannot be told."""
    with _guard:
        try:
            found = os.lstat(path)
            if _identity(found) in _held or not stat.S_ISREG(found.st_mode):
                return True
            descriptor = os.open(path, os.O_RDWR | _OPEN)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENOTDIR):
                return True
            raise
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return True
            raise
        finally:
            os.close(descriptor)
    return False


def wake(root: Path, besides: Path | None = None) -> None:
    """Tell the workers of a data directory to look at the store; no presence of one's own is needed."""
    for pipe in (root / "workers").glob("*.wake"):
        if pipe == besides:
            continue
        try:
            if not stat.S_ISFIFO(os.lstat(pipe).st_mode):  # somebody else's: a byte would damage it
                continue
            descriptor = os.open(pipe, os.O_WRONLY | _OPEN)
        except OSError:  # nobody reads it, so that worker has ended; or it is not ours to open
            continue
        try:
            os.write(descriptor, b"!")
        except OSError:  # full of hints already, or its reader has ended just now
            pass
        finally:
            os.close(descriptor)


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino
