"""Reads stored files as tasks are given them."""

from pathlib import Path

from afterwards._files.comparison import open_compared
from afterwards._files.stored import StoredFile


def content_of(stored: StoredFile, root: Path) -> bytes:
    with open_compared(stored, root) as file:
        return file.read()
