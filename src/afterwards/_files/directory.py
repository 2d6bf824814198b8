"""The data directory: one folder with the database, the key and the files of an installation.

Only its owner may look into it. It refuses a place where SQLite would lose data before anything is created there.
"""

import os
from pathlib import Path

from afterwards.errors import StoreRefused

KEY_BYTES = 32
RESTORING = "restoring"  # a file of this name: `afterwards restore` has not finished here


def open_directory(root: Path) -> Path:
    """Make the folder, or check the one that is there, and return it as an absolute path.

    Raises:
        StoreRefused: It cannot be made or written.
    """
    root = root.absolute()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        os.close(descriptor)
    except (NotADirectoryError, FileExistsError) as error:
        raise StoreRefused(
            f"the data directory {root} is a file. Choose a folder with --data or AFTERWARDS_DATA."
        ) from error
    except OSError as error:
        raise StoreRefused(
            f"the data directory {root} cannot be made: {error.strerror}. "
            "Choose a folder this user may write with --data or AFTERWARDS_DATA."
        ) from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise StoreRefused(
            f"the data directory {root} is not writable for this user. Change its owner, or choose another with --data."
        )
    check_restored(root)
    return root


def check_restored(root: Path) -> None:
    """Refuse a folder in which a restore has not come to its end.

    Raises:
        StoreRefused: It lacks files that its database names.
    """
    if os.path.lexists(root / RESTORING):
        raise StoreRefused(
            f"a restore into the data directory {root} did not come to its end, so it lacks what its database names. "
            "Run `afterwards restore` again; it begins anew."
        )


def load_key(root: Path) -> bytes:
    """Return the key that signs stored tasks, made at the first start.

    Raises:
        StoreRefused: The key file is damaged, or is missing although the database is there.
    """
    path = root / "key"
    try:
        if not os.path.lexists(path) and not os.path.lexists(root / "afterwards.db"):
            _make_key(root, path)
    except OSError as error:
        raise StoreRefused(
            f"{path} cannot be made: {error.strerror}. Make room there, or choose a data directory this user may write."
        ) from error
    try:
        key = path.read_bytes()
    except FileNotFoundError as error:
        raise StoreRefused(
            f"{path} is missing, but the database beside it is not: without its key no stored task can be trusted. "
            "Put the key back from a backup; or, to start over, move the whole data directory away."
        ) from error
    except OSError as error:
        raise StoreRefused(
            f"{path} cannot be read: {error.strerror}. It must belong to the user of this program."
        ) from error
    if len(key) != KEY_BYTES:
        raise StoreRefused(f"{path} has {len(key)} bytes instead of {KEY_BYTES}. Put the key back from a backup.")
    return key


def _make_key(root: Path, path: Path) -> None:
    """Write a key under a name of its own and link it into place: of several that start at once, one wins."""
    draft = root / f"key.{os.getpid()}.{os.urandom(4).hex()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, os.urandom(KEY_BYTES))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
