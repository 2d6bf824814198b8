"""Files that tasks make and take, as applications and their clients see them."""

import io
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Form, UploadFile
from fastapi.testclient import TestClient
from starlette.datastructures import Headers

from afterwards import BackgroundTasks, File
from afterwards._domain.files import Verdict
from afterwards._files import comparison
from afterwards._store.contract import Accept, ask_blocking
from afterwards.errors import FileHeld, FileInfected, UnknownFile, UnstorableArgument
from contract.hand import new_file, new_task
from support import making
from support.fixtures import NewSite
from support.site import Site

pytestmark = pytest.mark.fastapi

SIZES = [10, 700_000]


@pytest.fixture
def ours(new_site: NewSite) -> Site:
    return new_site("a")


def task_of(client: TestClient, id: str, **query: Any) -> dict[str, Any]:
    answer = client.get(f"/afterwards/tasks/{id}", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["state"] == "succeeded", found
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("function", [making.make, making.make_async])
def test_the_document_and_the_result_show_the_file_that_a_task_made(ours: Site, function: Any, size: int):
    with ours.client() as client:
        handle = ours.afterwards.enqueue_blocking(function, size)
        made = client.portal.call(handle.result)  # type: ignore[union-attr]

        found = task_of(client, handle.id)
        [listed] = found["files"]
        shown = {
            "id": made.id,
            "name": "made.txt",
            "href": f"/afterwards/files/{made.id}",
            "size": size,
            "type": "text/plain" if function is making.make else listed["type"],
            "digest": made.digest,
        }
        assert {key: listed[key] for key in shown} == shown
        assert listed["role"] == "output"
        assert {key: found["result"][key] for key in shown} == shown
        assert isinstance(made, File)
        assert made.url == shown["href"]
        assert len(made.read()) == size


def test_several_files_are_shown_where_they_are_in_the_result(ours: Site):
    with ours.client() as client:
        handle = ours.afterwards.enqueue_blocking(making.make_two, 10)
        made = client.portal.call(handle.result)  # type: ignore[union-attr]

        shown = client.get(f"/afterwards/tasks/{handle.id}/result").json()

    assert {key: (one["id"], one["name"]) for key, one in shown.items()} == {
        key: (one.id, f"{key}.txt") for key, one in made.items()
    }


def chained(ours: Site) -> None:
    """An endpoint that hands a stored file on, by its id."""

    @ours.app.post("/next/{id}", status_code=202)
    async def following(id: str, how: str, tasks: BackgroundTasks) -> dict[str, Any]:
        file = await ours.afterwards.file(id)
        order = making.Order(title="an order", cover=file, pages=[file, file])
        call: Any = {
            "upload": (making.by_upload, file),
            "uploads": (making.by_upload, file, [file, file]),
            "file": (making.by_file, file),
            "files": (making.by_file, file, [file]),
            "anything": (making.by_anything, file),
            "model": (making.by_model, order),
            "path": (making.by_path, file),
        }[how]
        return {"task": tasks.add_task(*call).id, "file": file}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("upload", lambda size: [["UploadFile", "made.txt", size, "text/plain", size]]),
        ("uploads", lambda size: [["UploadFile", "made.txt", size, "text/plain", size]] * 3),
        ("file", lambda size: [["File", "made.txt", size, "text/plain", size]]),
        ("files", lambda size: [["File", "made.txt", size, "text/plain", size]] * 2),
        ("anything", lambda size: ["File"]),
        ("path", lambda size: size),
    ],
)
def test_a_task_takes_a_stored_file_as_its_annotation_says(ours: Site, how: str, expected: Any, size: int):
    """As our value or as the upload it was, without a copy of the bytes."""
    chained(ours)
    with ours.client() as client:
        first = ours.afterwards.enqueue_blocking(making.make, size)
        made = client.portal.call(first.result)  # type: ignore[union-attr]

        answer = client.post(f"/next/{made.id}", params={"how": how})

        assert answer.status_code == 202, answer.text
        assert answer.json()["file"] == dict(made)
        found = task_of(client, answer.json()["task"])
        assert found["result"] == expected(size)
        assert [(one["id"], one["role"]) for one in found["files"]] == [(made.id, "input")]
        assert len(ours.files()) == int(size > 262_144)


def test_a_file_in_a_model_comes_back_equal(ours: Site):
    chained(ours)
    with ours.client() as client:
        made = client.portal.call(ours.afterwards.enqueue_blocking(making.make, 10).result)  # type: ignore[union-attr]

        answer = client.post(f"/next/{made.id}", params={"how": "model"}).json()

        result = task_of(client, answer["task"])["result"]
        assert result["sizes"] == [10, 10, 10]
        assert result["order"]["title"] == "an order"
        assert [one["id"] for one in (result["order"]["cover"], *result["order"]["pages"])] == [made.id] * 3


