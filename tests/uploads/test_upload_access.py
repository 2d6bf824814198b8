"""Who may create uploads: nobody by accident. The id of one opens it for everything else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from support.server import serving as serve
from support.site import Site
from support.talking import request, wire
from support.uploads import BODY, TUS, UPLOADS, UploadServer, upload_server

TOKEN = "a token of forty-two characters or so"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFTERWARDS_TOKEN", raising=False)


@contextmanager
def serving(data: Path, **settings: Any) -> Iterator[UploadServer]:
    with upload_server(data, ours=True, **settings) as running:
        yield running


def create(server: UploadServer, **headers: str) -> int:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.ask("POST", UPLOADS, {**TUS, "Upload-Length": "5", **more}).status


def test_a_client_on_this_machine_may(tmp_path):
    with serving(tmp_path / "data") as server:
        assert create(server) == 201
        assert create(server, Origin="http://127.0.0.1") == 201  # the page came from here too


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_strangers_may_not(tmp_path, headers):
    """Whoever comes through a proxy, and a page of another site in a browser on this machine."""
    with serving(tmp_path / "data") as server:
        answer = server.ask("POST", UPLOADS, {**headers, "Content-Type": "text/plain"}, b"hello")
        assert answer.status == 403
        assert msgspec.json.decode(answer.body)["code"] == "uploads_not_allowed"
        assert server.site.files() == []


def test_a_name_that_leads_here_for_the_moment_may_not(tmp_path):
    """DNS rebinding: the browser believes that this machine is the site's own server."""
    with serving(tmp_path / "data") as server:
        found = httpx.post(
            f"http://127.0.0.1:{server.port}{UPLOADS}",
            content=b"hello",
            headers={"Host": "rebound.example", "Origin": "http://rebound.example"},
        )
        assert found.status_code == 403


def test_the_admin_token_opens_it_from_anywhere(tmp_path):
    with serving(tmp_path / "data", token=TOKEN) as server:
        assert create(server, X_Forwarded_For="203.0.113.7", Authorization=f"Bearer {TOKEN}") == 201
        assert create(server, X_Forwarded_For="203.0.113.7", Authorization="Bearer no") == 401
        assert create(server, X_Forwarded_For="203.0.113.7") == 401


def test_the_id_is_all_it_takes_afterwards(tmp_path):
    """The client that was let in hands the address to another, as a page does to the browser."""
    with serving(tmp_path / "data", token=TOKEN) as server:
        answer = server.ask("POST", UPLOADS, {**TUS, "Upload-Length": "5", "Authorization": f"Bearer {TOKEN}"})
        where = answer["location"]
        stranger = {"X-Forwarded-For": "203.0.113.7"}
        assert server.ask("PATCH", where, {**BODY, **stranger, "Upload-Offset": 0}, b"he").status == 204
        assert server.ask("HEAD", where, {**TUS, **stranger})["upload-offset"] == "2"
        assert server.ask("DELETE", where, {**TUS, **stranger}).status == 204


def test_nothing_of_a_refused_body_is_read(tmp_path):
    """The answer comes before the client has sent anything, and nothing is on the disk."""
    with serving(tmp_path / "data") as server:
        headers = {"X-Forwarded-For": "203.0.113.7", "Content-Type": "video/mp4"}
        with wire(server.port) as one:
            one.start("POST", UPLOADS, headers, 1 << 30)
            assert one.answer("POST").status == 403
        assert not (server.site.data / "uploads").exists()


def test_addresses_hold_behind_a_mount_and_a_proxy(tmp_path):
    """`Location` is where the client finds the upload: below the mount, below the path that a proxy takes off."""
    inner = FastAPI()
    site = Site(tmp_path / "data", app=inner)
    outer = FastAPI()
    outer.mount("/sub", inner)
    with serve(outer, root_path="/behind") as port:
        answer = request(port, "POST", f"/sub{UPLOADS}", {**TUS, "Upload-Length": "5"})
        assert answer["location"].startswith(f"/behind/sub{UPLOADS}/")
        where = answer["location"].removeprefix("/behind")
        assert request(port, "PATCH", where, {**BODY, "Upload-Offset": 0}, b"hello").status == 204
    site.close()
