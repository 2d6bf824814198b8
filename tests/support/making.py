"""Functions that make and take files, to be queued by tests."""

from pathlib import Path
from typing import Any

from fastapi import UploadFile
from pydantic import BaseModel

from afterwards import File, output, workdir


class Order(BaseModel):
    """A model with files in it."""

    title: str
    cover: File
    pages: list[File]


def make(size: int, name: str = "made.txt") -> File:
    with output(name, content_type="text/plain") as file:
        file.write(b"x" * size)
    return file.file


async def make_async(size: int, name: str = "made.txt") -> Path:
    (workdir() / name).write_bytes(b"y" * size)
    return workdir() / name


def make_two(size: int) -> dict[str, File]:
    return {"one": make(size, "one.txt"), "two": make(size, "two.txt")}


def by_upload(file: UploadFile, rest: list[UploadFile] | None = None) -> list[Any]:
    found = [file, *(rest or ())]
    return [[type(one).__name__, one.filename, one.size, one.content_type, len(one.file.read())] for one in found]


async def by_file(file: File, rest: list[File] | None = None) -> list[Any]:
    return [
        [type(one).__name__, one.name, one.size, one.content_type, len(await one.read_async())]
        for one in [file, *(rest or ())]
    ]


async def by_upload_async(file: UploadFile) -> int:
    return len(await file.read())


def by_anything(file: Any) -> list[Any]:
    return [type(file).__name__]


def by_model(order: Order) -> dict[str, Any]:
    return {"order": order, "sizes": [len(one.read()) for one in (order.cover, *order.pages)]}


async def by_path(file: File) -> int:
    return (await file.path_async()).stat().st_size


def upload_returned(file: UploadFile) -> UploadFile:
    return file


def named(file: UploadFile, note: str) -> list[Any]:
    return [file.filename, note]
