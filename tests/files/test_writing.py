"""Writing in order: what is large goes around the page cache, and nobody who reads the file can tell."""

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterwards._domain.ids import new_id
from afterwards._files import writing
from afterwards._files.staging import Staging
from afterwards._files.stored import digest_of
from afterwards._files.writing import BLOCK, OrderedWriter
from afterwards.errors import StorageFull
from support.disk import TINY

CACHED = 4 << 20  # here; else 32 MiB
SIZE = CACHED + 3 * BLOCK + 12_345
CONTENT = random.Random(7).randbytes(SIZE)


@pytest.fixture(autouse=True)
def little_cached(monkeypatch) -> None:
    monkeypatch.setattr(writing, "WRITE_BACK", CACHED)


@pytest.fixture
def almost_full(tiny_disk: Path) -> Path:
    """A disk with room for what is cached and a bit more."""
    (tiny_disk / "ballast").write_bytes(bytes((TINY - 6) << 20))
    return tiny_disk


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def descriptors(fd: int) -> int:
    """How many descriptors of the file go around the page cache."""
    name = os.readlink(f"/proc/self/fd/{fd}")
    flags = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}") == name:
                flags += [
                    line for line in Path(f"/proc/self/fdinfo/{entry}").read_text().splitlines() if "flags" in line
                ]
        except FileNotFoundError:  # the one that listed
            continue
    return sum(bool(int(line.split()[1], 8) & os.O_DIRECT) for line in flags)


def fill(write, size: int, start: int = 0) -> None:
    """Write the content in pieces of every size, as sockets give them."""
    pieces = random.Random(start)
    while start < size:
        piece = CONTENT[start : min(size, start + pieces.choice((1, 4095, 65_536, 262_144, 3 * BLOCK)))]
        write(piece)
        start += len(piece)


def fill_and(end, write) -> None:
    fill(write, SIZE)
    end()


@pytest.mark.parametrize("at", [0, 1, 4096, 12_345])
def test_all_is_in_the_file_from_any_offset(fd: int, at: int):
    os.pwrite(fd, CONTENT[:at], 0)
    writer = OrderedWriter(fd, at)

    fill(writer.write, SIZE, at)
    direct = descriptors(fd)
    writer.settle()

    assert direct == 1
    assert descriptors(fd) == 0
    assert writer.end == writer.written == SIZE
    assert os.pread(fd, SIZE + 1, 0) == CONTENT


def test_what_is_on_its_way_does_not_count_as_written(fd: int):
    writer = OrderedWriter(fd)

    fill(writer.write, SIZE)

    assert CACHED <= writer.written < writer.end == SIZE
    assert os.pread(fd, writer.written, 0) == CONTENT[: writer.written]
    writer.give_up()


def test_a_file_system_without_this_way_takes_all_through_the_cache(fd: int, monkeypatch):
    def refuse(*args: object) -> int:
        raise OSError(errno.EINVAL, "no O_DIRECT here")

    monkeypatch.setattr(writing.os, "open", refuse)
    writer = OrderedWriter(fd)
    fill(writer.write, SIZE)
    monkeypatch.undo()

    writer.settle()

    assert os.pread(fd, SIZE + 1, 0) == CONTENT


def test_a_full_disk_keeps_what_fitted_and_takes_no_more(almost_full: Path):
    fd = os.open(almost_full / "file", os.O_RDWR | os.O_CREAT)
    try:
        writer = OrderedWriter(fd)
        with pytest.raises(OSError, match="No space left"):
            fill_and(writer.settle, writer.write)

        with pytest.raises(OSError, match="No space left"):
            writer.write(b"more")
        with pytest.raises(OSError, match="No space left"):
            writer.settle()
        assert CACHED <= writer.end == os.fstat(fd).st_size
        assert os.pread(fd, SIZE, 0) == CONTENT[: writer.end]
    finally:
        os.close(fd)


def test_a_staged_file_is_read_sought_and_changed_as_ever(tmp_path: Path):
    with Staging(tmp_path, new_id()).open() as file:
        fill(file.write, SIZE)
        assert file.tell() == SIZE
        file.seek(0)
        assert file.read(10) == CONTENT[:10]
        file.seek(CACHED + 5)
        file.write(b"changed")
        file.seek(0, os.SEEK_END)
        file.write(b"and more")
        expected = CONTENT[: CACHED + 5] + b"changed" + CONTENT[CACHED + 12 :] + b"and more"

        file.settle()

        assert (file.size, file.digest) == (len(expected), digest_of(expected))
        assert os.pread(file.fileno(), len(expected) + 1, 0) == expected


@pytest.mark.parametrize("end", ["settle", "fileno", "close"])
def test_a_staged_file_leaves_no_descriptor(tmp_path: Path, end: str):
    before = len(os.listdir("/proc/self/fd"))
    file = Staging(tmp_path, new_id()).open()
    fill(file.write, SIZE)

    getattr(file, end)()

    assert len(os.listdir("/proc/self/fd")) == before + (end != "close")
    file.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_staged_file_that_failed_is_never_stored_short(almost_full: Path):
    with Staging(almost_full, new_id()).open() as file:
        with pytest.raises(OSError, match="No space left"):
            fill_and(file.fileno, file.write)

        for _ in range(2):
            with pytest.raises(StorageFull):
                file.settle()
