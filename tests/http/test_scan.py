"""A scanner holds files back: no task gets one before it is called clean, and none ever gets one that is not."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi import UploadFile

from afterwards import BackgroundTasks, Uploads
from afterwards._domain.files import Verdict
from afterwards._domain.tasks import TaskState
from afterwards._engine import scanning
from support import work
from support.data import until
from support.server import Program, serving
from support.site import Site

pytestmark = pytest.mark.fastapi

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
SCANNER = Path(__file__).with_name("scanner.py")
INLINE, ON_DISK = 100, 300_000


def by_process(file: UploadFile) -> bool | str | None:
    """Ask a scanner that is a program of its own, as clamscan is."""
    ended = subprocess.run(
        [sys.executable, SCANNER], input=file.file.read(), capture_output=True, timeout=20, check=False
    )
    if ended.returncode == 0:
        return True
    if ended.returncode == 1:
        return ended.stdout.decode().strip()
    raise RuntimeError(f"the scanner failed: {ended.stderr.decode()[-200:]}")


async def by_process_async(file: UploadFile) -> bool | str | None:
    return await asyncio.to_thread(by_process, file)


def scanned_site(new_site: Any, scan: Any, **settings: Any) -> Site:
    site: Site = new_site(uploads=Uploads(scan=scan), **settings)

    @site.app.post("/")
    async def endpoint(files: list[UploadFile], background_tasks: BackgroundTasks) -> list[str]:
        return [background_tasks.add_task(work.read_upload, file).id for file in files]

    @site.app.post("/parallel")
    async def parallel(files: list[UploadFile], background_tasks: BackgroundTasks) -> list[str]:
        adder = background_tasks.options(parallel=True)
        return [adder.add_task(work.read_upload, file).id for file in files] + [adder.add_task(work.note, "other").id]

    return site


def post(client: Any, *contents: bytes, path: str = "/") -> list[str]:
    answer = client.post(path, files=[("files", (f"{place}.txt", one)) for place, one in enumerate(contents)])
    assert answer.status_code == 200, answer.text
    return answer.json()


def verdicts(site: Site) -> dict[str | None, Verdict | None]:
    return {file.name: file.verdict for row in site.rows() for file in row.files}


@pytest.mark.parametrize("scan", [by_process, by_process_async])
@pytest.mark.parametrize("size", [INLINE, ON_DISK])
@pytest.mark.parametrize("path", ["/", "/parallel"])
def test_clean_files_reach_their_tasks_and_others_never_do(new_site, scan, size, path):
    """A real program looks at each, also at those that are small enough to live in a row."""
    site = scanned_site(new_site, scan)
    clean, infected = b"c" * size, EICAR + b"i" * size

    with site.client() as client:
        ids = post(client, clean, infected, path=path)
        site.settled(len(ids) + 1)
        task = client.get(f"/afterwards/tasks/{ids[1]}").json()

    rows = {row.id: row for row in site.rows()}
    assert [name for name, _ in site.names()].count(scanning.NAME) == 1
    assert (rows[ids[0]].state, rows[ids[1]].state) == (TaskState.SUCCEEDED, TaskState.FAILED)
    assert verdicts(site) == {"0.txt": Verdict.CLEAN, "1.txt": Verdict.INFECTED}
    assert sorted(map(str, work.journal)) == sorted(
        map(str, [("0.txt", clean)] + (["other"] if path == "/parallel" else []))
    )
    assert task["error"]["type"].endswith("FileHeldBack")
    assert "EICAR test string" in task["error"]["message"]


def test_the_scan_and_its_tasks_are_stored_together(new_site):
    """At the moment of the answer the file is on record as held, and its task as waiting for the scan."""
    gate, seen = threading.Event(), threading.Event()

    def scan(file: UploadFile) -> bool:
        seen.set()
        return gate.wait(work.DEADLINE)

    site = scanned_site(new_site, scan)
    with serving(site) as port:
        import httpx

        [id] = post(httpx.Client(base_url=f"http://127.0.0.1:{port}"), b"x" * INLINE)
        assert seen.wait(work.DEADLINE)
        states = {name: row.state for (name, _), row in zip(site.names(), site.rows(), strict=True)}
        held = verdicts(site)
        gate.set()
        site.settled(2)

    assert states == {scanning.NAME: "running", "read_upload": "waiting"}
    assert held == {"0.txt": Verdict.HELD}
    assert [row.state for row in site.rows() if row.id == id] == ["succeeded"]


@pytest.mark.parametrize("answer", [None, "", "  ", 0, 1, [], RuntimeError("the scanner is down")], ids=repr)
def test_a_scanner_that_does_not_say_clean_lets_nothing_through(new_site, answer):
    """It is asked again until it says so; forgetting to return is no verdict."""

    def scan(file: UploadFile) -> Any:
        work.journal.append("asked")
        if len(work.journal) > 1:
            return True
        if isinstance(answer, Exception):
            raise answer
        return answer

    site = scanned_site(new_site, scan)
    with site.client() as client:
        post(client, b"x" * INLINE)
        site.settled(2)

    assert work.journal == ["asked", "asked", ("0.txt", b"x" * INLINE)]
    assert {row.state for row in site.rows()} == {"succeeded"}


def test_a_scanner_that_cannot_tell_yet_has_not_failed(new_site, caplog):
    """It is documented to say so, and a signature base that is still loading is no error to be woken up for."""
    caplog.set_level("INFO")

    def scan(file: UploadFile) -> bool | None:
        work.journal.append("asked")
        return None if len(work.journal) == 1 else True

    site = scanned_site(new_site, scan)
    with site.client() as client:
        post(client, b"x" * INLINE)
        site.settled(2)

    [row] = [row for row in site.rows() if row.name == scanning.NAME]
    assert (row.state, row.failures) == (TaskState.SUCCEEDED, 0)
    said = [one for one in caplog.records if "cannot tell yet" in one.getMessage()]
    assert [(one.levelname, one.exc_info) for one in said] == [("INFO", None)]
    assert not [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")]


def test_one_file_that_cannot_be_judged_keeps_no_verdict_of_another_from_being_kept(new_site):
    """The scan is tried again for the one that is open, and for that one only."""
    asked: list[str | None] = []

    def scan(file: UploadFile) -> bool | None:
        asked.append(file.filename)
        return None if asked.count("0.txt") == 1 and file.filename == "0.txt" else True

    site = scanned_site(new_site, scan)
    with site.client() as client:
        post(client, b"one", b"two")
        site.settled(3)

    assert asked == ["0.txt", "1.txt", "0.txt"]


def test_a_task_that_comes_around_the_order_waits_for_the_verdict(new_site):
    """Somebody cancels the scan, or a file came in some other way: held is held."""
    site = scanned_site(new_site, by_process)
    held = scanning.verdict

    with site.client() as client:
        client.get("/afterwards/health")
        system = site.afterwards._system
        system.scanning.hold = lambda files: [setattr(file, "verdict", Verdict.HELD) for file in files] and None
        [id] = post(client, b"x" * INLINE)
        until(lambda: any(row.state == "retrying" for row in site.rows()), site.states)
        waiting = client.get(f"/afterwards/tasks/{id}").json()
        row = site.reads.file(site.rows()[0].files[0].id)
        from afterwards._store.contract import ask_blocking

        ask_blocking(system.store, held(row, True))
        site.settled(1)

    assert "held back until the scanner has said that it is clean" in waiting["error"]["message"]
    assert site.states() == ["succeeded"]
    assert site.rows()[0].failures == 0
    assert work.journal == [("0.txt", b"x" * INLINE)]


def test_what_is_enqueued_outside_of_a_request_is_scanned_too(new_site):
    import io

    site = scanned_site(new_site, by_process)
    with site.client():
        upload = UploadFile(io.BytesIO(EICAR), filename="mail.txt")
        handle = site.afterwards.enqueue_blocking(work.read_upload, upload)
        site.settled(2)

    states = {row.id: row.state for row in site.rows()}
    assert states[handle.id] == "failed"
    assert work.journal == []


PROGRAM = """
import os, signal
from fastapi import FastAPI, UploadFile
from afterwards import Afterwards, BackgroundTasks, Uploads

