"""Writes bytes that come in order into an open file, those of a large one around the page cache.

The first 32 MiB go through the page cache, where a task finds them again without the disk. What follows would only push
out what others have there, and copying it there is the dearest part of receiving: it goes from two aligned blocks
straight to the disk (`O_DIRECT`), one on its way while the next is filled. Where the system or the file system has no
such way, everything takes the first one, and its writing back begins each 32 MiB.
"""

import errno
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from afterwards._files.disk import WRITE_BACK, start_writing_back
from afterwards._files.pools import Pool

BLOCK = 2 << 20  # bytes of one direct write
ALIGNED = 4096  # bytes: no disk in use asks for more
THREADS = 8

_threads = Pool("writing", THREADS)


class OrderedWriter:
    """Writes from one offset on. Its methods block, and are called by one thread at a time."""

    def __init__(self, fd: int, at: int = 0) -> None:
        self.end = at  # behind the last byte taken
        self.failed = False  # the file has all up to `end`, and takes no more
        self._number = 0  # of the error
        self._fd = fd
        self._sent = at  # the writing back has begun up to here
        self._direct: _Direct | None = None
        self._cached = False  # from here on everything goes through the page cache

    @property
    def written(self) -> int:
        """Up to here a sync of the file finds everything."""
        return self.end if self._direct is None else self._direct.written

    def write(self, data: Any) -> None:
        """Take the next bytes, which may be overwritten once this returns.

        Raises:
            OSError: The disk refused these or earlier ones; `end` may have gone back.
        """
        with self._failing():
            view = memoryview(data).cast("B")
            if self._direct is None and self.end - self._sent >= WRITE_BACK:
                view = self._turn(view)
            if self._direct is None:
                self._write_cached(view)
            else:
                self._direct.write(view)
                self.end += len(view)

    def settle(self) -> None:
        """Wait until the file has all that was taken; from here on everything goes through the page cache.

        Raises:
            OSError: As `write`.
        """
        with self._failing():
            self._cached = True
            if (direct := self._direct) is not None:
                rest = direct.finish()
                self._direct, self.end = None, direct.written
                self._write_cached(rest)

    def give_up(self) -> None:
        """Wait for what is on its way; what else was taken is forgotten. The descriptor stays open."""
        self._cached = True
        if (direct := self._direct) is not None:
            direct.give_up()
            self._direct, self.end = None, direct.written

    def _turn(self, view: memoryview) -> memoryview:
        """Have what is in the page cache written, go on around it if that can be, and return what is left to write."""
        start_writing_back(self._fd, self._sent, self.end - self._sent)
        self._sent = self.end
        if self._cached:
            return view
        head = view[: -self.end % ALIGNED]
        self._write_cached(head)
        if self.end % ALIGNED == 0:
            self._direct = _Direct.open(self._fd, self.end)
            self._cached = self._direct is None
        return view[len(head) :]

    def _write_cached(self, view: memoryview) -> None:
        while view:
            count = os.pwrite(self._fd, view, self.end)
            self.end += count
            view = view[count:]

    @contextmanager
    def _failing(self) -> Iterator[None]:
        if self.failed:
            raise OSError(self._number, os.strerror(self._number))
        try:
            yield
        except OSError as error:
            self.failed, self._number = True, error.errno or errno.EIO
            self.give_up()
            if os.fstat(self._fd).st_size > self.end:  # part of a block
                os.ftruncate(self._fd, self.end)
            raise


class _Direct:
    """Writes whole blocks from memory to the disk, one at a time, so that the file never has a hole."""

    def __init__(self, fd: int, cached: int, at: int) -> None:
        self.written = at  # everything before this is in the file
        self._fd = fd
        self._cached = cached  # the same file, through the page cache
        self._filling, self._free = mmap.mmap(-1, BLOCK), mmap.mmap(-1, BLOCK)  # aligned, as maps are
        self._filled = 0
        self._flying: Future[None] | None = None  # writes the free one

    @classmethod
    def open(cls, fd: int, at: int) -> "_Direct | None":
        """Open the file of a descriptor once more, or return None where nothing can be written so."""
        flag = getattr(os, "O_DIRECT", 0)
        if not flag:
            return None
        try:
            return cls(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC | flag), fd, at)
        except OSError:  # not on this file system; or no more descriptors, which need not end an upload
            return None

    def write(self, view: memoryview) -> None:
        """Take bytes; wait while both blocks are full.

        Raises:
            OSError: An earlier block was refused.
        """
        while view:
            count = min(len(view), BLOCK - self._filled)
            self._filling[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == BLOCK:
                self._land()
                self._flying = _threads.submit(_write, self._fd, self._cached, self._filling, self.written)
                self._filling, self._free, self._filled = self._free, self._filling, 0

    def finish(self) -> memoryview:
        """Wait for what is on its way, and return the bytes that fill no block.

        Raises:
            OSError: A block was refused.
        """
        self._land()
        self._close()
        return memoryview(self._filling)[: self._filled]

    def give_up(self) -> None:
        """Wait for what is on its way; whether it arrived is of no interest any more."""
        if self._flying is not None:
            self._flying.exception()
        self._close()

    def _land(self) -> None:
        if self._flying is not None:
            self._flying.result()
            self._flying = None
            self.written += BLOCK

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write(fd: int, cached: int, block: mmap.mmap, at: int) -> None:
    with memoryview(block) as view:
        done = 0
        while done < BLOCK:
            try:
                done += os.pwrite(fd, view[done:], at + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                done += os.pwrite(cached, view[done:], at + done)  # a file system with an idea of its own of aligned
