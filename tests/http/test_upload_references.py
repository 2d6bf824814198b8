"""A form names a finished upload where an endpoint takes a file, and tasks take that file without a copy."""

import os
from typing import Annotated
from urllib.parse import urlencode

import apsw
import msgspec
import pytest
from fastapi import Form, UploadFile

import afterwards
from afterwards._domain.ids import new_id
from afterwards._files.parts import part_path
from support import work
from support.site import until
from support.uploads import upload_server


def read_file(file: UploadFile) -> None:
    """Note what a task was given."""
    work.journal.append((file.filename, file.content_type, file.size, file.file.read()))


def two_files(one: UploadFile, other: UploadFile) -> None:
    work.journal.append((one.file.read(), other.file.read()))


@pytest.fixture(params=["uvicorn", "ours"])
def server(request, tmp_path):
    work.clear()
    with upload_server(tmp_path / "data", ours=request.param == "ours") as running:
        app = running.site.app

        @app.post("/one")
        async def one(file: UploadFile, tasks: afterwards.BackgroundTasks, note: Annotated[str, Form()] = ""):
            content = await file.read()
            try:
                file.file.write(b"x")
                written = True
            except (OSError, ValueError):
                written = False
            tasks.add_task(read_file, file)
            return {"name": file.filename, "size": file.size, "read": len(content), "written": written, "note": note}

        @app.post("/many")
        def many(files: list[UploadFile], tasks: afterwards.BackgroundTasks):
            tasks.add_task(two_files, files[0], files[1])
            return [file.size for file in files]

        @app.post("/maybe")
        def maybe(tasks: afterwards.BackgroundTasks, file: UploadFile | None = None):
            return None if file is None else file.size

        @app.post("/late")
        def late(file: UploadFile, gone: Annotated[str, Form()], tasks: afterwards.BackgroundTasks):
            tasks.add_task(read_file, file)
            assert running.ask("DELETE", f"/afterwards/uploads/{gone}").status == 204

        yield running


def post(server, path: str, fields: list[tuple[str, str]], *, multipart: bool, **headers: str):
    if not multipart:
        return server.ask(
            "POST",
            path,
            {"Content-Type": "application/x-www-form-urlencoded", **headers},
            urlencode(fields).encode(),
        )
    parts = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields]
    return server.ask(
        "POST",
        path,
        {"Content-Type": "multipart/form-data; boundary=b", **headers},
        ("".join(parts) + "--b--\r\n").encode(),
    )


def finished(server, content: bytes, name: str = "a.txt") -> str:
    headers = {"Content-Type": "text/plain", "Content-Disposition": f'attachment; filename="{name}"'}
    answer = server.ask("POST", "/afterwards/uploads", headers, content)
    assert answer.status == 201
    return answer["location"][-43:]


@pytest.mark.parametrize("multipart", [True, False])
@pytest.mark.parametrize("size", [10, 500_000])
def test_an_endpoint_and_its_task_get_the_file_that_is_named(server, multipart, size):
    content = os.urandom(size)
    id = finished(server, content)

    answer = post(server, "/one", [("note", "hello"), ("file", id)], multipart=multipart)

    assert answer.status == 200
    expected = {"name": "a.txt", "size": size, "read": size, "written": False, "note": "hello"}
    assert msgspec.json.decode(answer.body) == expected
    until(lambda: work.journal == [("a.txt", "text/plain", size, content)], lambda: work.journal)
    assert len(server.site.files()) == (size > 300_000)  # the task has the upload's file, and no other
    assert [file.id for row in server.site.rows() for file in row.files] == [id]


def test_one_upload_may_be_taken_by_several_tasks(server):
    id = finished(server, b"hello")
    for _ in range(3):
        assert post(server, "/one", [("file", id)], multipart=True).status == 200
    server.site.settled(3)
    assert [content for *_, content in work.journal] == [b"hello"] * 3


def test_lists_and_optional_files(server):
    ids = [finished(server, b"hello"), finished(server, b"world!")]
    answer = post(server, "/many", [("files", id) for id in ids], multipart=False)
    assert msgspec.json.decode(answer.body) == [5, 6]
    until(lambda: work.journal == [(b"hello", b"world!")])
    assert post(server, "/maybe", [("file", ids[0])], multipart=True).body == b"5"
    assert post(server, "/maybe", [("other", "x")], multipart=True).body == b"null"


