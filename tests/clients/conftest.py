"""The clients that people use: in Node, installed from a lock file, and tuspy."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.fixtures import new_site, new_start

__all__ = ["new_site", "new_start"]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def node() -> Callable[..., Any]:
    """Runs `send.mjs` and returns what it says."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("node and npm are missing, and .ci/run installs them")
        pytest.skip("node and npm are not installed")
    lock = HERE / "package-lock.json"
    stamp = HERE / "node_modules" / ".installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        command = ["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=110, check=False)
        if done.returncode:
            if os.environ.get("CI"):
                pytest.fail(f"npm ci failed: {done.stderr[-500:]}")
            pytest.skip(f"npm ci failed: {done.stderr[-200:]}")
        stamp.write_text(wanted)

    def run(**asked: Any) -> Any:
        argument = msgspec.json.encode(asked).decode()
        done = subprocess.run(
            ["node", "send.mjs", argument], cwd=HERE, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.stdout.strip(), done.stderr[-2000:]
        return msgspec.json.decode(done.stdout.splitlines()[-1])

    return run
