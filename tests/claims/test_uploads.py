"""What the tutorials say about uploads, tried out on their own programs."""

import logging
import re
import socket
from typing import Any

import pytest
from fastapi import UploadFile

from afterwards.errors import WrongArguments
from support import work
from support.data import until
from support.server import serving
from support.work import DEADLINE

LARGE = 3_000_000  # bytes: a file of its own
MEBIBYTE = 1 << 20


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [11, LARGE])
def test_C01_reading_the_upload_and_passing_its_bytes_answers_at_once_and_works_afterwards(serve: Any, size: int):
    """The first snippet anybody sees. Unchanged, and the bytes are out of the queue's row when they are many."""
    served = serve("read_then_add")
    content = b"x" * size

    answer = served.upload(content=content)
    (row,) = served.settled(1)

    assert answer.json() == {"message": "processing started"}
    assert row.state == "succeeded"
    assert served.written("processed") == content
    assert len(row.arguments) < 1000
    assert [file.stat().st_size for file in served.files()] == ([size] if size == LARGE else [])


@pytest.mark.usefixtures("way")
def test_C07_an_upload_passed_by_a_def_endpoint_reaches_the_task(serve: Any):
    """Its bytes are kept durably, and the body stays null as it was."""
    served = serve("pass_upload")

    answer = served.upload(content=b"one")
    served.settled(1)

    assert (answer.status_code, answer.json()) == (200, None)
    assert served.written("processed") == b"one"


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("path", ["/upload", "/async"])
def test_C08_an_upload_can_be_read_in_the_task_whatever_the_version_and_after_a_restart(serve: Any, path: str):
    """From FastAPI 0.106 to 0.117 it was closed by then, and it always died with its process."""
    served = serve("pass_upload", AFTERWARDS_DRAIN="0")
    served.stop()
    served._arguments = ("--no-tasks",) if served._way == "launcher" else ()
    served.start()

    for number in range(3):
        assert served.upload(path, name=f"{number}.bin", content=b"%d" % number * LARGE).status_code == 200
    served.kill()
    served._arguments = ()
    served.start()
    rows = served.settled(3)

    assert {row.state for row in rows} == {"succeeded"}
    assert sorted(set(served.written("processed"))) == sorted(b"012")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [11, LARGE])
def test_C10_save_file_answers_at_once_and_saves_in_the_background(serve: Any, size: int):
    """Keeps working for a plain name."""
    served = serve("save_file")

    assert served.upload(content=b"x" * size).json() == {"message": "File upload started"}
    served.settled(1)

    assert served.written("saved_a.txt") == b"x" * size


NAMES = ["../../evil.txt", "sub/evil.txt", "/etc/evil.txt", "n" * 300, "C:\\dir\\evil.txt", "\u202egnp.exe", "."]


@pytest.mark.usefixtures("way")
def test_C11_an_upload_whose_name_makes_a_bad_path_is_not_lost(serve: Any):
    """The program's own f"saved_{name}" fails after the 200, as it did. But the bytes and the error are kept."""
    served = serve("save_file")
    (served.folder / "saved_").mkdir()

    for number, name in enumerate(NAMES):
        assert served.upload(name=name, content=b"%d" % number * LARGE).status_code == 200
    rows = served.settled(len(NAMES))

    kept = {row.files[0].id: row.files[0].name for row in rows}
    assert {path.name for path in served.files()} == set(kept)  # ours are named by id, never by what the client said
    assert all(path.is_relative_to(served.data / "files") for path in served.files())
    failed = [row for row in rows if row.state == "failed"]
    assert {"../../evil.txt", "sub/evil.txt", "n" * 300} <= {row.files[0].name for row in failed}
    assert all('"type":"FileNotFoundError"' in row.error or "OSError" in row.error for row in failed)
    assert not (served.folder.parent / "evil.txt").exists()
    assert all(served.reads.file(id) is not None for id in kept)


@pytest.mark.usefixtures("way")
def test_C12_two_uploads_of_one_name_are_both_kept(serve: Any):
    """The program overwrites its own file, as it did; each upload is still there under an id of its own."""
    served = serve("save_file")

    served.upload(content=b"1" * LARGE)
    served.upload(content=b"2" * LARGE)
    rows = served.settled(2)

    first, second = (row.files[0] for row in rows)
    assert first.id != second.id
    assert first.name == second.name == "a.txt"
    assert first.digest != second.digest
    assert {path.read_bytes()[:1] for path in served.files()} == {b"1", b"2"}


def test_C13_bytes_where_an_upload_is_wanted_are_refused_while_the_client_listens(serve: Any):
    """Not read too early and not empty, as the tutorial says, but of the wrong type: the client is told."""
    served = serve("pass_upload", way="one import changed")

    assert served.upload("/wrong", content=b"hello").status_code == 500
    said = served.program.wait_for(r"^afterwards\.errors\.WrongArguments")

    assert "file is annotated as an UploadFile and was given bytes" in said.string
    assert served.rows() == []


def test_C13_in_an_unchanged_program_they_reach_the_task_whole_and_its_error_is_kept(serve: Any):
    """There the annotation may be wrong and the function right, so it runs as it did, and fails on record."""
    served = serve("pass_upload", way="launcher")

    assert served.upload("/wrong", content=b"hello").status_code == 200
    (row,) = served.settled(1)

    assert row.state == "failed"
    assert "'bytes' object has no attribute 'file'" in row.error
    assert "aGVsbG8" in row.arguments or "hello" in row.arguments  # complete


