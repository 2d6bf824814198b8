"""Part files: what is promised is on the disk, in the order that a power cut demands, and nothing else counts."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest
from blake3 import blake3

from afterwards._domain.checksums import Hashes
from afterwards._domain.ids import new_id
from afterwards._domain.uploads import Kept, Upload, after_interruption
from afterwards._files import incoming
from afterwards._files.disk import Disk
from afterwards._files.incoming import Incoming
from afterwards._files.joining import append
from afterwards._files.parts import Part, part_path, remove_part
from afterwards._files.stored import path_of
from afterwards._files.sweep import sweep_uploads
from afterwards.errors import StorageFull, StorageUnsure, StoreRefused


class Watched(Disk):
    """The real disk, noting each call; syncing data may fail as the system would."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int | str]] = []
        self.fails = False

    def sync_data(self, fd: int) -> None:
        self.calls.append(("data", os.fstat(fd).st_size))
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_data(fd)

    def sync_folder(self, path: Path) -> None:
        self.calls.append(("folder", path.name))
        super().sync_folder(path)


@pytest.fixture
def disk() -> Watched:
    return Watched()


@pytest.fixture
def part(tmp_path, disk):
    part = Part.open(new_id(), tmp_path, disk=disk)
    yield part
    part.close()


def receiving(part, *, told=None, hashes=None, check=None, offset=0) -> Incoming:
    return Incoming(part, offset, hashes=hashes, check=check, told=told)


def test_bytes_and_name_are_on_the_disk_before_the_end_is_told(part, disk, tmp_path):
    taking = receiving(part)
    taking.write(b"hello")
    assert disk.calls == []
    assert taking.end() == 5
    assert disk.calls == [("folder", "uploads"), ("folder", tmp_path.name), ("data", 5)]
    taking = receiving(part, offset=5)
    taking.write(b"!")
    assert taking.end() == 6
    assert disk.calls[3:] == [("data", 6)]


def test_a_name_that_somebody_else_made_is_made_sure_of_until_bytes_have_been_promised(disk, tmp_path):
    """Whoever made the file may have been refused before it wrote anything, and has synced nothing."""
    id = new_id()
    Part.open(id, tmp_path, disk=disk).close()
    for named in (False, True):
        part = Part.open(id, tmp_path, named=named, disk=disk)
        part.sync()
        part.close()
    folders = [("folder", "uploads"), ("folder", tmp_path.name)]
    assert disk.calls == [*folders, ("data", 0), ("data", 0)]


def test_what_is_left_of_an_upload_that_is_over_never_makes_an_error(tmp_path, caplog):
    """It has ended well, and somebody was told so, or is about to be: the sweep takes the rest."""
    id = new_id()
    part_path(id, tmp_path).mkdir(parents=True)  # as on a disk that can only be read, for root too
    remove_part(id, tmp_path)
    assert f"upload {id}, which is over, cannot be removed now" in caplog.text


def test_an_offset_is_told_only_of_what_was_there_when_its_sync_began(part, disk, monkeypatch):
    monkeypatch.setattr(incoming, "SYNC_BYTES", 1000)
    told: list[int] = []
    taking = receiving(part, told=told.append)
    for _ in range(20):
        taking.write(bytes(700))
    assert taking.end() == 14_000
    assert told
    synced = [size for kind, size in disk.calls if kind == "data"]
    assert all(any(offset <= size for size in synced) for offset in told)
    assert told == sorted(told)
    assert synced[-1] == 14_000


def test_the_writer_goes_on_while_a_sync_takes_long(part, disk, monkeypatch):
    monkeypatch.setattr(incoming, "SYNC_BYTES", 10)
    gate, begun = threading.Event(), threading.Event()
    sync = disk.sync_data

    def slow(fd: int) -> None:
        begun.set()
        assert gate.wait(20)
        sync(fd)

    monkeypatch.setattr(disk, "sync_data", slow)
    told: list[int] = []
    taking = receiving(part, told=told.append)
    taking.write(bytes(100))
    assert begun.wait(20)
    taking.write(bytes(100))
    assert told == []
    gate.set()
    assert taking.end() == 200


def test_after_an_error_of_the_disk_nothing_more_is_told_and_the_rest_is_cut(part, disk, monkeypatch):
    """A second sync of the same bytes may succeed without having written them."""
    monkeypatch.setattr(incoming, "SYNC_BYTES", 10)
    told: list[int] = []
    taking = receiving(part, told=told.append)
    taking.write(bytes(100))
    while not told:
        time.sleep(0)
    disk.fails = True
    taking.write(bytes(100))
    with pytest.raises(StorageUnsure):
        taking.end()
    assert told == [100]
    assert part.size == 100
    with pytest.raises(StorageUnsure):
        taking.write(b"x")


