"""Promotion: what is on the disk when it returns, in which order it got there, and what a failure leaves."""

import errno
import io
import os
from pathlib import Path

import pytest
from blake3 import blake3

from afterwards._domain.ids import new_id
from afterwards._files.disk import Disk
from afterwards._files.pending import Copied, PendingFile, Source
from afterwards._files.promises import is_promised
from afterwards._files.promotion import demote, promote, record
from afterwards._files.spool import Spool
from afterwards._files.spooled import Memory
from afterwards._files.staging import INLINE_BYTES, Staging
from afterwards.errors import DamagedFile, MissingFile, StorageFull, StorageUnsure
from support.stored import content_of


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path, new_id())


class Watched(Disk):
    """The real disk, noting each call; one of them may fail as the system would."""

    def __init__(self, fails: str = "", number: int = errno.EIO) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fails = fails
        self.number = number

    def _note(self, call: str, what: str) -> None:
        self.calls.append((call, what))
        if call == self.fails:
            raise OSError(self.number, os.strerror(self.number))

    def sync_file(self, fd: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) if os.path.exists("/proc") else "?"
        self._note("sync", name)
        super().sync_file(fd)

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        # the sync itself was noted with the folder's name by sync_file

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename", target.name)
        super().rename(source, target)


def received(staging: Staging, content: bytes) -> PendingFile:
    spool = Spool(staging, Memory())
    for at in range(0, len(content), 65_536):
        spool.write(content[at : at + 65_536])
    spool.seek(0)
    return pending(spool)


def pending(source: Source) -> PendingFile:
    file = PendingFile(source, name="a.bin", content_type="x/y", headers=(("content-type", "x/y"),))
    file.hold()
    return file


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != "promises"]


def test_a_small_file_travels_in_its_row(staging: Staging):
    """No file, no sync of its own: the row's commit carries it."""
    disk = Watched()
    (stored,) = promote([received(staging, b"content")], staging.root, disk=disk)

    assert stored.content == b"content"
    assert (stored.size, stored.digest) == (7, f"blake3:{blake3(b'content').hexdigest()}")
    assert disk.calls == []
    assert files(staging.root) == []


def test_a_large_file_gets_its_final_name(staging: Staging):
    content = os.urandom(INLINE_BYTES + 1)
    file = received(staging, content)
    (stored,) = promote([file], staging.root)

    assert stored.id == file.id
    assert (stored.name, stored.content_type, stored.headers) == ("a.bin", "x/y", (("content-type", "x/y"),))
    assert stored.content is None
    assert stored.path(staging.root) == staging.root / "files" / stored.id[-2:] / stored.id
    assert files(staging.root) == [stored.path(staging.root)]
    assert content_of(stored, staging.root) == content


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc to name what was synced")
def test_bytes_reach_the_disk_before_names_and_names_before_we_return(staging: Staging):
    """A power cut at any moment finds either no name or a whole file."""
    ids = [received(staging, os.urandom(300_000)) for _ in range(3)]
    disk = Watched()
    stored = promote(ids, staging.root, disk=disk)

    kinds = [call for call, _ in disk.calls]
    assert kinds[:6] == ["sync"] * 3 + ["rename"] * 3
    assert {what for _, what in disk.calls[:3]} == {f"{file.id}.part" for file in stored}
    synced_after = {what for call, what in disk.calls[6:] if call == "sync"}
    assert synced_after == {file.id[-2:] for file in stored} | {"files", staging.root.name}
    assert len(disk.calls) == 6 + len(synced_after)  # each folder once


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc to name what was synced")
def test_a_folder_that_somebody_else_just_made_is_made_sure_of(staging: Staging):
    """Its maker may not have synced its parent yet; we may not answer before it is on the disk."""
    file = received(staging, os.urandom(300_000))
    (staging.root / "files" / file.id[-2:]).mkdir(parents=True)
    disk = Watched()
    promote([file], staging.root, disk=disk)

    assert {"files", staging.root.name} <= {what for _, what in disk.calls}


def test_one_file_for_two_tasks_is_stored_once(staging: Staging):
    file = received(staging, os.urandom(300_000))
    disk = Watched()
    stored = promote([file, file], staging.root, disk=disk)
    again = promote([file], staging.root, disk=disk)

    assert len(stored) == 1
    assert again == stored
    assert [call for call, _ in disk.calls].count("rename") == 1


