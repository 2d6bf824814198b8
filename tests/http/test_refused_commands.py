"""What the store refuses for sure leaves nothing behind: no row, and no bytes that nobody counts."""

import os

import pytest
from fastapi import UploadFile

from support.site import Site


def size_of(file: UploadFile) -> int:
    return len(file.file.read())


@pytest.fixture
def filled(site: Site) -> Site:
    Tasks = site.Tasks

    @site.app.post("/")
    async def endpoint(file: UploadFile, background_tasks: Tasks) -> None:
        background_tasks.add_task(size_of, file)

    return site


@pytest.mark.parametrize("what", ["json('{')", "RAISE(ABORT, 'not this one')"])
def test_the_files_of_a_request_that_the_store_refused_are_removed(filled: Site, what: str):
    """They would count for no quota, and stay until the sweep: a way to fill the disk."""
    with filled.client(raise_server_exceptions=False) as client:
        filled.refuse_files(what)
        for _ in range(3):
            assert client.post("/", files={"file": ("a", os.urandom(400_000))}).status_code == 500

        assert filled.files() == []
    assert filled.rows() == []