def test_what_fits_on_a_full_disk_is_there(part, monkeypatch):
    write = os.pwrite

    def full(fd: int, data: memoryview, at: int) -> int:
        if at >= 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[: 1000 - at], at)

    monkeypatch.setattr(os, "pwrite", full)
    taking = receiving(part)
    with pytest.raises(StorageFull):
        taking.write(bytes(3000))
    assert taking.end() == 1000
    assert part.size == 1000


def test_digests_cover_exactly_what_was_written(part):
    content = os.urandom(100_000)
    hashes = Hashes(["blake3", "sha-256"])
    taking = receiving(part, hashes=hashes)
    for start in range(0, len(content), 777):
        taking.write(memoryview(content)[start : start + 777])
    taking.end()
    again = Hashes(["blake3"])
    part.read_into(again)
    assert hashes["blake3"].digest() == again["blake3"].digest() == blake3(content).digest()
    assert hashes.covers(["blake3", "sha-256"], len(content))
    assert not hashes.covers(["md5"], len(content))


def test_one_writer_at_a_time(part, tmp_path):
    other = Part.open(part.id, tmp_path, create=False)
    assert part.lock()
    assert not other.lock()
    part.close()
    assert other.lock()
    other.close()
    part.fd = os.open(os.devnull, os.O_RDONLY)


def test_a_link_in_the_place_of_a_part_is_refused(tmp_path):
    id = new_id()
    (tmp_path / "uploads").mkdir()
    part_path(id, tmp_path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreRefused):
        Part.open(id, tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_storing_gives_the_bytes_their_final_name_and_leaves_the_part(part, tmp_path):
    """A crash before the commit leaves an upload that is still whole; storing it again is fine."""
    os.pwrite(part.fd, b"hello", 0)
    for _ in range(2):
        part.store()
        assert path_of(part.id, tmp_path).read_bytes() == b"hello"
        assert part.is_there
    part.remove()
    remove_part(part.id, tmp_path)
    assert path_of(part.id, tmp_path).read_bytes() == b"hello"


def test_another_file_under_the_final_name_is_not_overwritten(part, tmp_path):
    target = path_of(part.id, tmp_path)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"other")
    with pytest.raises(StorageUnsure):
        part.store()
    assert target.read_bytes() == b"other"


@pytest.mark.parametrize("kernel", [True, False])
def test_parts_are_joined_byte_for_byte(tmp_path, monkeypatch, kernel):
    if not kernel:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
        monkeypatch.setattr("afterwards._files.joining._in_kernel", lambda *_: 0)
    sources = [os.urandom(size) for size in (1, 70_001, 0, 3_000_000)]
    target = Part.open(new_id(), tmp_path)
    at = 0
    for content in sources:
        source = Part.open(new_id(), tmp_path)
        os.pwrite(source.fd, content + b"more", 0)
        append(target, at, source, len(content))
        at += len(content)
        source.close()
    assert os.pread(target.fd, at + 10, 0) == b"".join(sources)
    short = Part.open(new_id(), tmp_path)
    with pytest.raises(StorageUnsure):
        append(target, at, short, 5)
    short.close()
    target.close()


def upload(**values) -> Upload:
    return Upload(
        **{"id": "i", "explicit": False, "boot": "b", "created_at": 0, "changed_at": 0, "offset": 10, **values}
    )


@pytest.mark.parametrize(
    ("row", "size", "boot", "checked", "kept"),
    [
        (upload(), 10, "b", False, Kept(size=10, sync=False)),
        (upload(), 25, "b", False, Kept(size=25, sync=True)),  # the process died, the machine did not
        (upload(), 25, "other", False, Kept(size=10, sync=False)),  # the power was cut: only what was synced is sure
        (upload(), 25, "b", True, Kept(size=10, sync=False)),  # never compared with its checksum
        (upload(length=20), 25, "b", False, Kept(size=20, sync=True)),
        (upload(length=10), 25, "b", False, Kept(size=10, sync=False)),
        (upload(), 9, "b", False, None),  # promised bytes are gone
        (upload(), 9, "other", False, None),
    ],
)
def test_which_bytes_count_after_an_interruption(row, size, boot, checked, kept):
    assert after_interruption(row, size=size, boot=boot, checked=checked) == kept


def test_what_no_open_upload_has_is_swept_once_it_is_old(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    needed, stray = new_id(), new_id()
    for name in (f"{needed}.part", f"{stray}.part", f"{stray}.check", "notes.part", f"{new_id()}.txt"):
        (folder / name).write_bytes(b"x")
    now = os.stat(folder).st_ctime

    assert list(sweep_uploads(tmp_path, lambda ids: {needed}, now=now + 10)) == []
    swept = list(sweep_uploads(tmp_path, lambda ids: {needed} & set(ids), now=now + 3700))

    assert sum(step.removed for step in swept) == 2
    left = {path.name for path in folder.iterdir()}
    assert f"{needed}.part" in left
    assert f"{stray}.part" not in left
    assert len(left) == 3
