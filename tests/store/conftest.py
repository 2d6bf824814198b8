"""Real SQLite files, a disk that fails on demand, and real mounts where the machine allows them."""

import os
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from afterwards._store.sqlite.store import SqliteStore
from contract.hand import Hand
from store.faults import FaultyDisk

_numbers = count()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "data" / "tasks.db"


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    disk = FaultyDisk(f"faulty{next(_numbers)}")
    yield disk
    disk.plan.clear()
    disk.unregister()


@pytest.fixture
def open_store(path, disk) -> Iterator[Callable[..., SqliteStore]]:
    opened: list[SqliteStore] = []

    def open_it(**options) -> SqliteStore:
        opened.append(SqliteStore(path, **options))
        return opened[-1]

    yield open_it
    disk.plan.clear()
    for store in reversed(opened):
        store.close()


@pytest.fixture
def store(open_store) -> SqliteStore:
    return open_store()


@pytest.fixture
def hand(store) -> Hand:
    hand = Hand(store, "w1")
    hand.register()
    return hand


@pytest.fixture
def mount(tmp_path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system on a fresh folder; the test is skipped where this user may not."""
    mounted: list[Path] = []

    def mount_it(*options: str) -> Path:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a file system")
        folder = tmp_path / f"mounted{len(mounted)}"
        folder.mkdir()
        result = subprocess.run(["mount", *options, folder], capture_output=True, text=True, timeout=30, check=False)
        if result.returncode != 0:
            pytest.skip(f"this machine does not let us mount: {result.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount_it
    for folder in reversed(mounted):
        subprocess.run(["umount", folder], check=True, timeout=30)