def test_C13_what_does_not_fit_the_signature_is_refused_while_the_client_listens(site: Any):
    """Bound when it is added: the message names what does not fit."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(background_tasks: Tasks):
        background_tasks.add_task(work.read_upload, flie="a typo")

    with site.client() as client, pytest.raises(WrongArguments, match=r"read_upload\(file\).*'file'"):
        client.post("/")

    assert site.rows() == []


@pytest.mark.usefixtures("way")
def test_C14_saving_in_the_endpoint_and_passing_the_path_works(serve: Any):
    """The tutorial's last option, unchanged."""
    served = serve("save_then_path")

    assert served.upload(content=b"path").status_code == 200
    served.settled(1)

    assert served.written("processed") == b"path"


@pytest.mark.usefixtures("way")
def test_C14_file_and_task_are_durable_together_without_that_code(serve: Any):
    """Passing the upload does the same safely: killed at once, the file and the row are both there, or neither."""
    served = serve("pass_upload", AFTERWARDS_THREADS="1")

    accepted = sum(served.upload(content=b"x" * LARGE).status_code == 200 for _ in range(3))
    served.kill()

    rows = served.rows()
    assert len(rows) == accepted
    assert {row.files[0].id for row in rows} == {path.name for path in served.files() if path.stat().st_size == LARGE}


@pytest.mark.usefixtures("way")
def test_C15_two_parts_for_one_upload_are_warned_about(serve: Any):
    """FastAPI keeps the last one and drops the first without a word."""
    served = serve("pass_upload")
    parts = [("file", ("one.txt", b"1")), ("file", ("two.txt", b"2"))]

    for _ in range(2):
        assert served.client.post("/upload", files=parts).status_code == 200
    served.settled(2)
    many = served.client.post("/many", files=[("files", part) for _, part in parts])
    served.settled(4)

    assert many.json() == {"files": 2}
    assert sorted(served.written("processed")) == sorted(b"22" + b"12")
    served.stop()
    warnings = [line for line in served.program.lines if "list[UploadFile]" in line]
    assert len(warnings) == 1  # once for each endpoint
    assert "'file'" in warnings[0]
    assert "/upload" in warnings[0]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [11, LARGE])
def test_C16_a_name_and_bytes_are_saved_in_the_background(serve: Any, size: int):
    """Unchanged."""
    served = serve("name_and_bytes")

    served.upload(content=b"x" * size)
    served.settled(1)

    assert served.written("uploaded_a.txt") == b"x" * size


def _io(pid: int) -> tuple[int, int]:
    """Peak memory and bytes that were to be written to disk, of one process."""
    with open(f"/proc/{pid}/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    with open(f"/proc/{pid}/io") as counters:
        written = next(int(line.split()[1]) for line in counters if line.startswith("write_bytes"))
    return peak, written


def _stream_upload(port: int, path: str, size: int) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    tail = b"\r\n--b--\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        length = len(head) + size + len(tail)
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: site\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {length}\r\nConnection: close\r\n\r\n".encode()
            + head
        )
        for _ in range(size // MEBIBYTE):
            connection.sendall(b"x" * MEBIBYTE)
        connection.sendall(tail)
        return connection.makefile("rb").readline()


@pytest.mark.usefixtures("way")
@pytest.mark.skipif("sys.platform != 'linux'")
def test_C02_C21_C48_a_large_upload_stays_out_of_memory_and_is_written_once(serve: Any):
    """Natively it is in memory whole, or on the disk twice: in the temporary folder and where the task copies it."""
    size = 64 * MEBIBYTE
    served = serve("handed_on")
    assert b"200" in _stream_upload(served.port, "/upload", MEBIBYTE)  # everything that is loaded once is loaded
    served.settled(1)
    memory, disk = _io(served.program.process.pid)

    assert b"200" in _stream_upload(served.port, "/upload", size)
    rows = served.settled(2)
    peak, written = _io(served.program.process.pid)

    assert [row.result for row in rows] == [str(MEBIBYTE), str(size)]
    assert [row.files[0].size for row in rows] == [MEBIBYTE, size]
    assert peak - memory < 32 * MEBIBYTE
    assert size <= written - disk <= 1.05 * size


@pytest.mark.usefixtures("way")
def test_C45_a_client_that_leaves_after_the_answer_takes_no_task_along(serve: Any):
    """And one that leaves half-way through its upload leaves nothing."""
    served = serve("pass_upload")
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * LARGE + b"\r\n--b--\r\n"
    head = (
        "POST /upload HTTP/1.1\r\nHost: site\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()

    with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE) as cut:
        cut.sendall(head + body[: LARGE // 2])
        until(lambda: len(served.files()) == 1)
    until(lambda: served.files() == [], served.files)
    assert served.rows() == []
    with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE) as whole:
        whole.sendall(head + body)
        assert b"200" in whole.recv(100)

    (row,) = served.settled(1)
    assert row.state == "succeeded"
    assert served.written("processed") == b"x" * LARGE


def test_C45_cut_uploads_are_counted(site: Any, caplog: pytest.LogCaptureFixture):
    """Nothing said so before."""
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: Tasks):
        raise AssertionError("not reached")

    head = (
        "POST / HTTP/1.1\r\nHost: site\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f'Content-Length: {4 << 20}\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    ).encode()
    with caplog.at_level(logging.INFO, "afterwards"), serving(site) as port:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
                client.sendall(head + b"x" * (2 << 20))
                until(lambda: len(site.files()) == 1)
        site.wait_for_requests(2)
        until(lambda: site.files() == [], site.files)

    counts = [int(found.group(1)) for line in caplog.messages if (found := re.search(r"\((\d+) so far", line))]
    assert len(counts) == 2
    assert counts[1] == counts[0] + 1
