"""A place for the files of code that is no task: a function called by a plain test keeps working.

It is a temporary folder of the process, removed at its end. Nothing in it is ever published.
"""

import atexit
import logging
import os
import tempfile
import threading
from pathlib import Path

from afterwards._domain.ids import new_id
from afterwards._files.removal import remove_folder
from afterwards._files.workspace import Workshop, Workspace

log = logging.getLogger("afterwards")

_lock = threading.Lock()
_places: dict[int, Workspace] = {}  # by process: a fork gets one of its own
serving = False  # an engine runs in this process, so code that means to be part of a task may have lost touch with it


def outside() -> Workspace:
    """Return the temporary place of this process, made now if there is none."""
    process = os.getpid()
    with _lock:
        if process not in _places:
            root = Path(tempfile.mkdtemp(prefix="afterwards-"))
            _places[process] = Workspace(Workshop(root, new_id()), "outside")
            atexit.register(_remove, root, process)
            if serving:
                log.warning(
                    "a file is made outside of any task, so it goes when this process ends. In a thread that a task "
                    "starts itself, run the code within contextvars.copy_context(). Said once."
                )
        return _places[process]


def _remove(root: Path, process: int) -> None:
    if os.getpid() == process:
        remove_folder(root)
