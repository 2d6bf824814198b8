"""A disk, or its inodes, full at every step: 507 with a reason, nothing half stored, and on again with new room."""

import base64
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import UploadFile

from afterwards import BackgroundTasks, Uploads, progress
from afterwards._files.parts import Part, part_path
from afterwards.errors import StorageFull
from support import work
from support.data import until
from support.server import serving
from support.site import Site
from support.talking import request
from support.uploads import BODY, TUS, UPLOADS

pytestmark = [
    pytest.mark.fastapi,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a small disk needs root"),
]
MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB and 400 files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m,nr_inodes=400", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def site_on(disk: Path, settings: Uploads | None = None) -> Site:
    site = Site(disk / "data", uploads=settings)

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(size_of, file)

    @site.app.post("/note")
    async def note(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(work.note, "noted")

    @site.app.post("/hold")
    async def hold(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(held, 300)

    return site


def size_of(file: UploadFile) -> int:
    return len(file.file.read())


def held(times: int) -> str:
    """Run until the gate opens, and tell a lot of progress meanwhile."""
    work.held.release()
    assert work.gate.wait(work.DEADLINE)
    for done in range(times):
        progress(done, times, "x" * 100)
    return "y" * 10_000


def fill(disk: Path, leave: int) -> Path:
    """Take all room of a disk but so many bytes."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave)
    return filler


def send(port: int, size: int) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}/", files={"file": ("a", b"x" * size)}, timeout=work.DEADLINE)


def chunks(size: int) -> Any:
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for _ in range(size // 65_536):
        yield b"x" * 65_536
    yield b"\r\n--b--\r\n"


def test_uploads_leave_room_for_the_tasks_that_run(disk):
    """A disk that uploads have filled would stop the very tasks that use the uploads up."""
    site = site_on(disk)
    with serving(site) as port:
        base = f"http://127.0.0.1:{port}"
        assert httpx.post(f"{base}/hold").status_code == 200
        assert work.held.acquire(timeout=work.DEADLINE)
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        endless = httpx.post(base, content=chunks(64 * MIB), headers=kind, timeout=work.DEADLINE)
        declared = send(port, 40 * MIB)
        until(lambda: site.files() == [], site.files)
        filler = fill(disk, MIB)  # somebody else takes what was left but for a part of the reserve
        refused = send(port, 10)
        noted = httpx.post(f"{base}/note")
        work.gate.set()
        site.settled(2)
        filler.unlink()
        again = send(port, 10 * MIB)
        site.settled(3)

    assert [endless.status_code, declared.status_code, refused.status_code] == [507] * 3
    assert "no room left" in refused.json()["detail"]
    assert refused.json()["code"] == "storage_full"
    assert refused.headers["retry-after"] == "10"
    assert (noted.status_code, again.status_code) == (200, 200)
    assert site.states() == ["succeeded"] * 3
    site.close()


def test_a_disk_without_inodes_refuses_and_goes_on_when_there_are_some(disk):
    """As many small files use a disk up as one large one."""
    site = site_on(disk)
    with serving(site) as port:
        assert send(port, MIB).status_code == 200
        site.settled(1)
        many = disk / "many"
        many.mkdir()
        for number in range(os.statvfs(disk).f_favail - 10):
            (many / str(number)).touch()
        refused = send(port, MIB)
        noted = httpx.post(f"http://127.0.0.1:{port}/note")
        shutil.rmtree(many)
        again = send(port, MIB)
        site.settled(3)

    assert (refused.status_code, noted.status_code, again.status_code) == (507, 200, 200)
    assert site.states() == ["succeeded"] * 3
    site.close()


def test_a_checksum_needs_room_for_a_file_and_its_want_is_told(disk):
    """What says that bytes do not count yet is a file of its own."""
    content = os.urandom(600_000)
    site = site_on(disk)
    with serving(site) as port:
        where = request(port, "POST", UPLOADS, {**TUS, "Upload-Length": len(content)})["location"]
        assert request(port, "PATCH", where, {**BODY, "Upload-Offset": 0}, content[:1000]).status == 204
        many = disk / "many"
        many.mkdir()
        for number in range(os.statvfs(disk).f_favail):
            (many / str(number)).touch()
        part = Part.open(where[-43:], site.data, create=False)
        assert part is not None
        with pytest.raises(StorageFull, match="no space is left"):
            part.begin_check()
        part.close()
        shutil.rmtree(many)
        checksum = "sha1 " + base64.b64encode(hashlib.sha1(content[1000:]).digest()).decode()
        rest = {**BODY, "Upload-Offset": 1000, "Upload-Checksum": checksum}
        assert request(port, "PATCH", where, rest, content[1000:]).status == 204
    site.close()


def test_parts_that_have_to_be_copied_leave_the_reserve_free(disk):
    """Joined they take their room twice for a moment, on a file system that does not share blocks."""
    site = site_on(disk, Uploads(reserve=10 * MIB))
    with serving(site) as port:
        creation = {**BODY, "Upload-Length": 6 * MIB, "Upload-Concat": "partial"}
        parts = [request(port, "POST", UPLOADS, creation, bytes(6 * MIB))["location"] for _ in range(2)]
        free = os.statvfs(disk).f_bavail
        refused = request(port, "POST", UPLOADS, {**TUS, "Upload-Concat": f"final;{' '.join(parts)}"})
        left = os.statvfs(disk).f_bavail
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        joined = request(port, "POST", UPLOADS, {**TUS, "Upload-Concat": f"final;{' '.join(parts)}"})

    assert (refused.status, joined.status) == (507, 201)
    assert abs(free - left) < 64, "nothing of it has stayed"
    site.close()


def test_an_unfinished_upload_can_be_ended_on_a_full_disk(disk):
    """It is what frees room: saying so must not need any that is not there."""
    site = site_on(disk, Uploads(reserve=0))
    with serving(site) as port:
        creation = {**TUS, "Upload-Length": 8 * MIB}
        where = request(port, "POST", UPLOADS, creation)["location"]
        assert request(port, "PATCH", where, {**BODY, "Upload-Offset": 0}, bytes(4 * MIB)).status == 204
        filler = fill(disk, 0)
        small = {**TUS, "Upload-Length": 1, "Upload-Metadata": f"a {base64.b64encode(bytes(1500)).decode()}"}
        until(lambda: request(port, "POST", UPLOADS, small).status == 507)
        ended = request(port, "DELETE", where, TUS)
        filler.unlink()
        asked = request(port, "HEAD", where, TUS)

    assert (ended.status, asked.status) == (204, 410)
    assert not part_path(where[-43:], site.data).exists()
    site.close()


def test_a_disk_that_is_full_at_the_commit_stores_nothing_of_the_request(disk):
    """Without a reserve the last bytes go too; the answer is honest all the same, and nothing has to be restarted."""
    site = site_on(disk, Uploads(reserve=0))

    @site.app.post("/late")
    async def late(file: UploadFile, background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(size_of, file)
        fill(disk, 0)

    with serving(site) as port:
        assert send(port, 1_000).status_code == 200
        site.settled(1)
        full = httpx.post(f"http://127.0.0.1:{port}/late", files={"file": ("a", b"x" * 200_000)}, timeout=work.DEADLINE)
        rows = len(site.rows())
        (disk / "filler").unlink()
        until(lambda: send(port, 1_000).status_code == 200)
        site.settled(2)

    assert (full.status_code, rows) == (507, 1)
    assert full.json()["code"] == "storage_full"
    assert full.headers["retry-after"] == "10"
    assert "MiB" not in full.text, "how full which disk is concerns whoever runs the server"
    assert set(site.states()) == {"succeeded"}
    site.close()
