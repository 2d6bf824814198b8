"""Staged files: what they look like on disk, how they count and hash, when they go."""

import csv
import io
import mmap
import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from blake3 import blake3

from afterwards._domain.ids import new_id
from afterwards._files.staging import StagedFile, Staging, _HashedFile
from afterwards.errors import StorageFull, StorageUnsure, StoreRefused


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path, new_id())


def digest(content: bytes) -> str:
    return f"blake3:{blake3(content).hexdigest()}"


def test_nothing_is_made_before_the_first_file(staging: Staging):
    """A process that never receives a file leaves no folder to sweep."""
    assert os.listdir(staging.root) == []


def test_only_we_can_read_what_is_staged(staging: Staging):
    """Uploads are private: other users of the machine can neither list nor open them."""
    with staging.open() as file:
        modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (staging.folder.parent, staging.folder, file.path)]

    assert modes == [0o700, 0o700, 0o600]


def test_a_file_lies_under_its_owner_and_its_id(staging: Staging):
    """The sweep finds out from the path alone whose file it is."""
    with staging.open() as file:
        assert file.path == staging.root / "staging" / staging.owner / f"{file.id}.part"
        assert file.path.exists()


def test_an_existing_file_is_never_opened(staging: Staging):
    """O_EXCL: not even a guessed id makes two uploads share a file, nor a planted link lead elsewhere."""
    with staging.open() as file, pytest.raises(StorageUnsure):
        staging.open(file.id)


def test_a_link_in_place_of_the_staging_folder_is_refused(staging: Staging, tmp_path: Path):
    """Whoever plants a link must not choose where uploads go."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "staging").symlink_to(tmp_path / "elsewhere" / "not-there")

    with pytest.raises(StoreRefused, match="is not a folder"):
        staging.open()


def test_owners_are_ids(tmp_path: Path):
    """A path from elsewhere cannot become a folder."""
    with pytest.raises(ValueError, match="named by an id"):
        Staging(tmp_path, "../../etc")


def test_closing_removes_the_file(staging: Staging):
    """Nothing stays of an upload that nobody wanted."""
    file = staging.open()
    file.write(b"x" * 1_000_000)

    file.close()
    file.close()

    assert os.listdir(staging.folder) == []


def test_a_file_that_nobody_knows_any_more_is_removed(staging: Staging):
    """A request that dies without closing anything leaves nothing either."""
    file = staging.open()
    assert len(os.listdir(staging.folder)) == 1

    del file

    assert os.listdir(staging.folder) == []


def test_a_forked_child_does_not_remove_its_parents_file(staging: Staging):
    """The child inherits the object; when it ends, the parent's upload must still be there."""
    file = staging.open()
    child = os.fork()
    if child == 0:
        file.close()
        os._exit(0)
    os.waitpid(child, 0)

    assert file.path.exists()
    file.close()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 5_000_001])
def test_size_and_digest_are_those_of_the_bytes(staging: Staging, size: int):
    content = os.urandom(size)
    with staging.open() as file:
        for at in range(0, size, 70_000):
            file.write(content[at : at + 70_000])
        file.settle()

        assert (file.size, file.digest) == (size, digest(content))
        assert file.path.read_bytes() == content


def overwrite(file: StagedFile) -> None:
    file.seek(3)
    file.write(b"!")


def leave_a_hole(file: StagedFile) -> None:
    file.seek(300_000)
    file.write(b"!")


def shorten(file: StagedFile) -> None:
    file.truncate(10)


def lengthen(file: StagedFile) -> None:
    file.truncate(500_000)


def begin_again(file: StagedFile) -> None:
    file.seek(0)
    file.truncate(0)
    file.write(b"new")


def shorten_and_append(file: StagedFile) -> None:
    file.truncate(10)
    file.seek(0, os.SEEK_END)
    file.write(b"more")


def read_and_append(file: StagedFile) -> None:
    file.seek(0)
    file.read(10)
    file.seek(0, os.SEEK_END)
    file.write(b"more")


def write_through_its_descriptor(file: StagedFile) -> None:
    os.pwrite(file.fileno(), b"!", 3)


def write_through_a_map(file: StagedFile) -> None:
    with mmap.mmap(file.fileno(), 100) as view:
        view[:4] = b"head"


def write_through_its_descriptor_after_a_digest(file: StagedFile) -> None:
    fd = file.fileno()
    file.digest_now()
    os.pwrite(fd, b"!", 3)


@pytest.mark.parametrize(
    "change",
    [
        overwrite,
        leave_a_hole,
        shorten,
        lengthen,
        begin_again,
        shorten_and_append,
        read_and_append,
        write_through_its_descriptor,
        write_through_a_map,
        write_through_its_descriptor_after_a_digest,
    ],
)
def test_the_digest_is_right_however_the_file_was_written(staging: Staging, change):
    """Who writes out of order costs us a second read, never a wrong digest."""
    with staging.open() as file:
        file.write(os.urandom(200_000))
        file.flush()
        change(file)
        file.settle()

        content = file.path.read_bytes()
        assert (file.size, file.digest) == (len(content), digest(content))


def test_a_settled_file_can_be_read_but_not_changed(staging: Staging):
    """The digest that is committed must stay true."""
    with staging.open() as file:
        file.write(b"content")
        file.settle()
        file.seek(0)

        assert file.read() == b"content"
        with pytest.raises(io.UnsupportedOperation, match="can only be read"):
            file.write(b"more")
        with pytest.raises(io.UnsupportedOperation, match="can only be read"):
            file.truncate(0)


def test_libraries_that_take_a_binary_file_take_this_one(staging: Staging):
    """Whatever people do with `.file` today goes on working."""
    with staging.open() as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("table.csv", "a,b\r\n1,2\r\n")
        archive.close()
        target = io.BytesIO()
        file.seek(0)
        shutil.copyfileobj(file, target)
        with zipfile.ZipFile(file) as again, again.open("table.csv") as table:
            rows = list(csv.reader(io.TextIOWrapper(table)))

        assert rows == [["a", "b"], ["1", "2"]]
        assert zipfile.is_zipfile(target)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full, which is a full disk")
def test_a_full_disk_is_told_with_the_numbers(staging: Staging):
    """Not an OSError 28 in a log, but what happened, where, and what to do."""
    file = StagedFile(
        _HashedFile(os.open("/dev/full", os.O_RDWR)),
        id=new_id(),
        path=staging.root / "none",
        root=staging.root,
    )
    file.write(b"x" * 1000)

    with pytest.raises(StorageFull, match=r"1,000 bytes failed: no space is left on the disk of .*Make room"):
        file.settle()
    file.close()
