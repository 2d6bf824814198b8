"""A place for the files of code that is no task: a function called by a plain test keeps working.

It is a temporary folder of the process, removed at its end. Nothing in it is ever published. While an engine runs in a
process there is none for what is to be kept: such code has lost touch with its task, and its files would be lost.
"""

import atexit
import os
import tempfile
import threading
from pathlib import Path

from afterwards._domain.ids import new_id
from afterwards._files.removal import remove_folder
from afterwards._files.workspace import Workshop, Workspace

_lock = threading.Lock()
_places: dict[int, Workspace] = {}  # by process: a fork gets one of its own
_engines: set[int] = set()  # that run in this process


def outside() -> Workspace:
    """Return the temporary place of this process, made now if there is none."""
    process = os.getpid()
    with _lock:
        if process not in _places:
            root = Path(tempfile.mkdtemp(prefix="afterwards-"))
            _places[process] = Workspace(Workshop(root, new_id()), "outside")
            atexit.register(_remove, root, process)
        return _places[process]


def is_serving() -> bool:
    """Tell whether an engine runs in this process."""
    return bool(_engines)


def serve(engine: object, *, begins: bool) -> None:
    """Take note that an engine of this process begins, or ends."""
    (_engines.add if begins else _engines.discard)(id(engine))


def _remove(root: Path, process: int) -> None:
    if os.getpid() == process:
        remove_folder(root)
