"""Removes folders that user code has worked in, whatever it left there.

Links are removed and never followed, folders that forbid it are opened first. Nested folders are moved up before they
are emptied, so that no depth is too deep for the interpreter or for the longest path a system takes.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from afterwards._domain.ids import is_id, new_id
from afterwards._files.disk import READ_FOLDER

log = logging.getLogger("afterwards")

ROUNDS = 20  # while something still writes into the folder


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it; one that is gone is fine.

    Raises:
        OSError: Something in it cannot be removed, or something keeps writing into it.
    """
    for again in reversed(range(ROUNDS)):
        try:
            _empty(path)
            os.rmdir(path)
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not again:
                raise
        else:
            return


def sweep_work(root: Path, alive: Callable[[str], bool]) -> Iterator[str]:
    """Remove the work folders of processes that are not alive, one process a step; yields whose they were."""
    work = root / "work"
    try:
        owners = [name for name in os.listdir(work) if is_id(name)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for owner in owners:
        if not alive(owner):
            try:
                remove_folder(work / owner)
            except OSError as error:
                log.warning("the work folder %s of a process that has ended cannot be removed: %s", work / owner, error)
                continue
            yield owner


def _empty(path: Path) -> None:
    top = os.open(path, READ_FOLDER)
    try:
        os.fchmod(top, 0o700)
        while names := os.listdir(top):  # what was moved up from below is found in the next turn
            for name in names:
                _remove_entry(top, name)
    finally:
        os.close(top)


def _remove_entry(top: int, name: str) -> None:
    if _unlinked(top, name):
        return
    os.chmod(name, 0o700, dir_fd=top)  # it is a folder, so no link is followed
    inner = os.open(name, READ_FOLDER, dir_fd=top)
    try:
        for one in os.listdir(inner):
            if not _unlinked(inner, one):
                os.chmod(one, 0o700, dir_fd=inner)
                os.rename(one, new_id(), src_dir_fd=inner, dst_dir_fd=top)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)


def _unlinked(folder: int, name: str) -> bool:
    """Remove what is no folder; False when it is one."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):  # the second is what macOS says of folders
        if not _is_folder(folder, name):
            raise
        return False
    return True


def _is_folder(folder: int, name: str) -> bool:
    try:
        os.close(os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0), dir_fd=folder))
    except OSError:
        return False
    return True
