"""Opens the data directory of a program for the `tasks` commands, whether or not it runs; it never makes one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afterwards._domain.ids import is_id
from afterwards._domain.tasks import TaskRow
from afterwards._files.directory import check_restored
from afterwards._store.contract import Store
from afterwards._store.sqlite.store import SqliteStore
from afterwards.errors import StoreRefused, UnknownTask


@contextmanager
def opened(root: Path) -> Iterator[Store]:
    """Open the store of a data directory, and close it at the end.

    Raises:
        StoreRefused: There is no database, or it cannot be used.
    """
    store = SqliteStore(check_place(root))
    try:
        yield store
    finally:
        store.close()


def check_place(root: Path) -> Path:
    """Return the path of the database of a data directory.

    Raises:
        StoreRefused: There is none, or it is not for this user to read.
    """
    path = root.absolute() / "afterwards.db"
    check_restored(path.parent)
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreRefused(
            f"there is no database of Afterwards in {path.parent}. Name the data directory of the program with --data "
            "or AFTERWARDS_DATA, or go to the folder that holds its afterwards-data."
        ) from error
    except OSError as error:
        raise StoreRefused(
            f"the database {path} cannot be read: {error.strerror}. Use the account that runs the program."
        ) from error
    if size == 0:
        raise StoreRefused(f"the database {path} is empty: no program has been started with this data directory yet.")
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK | os.X_OK):
        raise StoreRefused(
            f"the database {path} belongs to another account, and SQLite writes beside it even to read it. "
            "Use the account that runs the program."
        )
    return path


def find(store: Store, id: str) -> TaskRow:
    """Return a task.

    Raises:
        UnknownTask: There is none with this id.
    """
    row = store.task(id) if is_id(id) else None
    if row is None:
        raise UnknownTask(task=id)
    return row
