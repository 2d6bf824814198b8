"""Checks the place a database is to live in, and makes its folder and file so that only we can read them.

Nothing is written before the checks have passed: a library with the WAL-reset fault and a network file system
are refused. What the file holds is looked at in `schema.py`.
"""

import os
import re
import threading
from pathlib import Path

from afterwards.errors import StoreRefused

# Below 3.51.3 two connections that write and checkpoint at once can corrupt the file; two branches got the fix too.
# https://sqlite.org/wal.html, "the WAL-reset bug". 3.52.0 was withdrawn.
_FIXED_FROM = (3, 51, 3)
_FIXED_TOO = ((3, 50, 7), (3, 44, 6))
_WITHDRAWN = (3, 52, 0)

# Where WAL's shared memory does not reach every reader. Some "fuse" ones are local, but none says so: safe beats sorry.
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs"})

_creating = threading.Lock()  # closing a file drops this process's locks on it: nobody may open it in between


def check_library(found: str) -> None:
    """Refuse an SQLite that can destroy what we store."""
    version = tuple(int(part) for part in found.split(".")[:3])
    fixed = version >= _FIXED_FROM or any(version[:2] == too[:2] and version >= too for too in _FIXED_TOO)
    if fixed and version != _WITHDRAWN:
        return
    raise StoreRefused(
        f"this program runs on SQLite {found}, in which a fault can destroy a database that several "
        "connections write (fixed in 3.51.3). Install apsw from its wheel: `pip install --upgrade apsw`."
    )


def check_file_system(folder: Path, kind: str | None) -> None:
    """Refuse a file system whose memory several processes cannot share, `kind` as the system names it."""
    if kind is not None and (kind in _NETWORK or kind == "fuse" or kind.startswith("fuse.")):
        raise StoreRefused(
            f"the data directory {folder} lies on a network file system ({kind}), where SQLite can lose data. "
            "Choose a folder on a local disk with --data or AFTERWARDS_DATA."
        )


def file_system(folder: Path, mounts: str | None = None) -> str | None:
    """Name the type of file system a folder lies on; None where the system does not tell.

    Args:
        folder: It need not exist yet.
        mounts: The text of Linux's mountinfo; by default that of this process.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text()
        except FileNotFoundError:  # not Linux
            return None
    place = Path(os.path.realpath(folder))
    found, depth = None, -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4]))
        if len(point.parts) >= depth and place.is_relative_to(point):  # the newest mount of a place hides the others
            found, depth = after.split()[0], len(point.parts)
    return found


def make_file(path: Path) -> None:
    """Make the folder (0700) and an empty database file (0600) where there are none, both on stable storage."""
    try:
        with _creating:
            new_folder = not path.parent.exists()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            except FileExistsError:
                return
            _sync_folder(path.parent)
            if new_folder:
                _sync_folder(path.parent.parent)
    except OSError as error:
        raise StoreRefused(
            f"the database {path} cannot be made: {error.strerror}. Check that the folder can be written by this user "
            "and lies on a healthy disk with space left, or choose another with --data or AFTERWARDS_DATA."
        ) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