@pytest.mark.parametrize("size", SIZES)
def test_an_upload_reaches_a_task_that_wants_a_file(ours: Site, size: int):
    @ours.app.post("/upload", status_code=202)
    async def upload(file: UploadFile, files: list[UploadFile], tasks: BackgroundTasks) -> list[str]:
        calls = [tasks.add_task(making.by_file, file, files), tasks.add_task(making.by_anything, file)]
        return [call.id for call in calls]

    parts = [("file", ("a.txt", b"a" * size, "text/x-a")), ("files", ("b.txt", b"b" * size, "text/x-b"))]
    with ours.client() as client:
        one, other = client.post("/upload", files=parts).json()

        assert task_of(client, one)["result"] == [
            ["File", "a.txt", size, "text/x-a", size],
            ["File", "b.txt", size, "text/x-b", size],
        ]
        assert task_of(client, other)["result"] == ["UploadFile"]


@pytest.mark.parametrize("size", SIZES)
def test_a_name_that_is_no_text_reaches_a_task_as_far_as_it_is(ours: Site, size: int):
    """A program's own upload can have a name with lone surrogates, as `os.listdir` gives them; no row can."""

    @ours.app.post("/own", status_code=202)
    async def own(tasks: BackgroundTasks) -> str:
        file = UploadFile(io.BytesIO(b"a" * size), filename="\udcff\0.txt", headers=Headers({"x": "ü"}))
        return tasks.add_task(making.by_file, file, [file]).id

    @ours.app.post("/upload", status_code=202)
    async def upload(file: UploadFile, note: Annotated[str, Form()], tasks: BackgroundTasks) -> str:
        return tasks.add_task(making.named, file, note).id

    head = b'--x\r\nContent-Disposition: form-data; name="'
    body = head + b'file"; filename="+2AA-"\r\n\r\n' + b"a" * size + b"\r\n"
    body += head + b'note"\r\n\r\n+2AA-\r\n--x--\r\n'
    with ours.client() as client:
        assert task_of(client, client.post("/own").json())["result"][0][1] == "?�.txt"
        kind = {"content-type": "multipart/form-data; boundary=x; charset=utf-7"}
        answer = client.post("/upload", content=body, headers=kind)
        assert answer.status_code == 202, answer.text
        assert task_of(client, answer.json())["result"] == ["+2AA-", "+2AA-"]


def damage(data: str) -> None:
    [path] = (Path(data) / "files").glob("*/*")
    with open(path, "r+b") as file:
        file.write(b"!")


@pytest.mark.parametrize("function", [making.by_upload, making.by_file, making.by_path, making.by_upload_async])
def test_a_task_gets_the_bytes_that_were_received_or_none(ours: Site, function: Any):
    """One changed byte, of the same length: the task must not work on it."""

    @ours.app.post("/upload", status_code=202)
    async def upload(file: UploadFile, tasks: BackgroundTasks) -> str:
        tasks.add_task(damage, str(ours.data))
        return tasks.add_task(function, file).id

    with ours.client() as client:
        id = client.post("/upload", files={"file": ("a.txt", b"a" * 700_000)}).json()
        found = client.get(f"/afterwards/tasks/{id}").json()

    assert found["state"] == "failed"
    assert found["error"]["type"] == "afterwards.errors.DamagedFile"
    assert "its digest is blake3:" in found["error"]["message"]


async def test_files_are_compared_beside_the_event_loop(ours: Site):
    """Other requests and tasks go on while a large file is read for an `async def` task."""

    @ours.app.post("/upload", status_code=202)
    async def upload(file: UploadFile, tasks: BackgroundTasks) -> str:
        return tasks.add_task(making.by_file, file).id

    with ours.client() as client:
        client.post("/upload", files={"file": ("a.txt", b"a" * 700_000)})
        [file] = ours.files()
        stored = client.portal.call(ours.afterwards.file, file.name)  # type: ignore[union-attr]
        comparison._known.clear()
        with comparison._reading[hash(file.name) % len(comparison._reading)]:
            waiting = ours.afterwards.enqueue_blocking(making.by_file, stored)
            other = ours.afterwards.enqueue_blocking(making.make_async, 10)
            client.portal.call(other.result)  # type: ignore[union-attr]
            assert client.get(f"/afterwards/tasks/{waiting.id}").json()["state"] == "running"
        assert client.portal.call(waiting.result)[0][4] == 700_000  # type: ignore[union-attr]