@pytest.mark.parametrize("size", [0, 10, INLINE_BYTES, INLINE_BYTES + 1, 3_000_000])
def test_a_file_from_elsewhere_is_copied_from_its_start(staging: Staging, size: int):
    """And left where its owner had it."""
    content = os.urandom(size)
    source = io.BytesIO(content)
    source.seek(size // 2)
    (stored,) = promote([pending(Copied(source, staging))], staging.root)

    assert content_of(stored, staging.root) == content
    assert source.tell() == size // 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("fails", ["sync", "rename"])
def test_a_full_disk_is_told(staging: Staging, fails: str, number: int):
    with pytest.raises(StorageFull, match="storing an upload of 300,000 bytes failed: "):
        promote([received(staging, bytes(300_000))], staging.root, disk=Watched(fails, number))


@pytest.mark.parametrize("fails", ["sync", "rename"])
def test_a_failed_disk_is_told_and_nothing_is_deleted(staging: Staging, fails: str):
    """Whatever is known so far may be needed to find out what happened."""
    batch = [received(staging, bytes(300_000)), received(staging, bytes(300_000))]
    with pytest.raises(StorageUnsure, match=r"storing 2 uploads of together 600,000 bytes failed: Input/output error"):
        promote(batch, staging.root, disk=Watched(fails))

    assert len(files(staging.root)) == 2
    assert [file.stored for file in batch] == [None, None]


def test_a_failed_sync_is_never_tried_again(staging: Staging):
    """The second one may succeed without the bytes: the system has marked them clean."""
    file = received(staging, bytes(300_000))
    with pytest.raises(StorageUnsure):
        promote([file], staging.root, disk=Watched("sync"))

    with pytest.raises(StorageUnsure, match="Send it again"):
        promote([file], staging.root)


class FailsLater(Watched):
    """Fails at the sync of a folder, when the files have their names already."""

    def sync_folder(self, path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class FailsSecond(Watched):
    """Has no room for a second name."""

    def rename(self, source: Path, target: Path) -> None:
        if any(call == "rename" for call, _ in self.calls):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().rename(source, target)


@pytest.mark.parametrize("disk", [FailsLater(), FailsSecond()])
def test_what_was_renamed_before_a_failure_goes_when_it_is_closed(staging: Staging, disk: Disk):
    """No row can tell of it, and nobody counts it."""
    batch = [received(staging, bytes(300_000)), received(staging, bytes(300_000))]
    with pytest.raises((StorageUnsure, StorageFull)):
        promote(batch, staging.root, disk=disk)
    for file in batch:
        file.release()
        file.source.close()  # type: ignore[attr-defined]

    assert files(staging.root) == []
    assert not any(is_promised(file.id, staging.root) for file in batch)


def test_closing_and_releasing_leave_a_promoted_file_alone(staging: Staging):
    file = received(staging, bytes(300_000))
    (stored,) = promote([file], staging.root)
    file.source.close()  # type: ignore[attr-defined]
    file.release()

    assert files(staging.root) == [stored.path(staging.root)]


@pytest.mark.parametrize("close_first", [True, False])
def test_a_promotion_can_be_taken_back(staging: Staging, close_first: bool):
    """The rows were refused for good: nothing stays."""
    file = received(staging, bytes(300_000))
    promote([file], staging.root)
    if close_first:
        file.source.close()  # type: ignore[attr-defined]
        file.release()

    demote([file])
    if not close_first:
        file.release()
        file.source.close()  # type: ignore[attr-defined]

    assert file.stored is None
    assert files(staging.root) == []


def test_a_file_that_has_a_row_is_never_taken_back(staging: Staging):
    """A second task that was refused must not take the file from the first, which is stored."""
    file = received(staging, bytes(300_000))
    (stored,) = promote([file], staging.root)
    record([file])
    demote([file])
    file.source.close()  # type: ignore[attr-defined]
    file.release()

    assert file.stored == stored
    assert files(staging.root) == [stored.path(staging.root)]


def test_a_refused_task_leaves_nothing(staging: Staging):
    file = received(staging, bytes(300_000))
    file.source.close()  # type: ignore[attr-defined]
    file.release()

    assert files(staging.root) == []


def test_a_file_whose_request_died_leaves_nothing(staging: Staging):
    """Nobody called release: the object's end is enough."""
    file = received(staging, bytes(300_000))
    file.source.close()  # type: ignore[attr-defined]
    file.source.settle()
    assert len(files(staging.root)) == 1

    del file

    assert files(staging.root) == []


def test_two_tasks_hold_a_file_until_both_let_go(staging: Staging):
    file = received(staging, bytes(300_000))
    file.hold()
    file.source.close()  # type: ignore[attr-defined]
    file.release()

    (stored,) = promote([file], staging.root)
    assert content_of(stored, staging.root) == bytes(300_000)


def test_a_file_is_let_go_when_the_last_task_lets_go(staging: Staging):
    """Also while somebody still has it, as the form of a request that is not over does."""
    file = received(staging, bytes(300_000))
    file.hold()
    file.source.close()  # type: ignore[attr-defined]

    file.release()
    file.release()

    assert files(staging.root) == []


def test_a_stored_file_that_is_gone_is_told(staging: Staging):
    (stored,) = promote([received(staging, bytes(300_000))], staging.root)
    stored.path(staging.root).unlink()

    with pytest.raises(MissingFile, match=rf"file {stored.id} \(a.bin\) is gone"):
        stored.open(staging.root)


def test_a_stored_file_of_another_size_is_told(staging: Staging):
    (stored,) = promote([received(staging, bytes(300_000))], staging.root)
    os.truncate(stored.path(staging.root), 5)

    with pytest.raises(DamagedFile, match="it has 5 bytes instead of 300,000"):
        stored.open(staging.root)


def test_a_stored_file_with_other_bytes_is_told_when_read_as_a_whole(staging: Staging):
    (stored,) = promote([received(staging, bytes(300_000))], staging.root)
    stored.path(staging.root).write_bytes(b"x" * 300_000)

    with pytest.raises(DamagedFile, match="its digest is blake3:"):
        content_of(stored, staging.root)


def test_a_link_or_a_pipe_in_place_of_a_stored_file_is_not_followed(staging: Staging, tmp_path: Path):
    """What somebody plants in the folder is neither read nor waited for."""
    (stored,) = promote([received(staging, bytes(300_000))], staging.root)
    path = stored.path(staging.root)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(DamagedFile, match="it is a link"):
        stored.open(staging.root)

    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedFile, match="instead of 300,000"):
        stored.open(staging.root)


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_stored_file_cannot_be_written_through(staging: Staging, size: int):
    (stored,) = promote([received(staging, bytes(size))], staging.root)
    with stored.open(staging.root) as file:
        assert not file.writable()
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            file.truncate(0)
        assert file.read() == bytes(size)
