"""The bytes of small files: in packs, files of a few MiB that are filled from end to end, one write for each commit.

A pack has its full size, written with zeros and on stable storage, before the first file goes in. So storing files
changes no metadata, which is what makes a sync dear. A row names pack and offset. A pack that no row names is filled
anew, or removed when another is free already.

Each process fills a pack of its own, and has the kernel's lock on it; the lock of a full pack is given up when the
rows that name it are committed. Readers lock nothing: bytes that do not have the digest of their row belong to another
file by now.
"""

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from afterwards._files.disk import DISK, FULL, honest_errors
from afterwards._files.holding import held

LEAST = 8_192  # bytes: what is smaller costs less in its row
FIRST, LARGEST = 1 << 20, 16 << 20  # bytes of a pack: each is twice as large as the one before, up to this
ALIGNED = 4_096
BUFFER = 1 << 20  # bytes of one write
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC

Place = tuple[int, int]  # pack and offset
Used = Callable[[Sequence[int]], set[int]]  # which of these packs a row names

_threads = ThreadPoolExecutor(1, thread_name_prefix="afterwards-packs")


class Packs:
    """The packs that one process fills. One thread at a time."""

    def __init__(self, root: Path, used: Used) -> None:
        self.root = root
        self._folder = root / "packs"
        self._used = used
        self._pack: _Pack | None = None
        self._next: Future[_Pack] | None = None
        self._full: list[_Pack] = []  # their last rows may not be committed yet
        self._size = FIRST

    def store(self, contents: Sequence[bytes]) -> list[Place] | None:
        """Bring bytes onto stable storage; return where each is, or None when there is no room for another pack.

        Raises:
            StorageUnsure: The disk failed. The pack is left alone from here on.
        """
        size = sum(map(len, contents))
        with honest_errors(f"storing {len(contents)} small files of together {size:,} bytes", self.root):
            pack = self._pack
            if pack is None or pack.left < size:
                try:
                    pack = self._turn(size)
                except OSError as error:
                    if error.errno in FULL:
                        return None
                    raise
            at = pack.at
            try:
                pack.write(contents, size)
            except OSError:
                self._leave()
                raise
        if self._next is None and pack.left < pack.size // 2:
            self._next = _threads.submit(self._find, self._grown())
        places = []
        for content in contents:
            places.append((pack.number, at))
            at += len(content)
        return places

    def committed(self) -> None:
        """Take note that what was stored is named by rows, or never will be."""
        for pack in self._full:
            pack.close()
        self._full.clear()

    def tidy(self) -> None:
        """Remove packs that nobody needs, but one."""
        spared = self._next is not None
        for pack in self._free():
            if spared:
                pack.remove()
            pack.close()
            spared = True

    def close(self) -> None:
        """Let go of all packs."""
        # Where there was none to be had, none is needed now.
        if self._next is not None and self._next.exception() is None:
            self._full.append(self._next.result())
        self._next = None
        self._leave()
        self.committed()

    def _turn(self, size: int) -> "_Pack":
        """Go on with another pack."""
        self._leave()
        ready, self._next = self._next, None
        if ready is not None:
            pack = ready.result()
            if pack.left >= size:
                self._pack = pack
                return pack
            self._full.append(pack)
        self._pack = self._find(max(self._grown(), size))
        return self._pack

    def _leave(self) -> None:
        if self._pack is not None:
            self._full.append(self._pack)
            self._pack = None

    def _grown(self) -> int:
        size, self._size = self._size, min(LARGEST, 2 * self._size)
        return size

    def _find(self, size: int) -> "_Pack":
        """Return a pack that no row names, or make one."""
        for pack in self._free():
            if pack.size >= size:
                return pack
            pack.close()
        return _Pack.make(self._folder, size)

    def _free(self) -> "Iterator[_Pack]":
        """Yield locked packs that no row names, unless a backup may still read them.

        The lock comes before the answer that counts: who fills a pack has it until the rows are committed.
        """
        numbers = packs_in(self._folder)
        used = self._used(numbers)
        for number in numbers:
            if number in used or (pack := _Pack.open(self._folder, number)) is None:
                continue
            try:
                needed = self._used([number]) or held(self.root)
            except BaseException:
                pack.close()
                raise
            if needed:
                pack.close()
            else:
                yield pack


class _Pack:
    """An open, locked pack."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.number = int(path.name)
        self.size = os.fstat(fd).st_size
        self.at = 0  # what comes next begins here
        self._fd = fd
        self._direct = _around_cache(fd)
        self._buffer: mmap.mmap | None = None

    @classmethod
    def open(cls, folder: Path, number: int) -> "_Pack | None":
        """Open a pack; None when it is gone or somebody else's."""
        path = _path(folder, number)
        try:
            fd = os.open(path, _OPEN)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return cls(path, fd)
        except BlockingIOError:
            pass
        os.close(fd)
        return None

    @classmethod
    def make(cls, folder: Path, size: int) -> "_Pack":
        """Make one of at least so many bytes, all of them on the disk."""
        new = DISK.make_folder(folder)
        number = max(packs_in(folder), default=0) + 1
        while True:
            path = _path(folder, number)
            try:
                fd = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
                break
            except FileExistsError:  # another process was faster
                number += 1
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            size = -(-size // ALIGNED) * ALIGNED
            nothing, done = bytes(BUFFER), 0
            while done < size:
                done += os.pwrite(fd, nothing[: size - done], done)
            DISK.sync_file(fd)
            DISK.sync_folder(folder)
            if new:
                DISK.sync_folder(folder.parent)
            return cls(path, fd)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise

    @property
    def left(self) -> int:
        """Bytes that still go in."""
        return self.size - self.at

    def write(self, contents: Sequence[bytes], size: int) -> None:
        """Write and sync them, one behind the other."""
        if self._buffer is None:
            self._buffer = mmap.mmap(-1, BUFFER)  # aligned, as maps are
        buffer, filled, at = self._buffer, 0, self.at
        for content in contents:
            rest = memoryview(content)
            while rest:
                count = min(len(rest), BUFFER - filled)
                buffer[filled : filled + count] = rest[:count]
                rest = rest[count:]
                filled += count
                if filled == BUFFER:
                    self._put(buffer, BUFFER, at)
                    at, filled = at + BUFFER, 0
        whole = -(-filled // ALIGNED) * ALIGNED
        if whole:
            self._put(buffer, whole, at)
        self.at += -(-size // ALIGNED) * ALIGNED
        if self._direct is None:
            DISK.sync_data(self._fd)

    def _put(self, buffer: mmap.mmap, size: int, at: int) -> None:
        fd = self._fd if self._direct is None else self._direct
        with memoryview(buffer) as view:
            done = 0
            while done < size:
                done += os.pwrite(fd, view[done:size], at + done)

    def remove(self) -> None:
        """Take it away."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        if self._direct is not None:
            os.close(self._direct)
        os.close(self._fd)


def read(root: Path, place: Place, size: int) -> bytes:
    """Return the bytes at a place; fewer when the pack is gone or too short."""
    number, at = place
    try:
        fd = os.open(_path(root / "packs", number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, size, at)
    finally:
        os.close(fd)


def packs_in(folder: Path) -> list[int]:
    """Return the numbers of the packs that are there."""
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdecimal())
    except FileNotFoundError:
        return []


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:010}"


def _around_cache(fd: int) -> int | None:
    """Open a file once more, so that each write goes to the disk and has arrived when it returns; None: it cannot."""
    flag = getattr(os, "O_DIRECT", 0)
    if not flag:
        return None
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC | os.O_DSYNC | flag)
    except OSError:
        return None
