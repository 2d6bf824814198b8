"""Applications with a data directory of their own, by both doors."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fixtures import new_site, new_start, site
from support.uploads import UploadServer, upload_server

__all__ = ["new_site", "new_start", "server", "site"]


@pytest.fixture(params=["uvicorn", "ours"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UploadServer]:
    """A server that takes uploads: uvicorn with its own protocol, and with ours."""
    with upload_server(tmp_path / "data", ours=request.param == "ours") as running:
        yield running
