"""Applications with a data directory of their own, by both doors, files behind a real server, a disk soon full."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.disk import tiny_disk
from support.fixtures import new_site, new_start, site
from support.shelf import shelf
from support.uploads import UploadServer, upload_server

__all__ = ["new_site", "new_start", "server", "shelf", "site", "tiny_disk"]


@pytest.fixture(params=["uvicorn", "ours"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UploadServer]:
    """A server that takes uploads: uvicorn with its own protocol, and with ours."""
    with upload_server(tmp_path / "data", ours=request.param == "ours") as running:
        yield running