def test_a_text_that_is_no_id_is_left_to_fastapi(server):
    for text in ("hello", "", "0" * 42, new_id() + "0"):
        answer = post(server, "/one", [("file", text)], multipart=True)
        assert answer.status == 422
    assert post(server, "/one", [("note", new_id())], multipart=True).status == 422
    note = new_id()
    answer = post(server, "/one", [("note", note), ("file", finished(server, b"x"))], multipart=True)
    assert msgspec.json.decode(answer.body)["note"] == note


def test_what_cannot_be_had_is_refused_with_its_reason(server):
    """Unknown, not finished, terminated; and nothing is queued."""
    unfinished = server.create(5)[-43:]
    gone = finished(server, b"x")
    server.ask("DELETE", f"/afterwards/uploads/{gone}")
    for id, status, reason in (
        (new_id(), 404, "there is none"),
        (unfinished, 409, "not finished"),
        (gone, 410, "gone"),
    ):
        answer = post(server, "/one", [("file", id)], multipart=True)
        assert answer.status == status
        assert reason in answer.body.decode()
        assert id in answer.body.decode()
    assert server.site.rows() == []


@pytest.mark.parametrize(("verdict", "status"), [("held", 409), ("infected", 422), ("clean", 200)])
def test_a_scanner_has_the_last_word(server, verdict, status):
    id = finished(server, b"x")
    connection = apsw.Connection(str(server.site.data / "afterwards.db"))
    connection.execute("UPDATE file SET verdict = ? WHERE id = ?", (verdict, id))
    connection.close()
    assert post(server, "/one", [("file", id)], multipart=True).status == status


def test_an_upload_that_a_task_took_outlives_its_termination(server):
    """DELETE frees the room at once, but not from under a task."""
    work.gate.clear()
    content = os.urandom(500_000)
    id = finished(server, content)
    assert post(server, "/one", [("file", id)], multipart=True).status == 200
    assert server.ask("DELETE", f"/afterwards/uploads/{id}").status == 204
    assert server.ask("HEAD", f"/afterwards/uploads/{id}").status == 410
    server.site.settled(1)
    assert work.journal[-1][-1] == content


def test_the_file_is_read_from_where_it_was_stored(server):
    """No part file is left, and none is made."""
    id = finished(server, os.urandom(500_000))
    post(server, "/one", [("file", id)], multipart=True)
    assert not part_path(id, server.site.data).exists()


@pytest.mark.parametrize("size", [10, 500_000])
def test_an_upload_that_is_deleted_before_its_task_is_stored_is_refused_and_stays_deleted(server, size):
    """Its row must not come back without its bytes: whoever deleted it was told that it is gone."""
    id = finished(server, os.urandom(size))

    answer = post(server, "/late", [("file", id), ("gone", id)], multipart=True)

    assert answer.status == 410
    assert id in answer.body.decode()
    assert server.site.rows() == []
    assert server.site.reads.file(id) is None
    assert server.site.files() == []
    assert server.ask("GET", f"/afterwards/files/{id}").status == 404


@pytest.mark.parametrize("multipart", [True, False])
def test_a_request_that_named_an_upload_is_answered_again_after_that_is_gone(server, multipart):
    """The client did not hear the first answer; that its upload has been removed since is no reason to tell it so."""
    one, other = finished(server, b"hello"), finished(server, b"hello")
    key = {"Idempotency-Key": "1"}
    first = post(server, "/one", [("file", one)], multipart=multipart, **key)
    server.site.settled(1)
    assert server.ask("DELETE", f"/afterwards/uploads/{one}").status == 204

    again = post(server, "/one", [("file", one)], multipart=multipart, **key)
    reused = post(server, "/one", [("file", other)], multipart=multipart, **key)

    assert (first.status, again.status, again.body) == (200, 200, first.body)
    assert again["idempotent-replayed"] == "true"
    assert reused.status == 422
    assert len(server.site.rows()) == 1