def test_an_upload_that_is_returned_is_the_stored_file(ours: Site):
    @ours.app.post("/upload", status_code=202)
    async def upload(file: UploadFile, tasks: BackgroundTasks) -> str:
        return tasks.add_task(making.upload_returned, file).id

    with ours.client() as client:
        id = client.post("/upload", files={"file": ("a.txt", b"abc", "text/x-a")}).json()
        found = task_of(client, id)

    assert found["result"]["id"] == found["files"][0]["id"]
    assert found["files"][0]["role"] == "input"


def test_a_file_that_is_not_there_is_refused_with_a_problem(ours: Site):
    chained(ours)
    with ours.client() as client:
        for id in ("f" * 43, "../../key", "x"):
            answer = client.post(f"/next/{id}", params={"how": "file"})
            assert answer.status_code == 404
        assert answer.json()["code"] == "unknown_file"
        assert answer.headers["content-type"] == "application/problem+json"
        with pytest.raises(UnknownFile):
            ours.afterwards.file_blocking("x")
    assert ours.names() == []


def test_a_file_that_was_deleted_is_refused_when_it_is_added(ours: Site):
    """The program may hold the value for as long as it likes."""
    gone: list[File] = []

    @ours.app.post("/late", status_code=202)
    async def late(tasks: BackgroundTasks) -> str:
        with pytest.raises(UnknownFile):
            tasks.add_task(making.by_file, gone[0])
        return tasks.add_task(making.by_file, gone[0]).id

    with ours.client() as client:
        made = client.portal.call(ours.afterwards.enqueue_blocking(making.make, 10).result)  # type: ignore[union-attr]
        about = {name: getattr(made, name) for name in ("name", "size", "content_type", "type", "digest")}
        gone.append(File(made._source, id="0" * 43, **about))

        answer = client.post("/late")

        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_file")
        with pytest.raises(UnknownFile):
            ours.afterwards.enqueue_blocking(making.by_file, gone[0])
    assert [name for name, _ in ours.names()] == ["make"]


@pytest.mark.parametrize(
    ("verdict", "status", "code"), [(Verdict.HELD, 409, "file_held"), (Verdict.INFECTED, 403, "file_infected")]
)
def test_a_file_that_a_scanner_has_not_cleared_reaches_no_task(ours: Site, verdict: Verdict, status: int, code: str):
    chained(ours)
    with ours.client() as client:
        client.portal.call(ours.afterwards.enqueue_blocking(making.make, 10).result)  # type: ignore[union-attr]
        file = new_file(verdict=verdict)
        system = ours.afterwards._system
        ask_blocking(system.store, Accept(tasks=[new_task(files=[file.id])], files=[file]))

        answer = client.post(f"/next/{file.id}", params={"how": "file"})

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        with pytest.raises((FileHeld, FileInfected)):
            ours.afterwards.file_blocking(file.id).read()


def enqueue_output(data: str) -> str:
    """A task that hands on what it has not finished."""
    made = making.make(10)
    try:
        _sites[0].afterwards.enqueue_blocking(making.by_file, made)
    except UnstorableArgument as error:
        return str(error)
    return "accepted"


_sites: list[Site] = []


def test_an_output_cannot_be_handed_on_before_its_task_has_succeeded(ours: Site):
    """It would be a task without its file, if the attempt then failed."""
    _sites[:] = [ours]
    with ours.client() as client:
        handle = ours.afterwards.enqueue_blocking(enqueue_output, "x")
        said = client.portal.call(handle.result)  # type: ignore[union-attr]
    assert "when the task that makes it has succeeded" in said


def test_files_come_back_equal_after_a_restart(new_site: NewSite, tmp_path: Path):
    first = Site(tmp_path / "data")
    with first.client() as client:
        handle = first.afterwards.enqueue_blocking(making.make, 700_000)
        made = client.portal.call(handle.result)  # type: ignore[union-attr]
    first.close()

    second = Site(tmp_path / "data")
    try:
        found = second.afterwards.file_blocking(made.id)
        assert found == made
        assert found.read() == b"x" * 700_000
        with pytest.raises(UnknownFile):
            second.afterwards.file_blocking("0" * 43)
    finally:
        second.close()


def test_the_openapi_document_describes_a_file(ours: Site):
    @ours.app.get("/shown")
    async def shown() -> File:
        raise NotImplementedError

    @ours.app.get("/order")
    async def order() -> making.Order:
        raise NotImplementedError

    with ours.client() as client:
        document = client.get("/openapi.json").json()

    schemas = document["components"]["schemas"]
    assert "href" in str(schemas["Order"])
