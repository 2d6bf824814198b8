"""The data directory is made once, for its owner alone, and refused with a reason where it cannot be used."""

import os
import stat
import threading

import pytest

from afterwards._files.directory import KEY_BYTES, load_key, open_directory
from afterwards.errors import StoreRefused
from engine.jobs import DEADLINE


def test_it_is_made_with_its_parents_and_closed_to_others(tmp_path):
    root = open_directory(tmp_path / "a" / "b")

    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert open_directory(root) == root


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "data").write_text("x")

    with pytest.raises(StoreRefused, match="is a file"):
        open_directory(tmp_path / "data")
    with pytest.raises(StoreRefused, match="is a file"):
        open_directory(tmp_path / "data" / "below")


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    key = load_key(tmp_path)

    assert len(key) == KEY_BYTES
    assert load_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_processes_that_start_together_have_the_same_key(tmp_path):
    """Or each would take the other's tasks for forged."""
    together, keys = threading.Barrier(8), []

    def start() -> None:
        together.wait(DEADLINE)
        keys.append(load_key(tmp_path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)

    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_a_lost_key_is_not_replaced_by_a_new_one(tmp_path):
    """With a new one every stored task would fail as forged."""
    (tmp_path / "afterwards.db").write_bytes(b"")

    with pytest.raises(StoreRefused, match="Put the key back from a backup"):
        load_key(tmp_path)

    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_key_is_refused(tmp_path, content):
    (tmp_path / "key").write_bytes(content)

    with pytest.raises(StoreRefused, match=f"has {len(content)} bytes instead of 32"):
        load_key(tmp_path)


def test_a_link_that_leads_nowhere_is_no_reason_to_make_a_new_key(tmp_path):
    """The volume with the key is not mounted."""
    (tmp_path / "key").symlink_to(tmp_path / "not-mounted" / "key")

    with pytest.raises(StoreRefused, match="is missing"):
        load_key(tmp_path)


def test_a_disk_without_room_for_the_key_says_so(tmp_path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)

    with pytest.raises(StoreRefused, match=r"cannot be made: No space left on device\. Make room"):
        load_key(tmp_path)
