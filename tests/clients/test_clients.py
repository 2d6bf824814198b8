"""The clients that people use, on a network that cuts connections and with a server that is killed.

Whatever happens, the file that a task would get is the file that was sent, byte for byte.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from support.cutting import cutting
from support.data import Data, until
from support.server import Program
from support.uploads import UploadServer, upload_server

CONTENT = os.urandom(6_000_000)
PROGRAM = """
from fastapi import FastAPI
import afterwards

app = FastAPI()
afterwards.Afterwards(app)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(params=["uvicorn", "ours"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UploadServer]:
    with upload_server(tmp_path / "data", ours=request.param == "ours") as running:
        yield running


def endpoint(port: int) -> str:
    return f"http://127.0.0.1:{port}/afterwards/uploads"


TUS_WAYS: list[dict[str, Any]] = [
    {},
    {"chunkSize": 700_001},
    {"withCreation": True},
    {"parallel": 3},
    {"deferred": True, "chunkSize": 700_001},
    {"override": True, "chunkSize": 2_000_000},
    {"stopAt": 2_000_000, "chunkSize": 500_000},
    {"protocol": "ietf-draft-03", "chunkSize": 1_000_000},
    {"protocol": "ietf-draft-05"},
]


@pytest.mark.parametrize("way", TUS_WAYS, ids=str)
def test_tus_js_client_in_each_of_its_ways(node, server, path, way):
    found = node(client="tus", endpoint=endpoint(server.port), path=str(path), name="nämé.bin", **way)
    assert "url" in found, found
    assert server.content(found["url"]) == CONTENT
    assert server.site.reads.file(found["url"][-43:]).name == "nämé.bin"


def test_tus_js_client_takes_an_upload_back(node, server, path):
    found = node(client="terminate", endpoint=endpoint(server.port), path=str(path))
    assert server.ask("HEAD", f"/afterwards/uploads/{found['url'][-43:]}").status == 410
    assert not list((server.site.data / "uploads").iterdir())


def test_uppy_sends_several_files_at_once(node, server, path):
    names = ["a", "b", "c"]
    found = node(client="uppy", endpoint=endpoint(server.port), path=str(path), names=names, chunkSize=1_500_000)
    assert len(found["urls"]) == 3, found
    assert [server.content(url) for url in found["urls"]] == [CONTENT] * 3
    assert sorted(str(server.site.reads.file(url[-43:]).name) for url in found["urls"]) == names


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("client", ["tus", "uppy"])
def test_connections_are_cut_at_random_bytes(node, server, path, client, seed):
    with cutting(server.port, cuts=12, seed=seed, most=len(CONTENT)) as cutter:
        found = node(client=client, endpoint=endpoint(cutter.port), path=str(path), name="x", parallel=1 + seed % 2)
        assert cutter.made > 0
    url = found.get("url") or found.get("urls", [None])[0]
    assert url is not None, found
    assert server.content(url) == CONTENT


@pytest.mark.parametrize("seed", range(2))
def test_connections_of_tuspy_are_cut_at_random_bytes(server, path, seed):
    client = pytest.importorskip("tusclient.client")
    with cutting(server.port, cuts=12, seed=seed, most=len(CONTENT)) as cutter, path.open("rb") as stream:
        uploader = client.TusClient(endpoint(cutter.port)).uploader(
            file_stream=stream, chunk_size=1_000_000, retries=50, retry_delay=0.01, upload_checksum=True
        )
        retrying(uploader.upload)
        assert cutter.made > 0
    assert server.content(uploader.url) == CONTENT


def retrying(upload: Any) -> None:
    """tuspy gives up where a connection ends while it creates an upload or asks for an offset: its user goes on."""
    requests = pytest.importorskip("requests")
    gives_up = pytest.importorskip("tusclient.exceptions").TusCommunicationError

    for _ in range(50):
        try:
            return upload()
        except (requests.exceptions.ConnectionError, gives_up):
            continue
    raise AssertionError("50 tries were not enough")


class Killed:
    """A server that is killed with SIGKILL and started again, behind one address."""

    def __init__(self, folder: Path, *, ours: bool) -> None:
        (folder / "main.py").write_text(PROGRAM)
        self._folder = folder
        self.data = folder / "data"
        self._protocol = ("--http", "afterwards.server:HttpProtocol") if ours else ()
        self.program = self._start()

    def _start(self) -> Program:
        run = ("uvicorn", "main:app", "--port", "0", "--log-level", "info", *self._protocol)
        return Program(*run, folder=self._folder, data=self.data)

    def kill_and_start(self) -> int:
        self.program.kill()
        self.program = self._start()
        return self.program.port

    def on_disk(self) -> int:
        """Bytes in part files."""
        folder = self.data / "uploads"
        return sum(one.stat().st_size for one in folder.glob("*.part")) if folder.exists() else 0

    def content(self, url: str) -> bytes | None:
        seen = Data(self.data)
        row = seen.reads.file(url[-43:])
        seen.close()
        if row is None:
            return None
        found = row.content if row.content is not None else (self.data / "files" / row.id[-2:] / row.id).read_bytes()
        assert row.digest == f"blake3:{blake3(found).hexdigest()}"
        return found


@pytest.fixture(params=["uvicorn", "ours"])
def killed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Killed]:
    killed = Killed(tmp_path, ours=request.param == "ours")
    yield killed
    if killed.program.process.poll() is None:
        killed.program.kill()


def sent_while_killed(killed: Killed, cutter: Any, send: Any) -> Any:
    """Kill the server three times while a client sends; return what the client says."""
    found: list[Any] = []
    sending = threading.Thread(target=lambda: found.append(send()))
    sending.start()
    for share in (1, 3, 5):
        until(lambda share=share: not sending.is_alive() or killed.on_disk() > share * len(CONTENT) // 8)
        cutter.target = killed.kill_and_start()
    sending.join(100)
    assert found, "the client is still sending"
    return found[0]


@pytest.mark.parametrize("way", [{"chunkSize": 150_000}, {"protocol": "ietf-draft-05", "chunkSize": 150_000}], ids=str)
def test_the_server_is_killed_while_tus_js_client_sends(node, killed, path, way):
    with cutting(killed.program.port, cuts=0, seed=0, most=1) as cutter:
        asked = {"client": "tus", "endpoint": endpoint(cutter.port), "path": str(path), "name": "x", **way}
        found = sent_while_killed(killed, cutter, lambda: node(**asked))
    assert "url" in found, found
    assert killed.content(found["url"]) == CONTENT


def test_the_server_is_killed_while_uppy_sends(node, killed, path):
    with cutting(killed.program.port, cuts=0, seed=0, most=1) as cutter:
        asked = {
            "client": "uppy",
            "endpoint": endpoint(cutter.port),
            "path": str(path),
            "name": "x",
            "chunkSize": 150_000,
        }
        found = sent_while_killed(killed, cutter, lambda: node(**asked))
    assert "urls" in found, found
    assert killed.content(found["urls"][0]) == CONTENT


def test_the_server_is_killed_while_tuspy_sends(killed, path):
    client = pytest.importorskip("tusclient.client")
    with cutting(killed.program.port, cuts=0, seed=0, most=1) as cutter, path.open("rb") as stream:
        uploader = client.TusClient(endpoint(cutter.port)).uploader(
            file_stream=stream, chunk_size=150_000, retries=200, retry_delay=0.02
        )

        def send() -> str:
            retrying(uploader.upload)
            return str(uploader.url)

        url = sent_while_killed(killed, cutter, send)
    assert killed.content(url) == CONTENT
