"""Files compared with their digests before a task gets them: once a process, and again when somebody wrote to one."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from afterwards._domain.ids import new_id
from afterwards._files import comparison
from afterwards._files.comparison import is_known, open_compared
from afterwards._files.pending import Copied, PendingFile
from afterwards._files.promotion import promote
from afterwards._files.staging import Staging
from afterwards._files.stored import StoredFile
from afterwards.errors import DamagedFile, MissingFile

LARGE = b"x" * 1_000_000
Store = Callable[[bytes], StoredFile]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    def store(content: bytes) -> StoredFile:
        source = Copied(io.BytesIO(content), Staging(tmp_path, new_id()))
        pending = PendingFile(source, name="a.bin", content_type=None, headers=())
        pending.hold()
        (stored,) = promote([pending], tmp_path)
        pending.release()
        return stored

    return store


def restart() -> None:
    """What another process knows."""
    comparison._known.clear()


def damage(stored: StoredFile, root: Path, *, secretly: bool = False) -> None:
    """Change a byte; secretly: as a disk does by itself, which leaves the times alone."""
    path = stored.path(root)
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.write(b"!")
    times = (before.st_atime_ns, before.st_mtime_ns if secretly else before.st_mtime_ns + 1)
    os.utime(path, ns=times)


def test_what_another_process_stored_is_compared(store: Store, tmp_path: Path):
    stored = store(LARGE)
    restart()

    with open_compared(stored, tmp_path) as file:
        assert file.read() == LARGE
    restart()
    damage(stored, tmp_path, secretly=True)

    assert not is_known(stored.id, tmp_path)
    with pytest.raises(DamagedFile, match=r"its digest is blake3:.* instead of blake3:"):
        open_compared(stored, tmp_path)


@pytest.mark.parametrize("how", ["stored here", "compared before"])
def test_what_is_known_is_not_read_again(store: Store, tmp_path: Path, how: str):
    """A gigabyte takes half a second: not for each retry, and not where it has just been received."""
    stored = store(LARGE)
    if how == "compared before":
        restart()
        open_compared(stored, tmp_path).close()
    damage(stored, tmp_path, secretly=True)

    assert is_known(stored.id, tmp_path)
    open_compared(stored, tmp_path).close()


def test_what_somebody_wrote_to_is_compared_again(store: Store, tmp_path: Path):
    stored = store(LARGE)
    damage(stored, tmp_path)

    for _ in range(2):
        with pytest.raises(DamagedFile, match="its digest is"):
            open_compared(stored, tmp_path)
    assert not is_known(stored.id, tmp_path)


def test_bytes_in_a_row_are_always_compared(store: Store, tmp_path: Path):
    stored = store(b"small")
    with open_compared(stored, tmp_path) as file:
        assert file.read() == b"small"

    with pytest.raises(DamagedFile, match="in its row"):
        open_compared(msgspec.structs.replace(stored, content=b"smell"), tmp_path)


def test_what_is_missing_or_of_another_size_is_not_read(store: Store, tmp_path: Path):
    stored = store(LARGE)
    os.truncate(stored.path(tmp_path), 10)
    with pytest.raises(DamagedFile, match="10 bytes instead of 1,000,000"):
        open_compared(stored, tmp_path)
    stored.path(tmp_path).unlink()
    with pytest.raises(MissingFile):
        open_compared(stored, tmp_path)


def test_only_the_newest_are_remembered(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comparison, "REMEMBERED", 2)

    stored = [store(LARGE) for _ in range(3)]

    assert [is_known(one.id, tmp_path) for one in stored] == [False, True, True]
