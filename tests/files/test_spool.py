"""The file behind an upload: in memory while small, on disk after, and always a plain binary file to look at."""

import csv
import io
import os
import random
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from afterwards._domain.ids import new_id
from afterwards._files.spool import Spool
from afterwards._files.spooled import IN_MEMORY, Memory
from afterwards._files.staging import INLINE_BYTES, StagedFile, Staging
from afterwards._files.stored import digest_of


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path, new_id())


@pytest.fixture
def spool(staging: Staging) -> Spool:
    return Spool(staging, Memory())


def on_disk(staging: Staging) -> list[str]:
    return os.listdir(staging.folder) if staging.folder.exists() else []


def test_a_small_file_stays_in_memory(spool: Spool, staging: Staging):
    """It will live in its row; no file is made for it, and no thread is asked."""
    spool.write(b"x" * INLINE_BYTES)
    spool.seek(0)

    assert not spool._rolled
    assert spool.settle() == b"x" * INLINE_BYTES
    assert on_disk(staging) == []


def test_one_byte_more_goes_to_disk(spool: Spool):
    spool.write(b"x" * INLINE_BYTES)
    spool.write(b"y")

    staged = spool.settle()

    assert isinstance(staged, StagedFile)
    assert staged.path.read_bytes() == b"x" * INLINE_BYTES + b"y"
    spool.close()


def test_many_files_of_one_request_share_a_limit_on_memory(staging: Staging):
    """1,000 files of 200 KiB must not take 200 MiB before they reach the disk."""
    memory = Memory()
    spools = [Spool(staging, memory) for _ in range(100)]
    for spool in spools:
        for _ in range(3):
            spool.write(b"x" * 65_536)
            assert memory.used <= IN_MEMORY

    assert len(on_disk(staging)) == 100 - IN_MEMORY // (3 * 65_536)
    assert all(spool.read() == b"x" * 3 * 65_536 for spool in spools if spool.seek(0) == 0)
    for spool in spools:
        spool.close()
    assert memory.used == 0
    assert on_disk(staging) == []


@pytest.mark.parametrize("size", [0, 10, INLINE_BYTES, INLINE_BYTES + 1, 3_000_000])
def test_what_was_received_is_what_is_read(spool: Spool, size: int):
    content = os.urandom(size)
    for at in range(0, size, 60_001):
        spool.write(content[at : at + 60_001])
    assert spool.tell() == size
    spool.seek(0)

    assert spool.read() == content
    assert spool.seek(0, os.SEEK_END) == size
    spool.close()


def any_call(rng: random.Random) -> Callable[[Any], object]:
    """One call on a file, the same each time it is made."""
    data = rng.randbytes(rng.choice([0, 1, 20, 40_000, 70_000, 300_000]))
    place = rng.randrange(200_000)
    calls: list[Callable[[Any], object]] = [
        lambda file: file.write(data),
        lambda file: file.write(data),
        lambda file: file.writelines([data, b"\n", data]),
        lambda file: file.seek(place),
        lambda file: file.seek(-(place % 10), os.SEEK_END) if file.seek(0, os.SEEK_END) > 10 else None,
        lambda file: file.seek(place, os.SEEK_CUR),
        lambda file: file.seek(0, os.SEEK_END),
        lambda file: file.tell(),
        lambda file: file.read(place),
        lambda file: file.readline(),
        lambda file: file.readinto(bytearray(100)),
        lambda file: next(iter(file), None),
        lambda file: file.truncate(place),
        lambda file: file.truncate(),
        lambda file: file.flush(),
        lambda file: file.rollover() if isinstance(file, Spool) else None,
    ]
    return rng.choice(calls)


@pytest.mark.parametrize("seed", range(150))
def test_every_call_does_what_a_temporary_file_does(spool: Spool, staging: Staging, seed: int):
    """Random programs of calls, run on a file of the standard library and on ours, give the same answers."""
    rng = random.Random(seed)
    with tempfile.TemporaryFile() as model:
        for _ in range(rng.randrange(1, 25)):
            call = any_call(rng)
            assert call(spool) == call(model)
        position = model.tell()
        assert spool.tell() == position
        model.seek(0)
        content = model.read()

    settled = spool.settle()

    if isinstance(settled, StagedFile):
        assert settled.path.read_bytes() == content
        assert settled.digest == f"blake3:{blake3(content).hexdigest()}"
    else:
        assert settled == content
    assert spool.tell() == position
    spool.close()
    assert on_disk(staging) == []


@pytest.mark.parametrize("padding", [0, 400_000])
def test_libraries_that_take_a_binary_file_take_this_one(spool: Spool, padding: int):
    """Whatever people do with `UploadFile.file` today goes on working, small or large."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("table.csv", "a,b\r\n1,2\r\n")
        archive.writestr("padding", os.urandom(padding))
    spool.write(packed.getvalue())
    spool.seek(0)

    with zipfile.ZipFile(spool) as archive, archive.open("table.csv") as table:
        assert list(csv.reader(io.TextIOWrapper(table))) == [["a", "b"], ["1", "2"]]
    assert os.pread(spool.fileno(), 4, 0) == packed.getvalue()[:4]
    spool.close()


@pytest.mark.parametrize("give_out", [lambda spool: spool.fileno(), lambda spool: (spool.rollover(), spool.name)[1]])
def test_what_a_program_writes_through_the_descriptor_is_in_the_digest(spool: Spool, give_out: Callable[[Spool], int]):
    """Libraries in C and memory maps write past us; the digest in the row must be that of the bytes all the same."""
    spool.write(b"x" * 1_000_000)

    os.pwrite(give_out(spool), b"head", 0)

    settled = spool.settle()
    assert isinstance(settled, StagedFile)
    assert settled.digest == digest_of(b"head" + b"x" * 999_996)
    assert settled.path.read_bytes()[:5] == b"headx"
    spool.close()


def test_text_can_be_read_through_a_wrapper(spool: Spool):
    spool.write("name,größe\n".encode() * 20_000)
    spool.seek(0)

    text = io.TextIOWrapper(spool, encoding="utf-8")

    assert next(csv.reader(text)) == ["name", "größe"]
    assert sum(1 for _ in text) == 19_999


@pytest.mark.parametrize("size", [10, 100_000, 1_000_000])
def test_closing_removes_what_nobody_holds(spool: Spool, staging: Staging, size: int):
    spool.write(b"x" * size)
    spool.seek(0)
    spool.read(1)

    spool.close()
    spool.close()

    assert on_disk(staging) == []
    with pytest.raises(ValueError, match="closed file"):
        spool.read()
    with pytest.raises(ValueError, match="closed file"):
        spool.write(b"x")


@pytest.mark.parametrize("size", [10, 100_000, 1_000_000])
def test_a_held_file_outlives_its_close(spool: Spool, staging: Staging, size: int):
    """`async with request.form()` closes before the commit; the task's file must be there all the same."""
    spool.write(b"x" * size)
    spool.hold()

    spool.close()
    settled = spool.settle()

    assert (settled if isinstance(settled, bytes) else settled.path.read_bytes()) == b"x" * size
    spool.release()
    assert on_disk(staging) == []


def test_a_settled_file_can_be_read_but_not_changed(spool: Spool):
    spool.write(b"content")
    spool.settle()
    spool.seek(0)

    assert spool.read() == b"content"
    with pytest.raises(io.UnsupportedOperation, match="can only be read"):
        spool.write(b"more")
    with pytest.raises(io.UnsupportedOperation, match="can only be read"):
        spool.truncate(0)
