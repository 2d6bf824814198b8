"""A server that takes uploads, and what a test asks of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from afterwards.server import HttpProtocol
from support.server import serving
from support.site import Site
from support.talking import Answer, request

TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Content-Type": "application/offset+octet-stream"}
UPLOADS = "/afterwards/uploads"


class UploadServer:
    """Where the requests of a test go."""

    def __init__(self, site: Site, port: int, *, ours: bool) -> None:
        self.ours = ours  # uvicorn's own protocol forgets what it has not handed over when a client leaves
        self.site = site
        self.port = port

    def ask(self, method: str, path: str, headers: dict[str, Any] | None = None, body: bytes | None = None) -> Answer:
        return request(self.port, method, path, headers, body)

    def create(self, length: int | None = None, body: bytes | None = None, **headers: str) -> str:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        if length is not None:
            more["Upload-Length"] = str(length)
        answer = self.ask("POST", UPLOADS, {**(TUS if body is None else BODY), **more}, body)
        assert answer.status == 201, answer
        return answer["location"]

    def patch(self, where: str, offset: int, body: bytes, **headers: str) -> Answer:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("PATCH", where, {**BODY, "Upload-Offset": offset, **more}, body)

    def offset(self, where: str) -> int:
        answer = self.ask("HEAD", where, TUS)
        assert answer.status == 204, answer
        return int(answer["upload-offset"])

    def is_written(self, where: str) -> bool:
        """Whether a request is writing an upload now."""
        return self.site.afterwards._system.uploading.holding.is_written(where[-43:])

    def content(self, where: str) -> bytes | None:
        """The stored file of a finished upload, None if there is none."""
        row = self.site.reads.file(where[-43:])
        if row is None:
            return None
        found = (
            row.content if row.content is not None else (self.site.data / "files" / row.id[-2:] / row.id).read_bytes()
        )
        assert row.digest == f"blake3:{blake3(found).hexdigest()}"
        assert row.size == len(found)
        return found


@contextmanager
def upload_server(data: Path, *, ours: bool, app: Any = None, **settings: Any) -> Iterator[UploadServer]:
    """Serve an application with uploads, by our protocol or by uvicorn's own."""
    site = Site(data, app=app, **settings)
    options = {"http": HttpProtocol} if ours else {}
    with serving(site, **options) as port:
        yield UploadServer(site, port, ours=ours)
    site.close()


@pytest.fixture(params=["uvicorn", "ours"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UploadServer]:
    """A server that takes uploads: uvicorn with its own protocol, and with ours."""
    with upload_server(tmp_path / "data", ours=request.param == "ours") as running:
        yield running
