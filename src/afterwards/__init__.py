"""Durable background tasks and background file processing for FastAPI."""

import sys

if sys.platform == "win32":  # before anything is imported that Windows does not have
    raise ImportError(
        "Afterwards does not run on Windows: it needs file locks and directory syncs that Windows does not have. "
        "Use WSL 2 or a container."
    )

from afterwards._domain.options import task
from afterwards._domain.retention import Keep
from afterwards._engine.context import current_task, progress
from afterwards._engine.files import File
from afterwards._engine.outputs import output, workdir
from afterwards._web.settings import Uploads, uploads
from afterwards.fastapi import Afterwards, BackgroundTasks, Handle

__all__ = [
    "Afterwards",
    "BackgroundTasks",
    "File",
    "Handle",
    "Keep",
    "Uploads",
    "current_task",
    "output",
    "progress",
    "task",
    "uploads",
    "workdir",
]
