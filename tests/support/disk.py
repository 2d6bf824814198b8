"""A real disk that is soon full."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TINY = 24  # MiB


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of `TINY` MiB in memory; needs root on Linux."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a file system of its own is mounted for this, which takes root on Linux")
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TINY}m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a file system of its own cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
