"""The stores that must pass this suite. A second database adds a factory here and nothing else."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afterwards._store.contract import Store
from afterwards._store.sqlite.store import SqliteStore
from contract.hand import Hand

Open = Callable[[], Store]


def open_sqlite(folder: Path) -> Store:
    return SqliteStore(folder / "tasks.db")


@pytest.fixture(params=[open_sqlite], ids=["sqlite"])
def open_store(request, tmp_path) -> Iterator[Open]:
    """Opens the test's database, each time as another process would."""
    opened = []

    def open_it() -> Store:
        opened.append(request.param(tmp_path))
        return opened[-1]

    yield open_it
    for store in reversed(opened):
        store.close()


@pytest.fixture
def store(open_store) -> Store:
    return open_store()


@pytest.fixture
def hand(store) -> Hand:
    """A worker named "w1" that is known to the store, and its hands on it."""
    hand = Hand(store, "w1")
    hand.register()
    return hand