def scan(file: UploadFile) -> bool:
    with open(os.environ["JOURNAL"], "a") as journal:
        print("scanned", file.filename, file=journal, flush=True)
    if not os.path.exists(os.environ["JOURNAL"] + ".second"):
        open(os.environ["JOURNAL"] + ".second", "x").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return True

def use(file: UploadFile) -> None:
    with open(os.environ["JOURNAL"], "a") as journal:
        print("used", file.filename, file=journal, flush=True)

app = FastAPI()
Afterwards(app, uploads=Uploads(scan=scan))

@app.post("/")
async def endpoint(file: UploadFile, background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(use, file)
"""


def test_a_scanner_that_takes_the_process_along_lets_nothing_through(tmp_path):
    """The scan is a task like any other: after the restart it is made again, and then its task runs."""
    import httpx

    from support.data import Data

    (tmp_path / "scanning_program.py").write_text(PROGRAM)
    journal, data = tmp_path / "journal", tmp_path / "data"
    arguments = ("uvicorn", "scanning_program:app", "--port", "0")
    first = Program(*arguments, folder=tmp_path, data=data, JOURNAL=str(journal))
    try:
        with contextlib.suppress(httpx.TransportError):  # the kill may be quicker than the answer
            httpx.post(f"http://127.0.0.1:{first.port}/", files={"file": ("a.txt", b"x")})
    finally:
        ended = first.end()
    before = journal.read_text().splitlines()
    second = Program(*arguments, folder=tmp_path, data=data, JOURNAL=str(journal))
    stored = Data(data)
    try:
        stored.settled(2)
    finally:
        second.stop()
        stored.close()

    assert (ended, before) == (-signal.SIGKILL, ["scanned a.txt"])
    assert "used a.txt" in journal.read_text().splitlines()
