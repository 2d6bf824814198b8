"""What a program gets wrong about files and settings is said in a sentence: where it is written, or when it runs."""

import logging
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, UploadFile
from fastapi.testclient import TestClient

import afterwards
from afterwards import Afterwards, File, Uploads, uploads
from afterwards.errors import SecondAfterwards

pytestmark = pytest.mark.fastapi

LOCAL: Any = {"client": ("127.0.0.1", 5), "base_url": "http://127.0.0.1"}
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.mark.parametrize("annotation", [File, File | None, list[File], Annotated[File, "x"]])
def test_an_endpoint_that_asks_for_a_stored_file_is_refused(annotation: Any):
    """FastAPI would look for it in the query."""
    app = FastAPI()

    async def endpoint(f: annotation) -> None: ...

    with pytest.raises(TypeError, match=r"/x: the parameter f .*write `f: UploadFile`;.*`from fastapi import File`"):
        app.post("/x")(endpoint)


def test_a_dependency_that_does_is_too():
    app = FastAPI()

    def dependency(f: File) -> None: ...

    with pytest.raises(TypeError, match="the parameter f"):

        @app.post("/x")
        async def endpoint(found: Annotated[None, Depends(dependency)]) -> None: ...


def test_one_application_has_one(tmp_path):
    """The settings of the first would go silently."""
    app = FastAPI(title="shop")
    first = Afterwards(app, data=tmp_path / "one")

    with pytest.raises(SecondAfterwards, match=r"'shop' has an Afterwards already, .*one: "):
        Afterwards(app, data=tmp_path / "two")

    assert first.data == tmp_path / "one"


def test_rules_that_nobody_goes_by_are_named_once(caplog: pytest.LogCaptureFixture):
    app = FastAPI()

    @app.post("/avatar")
    @uploads(max_file=1)
    async def avatar(file: UploadFile) -> int:
        return file.size or 0

    with caplog.at_level(logging.WARNING, "afterwards"), TestClient(app) as client:
        for _ in range(2):
            assert client.post("/avatar", files={"file": b"abc"}).json() == 3

    said = [record.getMessage() for record in caplog.records if "@uploads" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("/avatar: @uploads(...) decides nothing here")


def test_a_refusal_names_what_is_known(new_site):
    """The length that was declared, the name as it is written, and no name where there is none."""
    site = new_site(uploads=Uploads(max_file=10))

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: afterwards.BackgroundTasks) -> None: ...

    with site.client(**LOCAL) as client:
        unnamed = client.post("/afterwards/uploads", headers={**TUS, "Upload-Length": "11"})
        named = {**TUS, "Upload-Length": "11", "Upload-Metadata": "filename w7wu4oCucG5n"}  # "ü.\u202epng"
        other = client.post("/afterwards/uploads", headers=named)
        form = client.post("/", files={"file": ("größe\u202e.txt", b"x" * 11)})

    assert unnamed.json()["detail"].startswith("the upload has 11 bytes, and a file may have at most 10 here")
    assert other.json()["detail"].startswith(r"the upload 'ü.\u202epng' has 11 bytes, and")
    assert form.json()["detail"].startswith(r"the file 'größe\u202e.txt' has more than 10 bytes")


def test_what_is_larger_than_the_disk_is_not_asked_to_come_again(new_site):
    site = new_site()

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: afterwards.BackgroundTasks) -> None: ...

    with site.client(**LOCAL) as client:
        created = client.post("/afterwards/uploads", headers={**TUS, "Upload-Length": str(999 * 10**12)})
        headers = {"Content-Length": str(999 * 10**12), "Content-Type": "multipart/form-data; boundary=b"}
        form = client.post("/", content=iter([b"--b\r\n"]), headers=headers)

    for answer in (created, form):
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full"), answer.text
        assert "999,000,000,000,000 bytes were announced, and the whole disk for uploads has" in answer.json()["detail"]
        assert "retry-after" not in answer.headers
