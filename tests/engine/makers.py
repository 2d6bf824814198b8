"""Functions that make files, in every way a task can, and some that try what it must not."""

import asyncio
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import UploadFile
from pydantic import BaseModel

from afterwards._domain.options import task
from afterwards._engine.context import current_task
from afterwards._engine.files import File
from afterwards._engine.outputs import output, workdir
from engine import jobs

LARGE = 700_000  # bytes, above what goes into a row


def content(size: int, seed: int = 1) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[seed % 256 : size] + bytes(min(size, seed % 256))


def write(size: int, name: str = "made.bin") -> File:
    with output(name, content_type="image/png") as file:
        file.write(content(size))
    return file.file


async def write_async(size: int, name: str = "made.bin") -> File:
    with output(name) as file:
        file.write(content(size))
    await asyncio.sleep(0)
    return file.file


def write_and_return_nothing(*sizes: int) -> None:
    for place, size in enumerate(sizes):
        output(f"{place}.bin").write(content(size))


def write_in_pieces(pieces: int, size: int) -> Any:
    """Not in order: the head comes last, as many formats want it."""
    with output("pieces.bin") as file:
        file.write(bytes(8))
        for _ in range(pieces):
            file.write(content(size))
        assert file.read() == b""
        file.seek(0)
        file.write(b"the head")
        assert file.read(1) == content(size)[:1]
    return file


def return_path(size: int, name: str = "kept.bin") -> Path:
    (workdir() / "thrown away.bin").write_bytes(bytes(100_000))
    path = workdir() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(size))
    return path


async def return_path_async(size: int) -> Path:
    return return_path(size)


@dataclass
class Report:
    title: str
    pages: list[Path]


class Album(BaseModel):
    cover: File
    rest: dict[str, File]


def return_many() -> dict[str, Any]:
    pages = [return_path(size, f"page{size}.txt") for size in (0, 10, LARGE)]
    album = Album(cover=write(20, "cover.png"), rest={"back": write(LARGE, "back.png")})
    return {"report": Report("all", [*pages, pages[0]]), "album": album, "same": album.cover, "number": 7}


def return_given(file: File) -> list[File]:
    return [file, file]


def return_upload(file: UploadFile) -> UploadFile:
    return file


def return_its_path(file: File) -> Path:
    return file.path()


def spoil_path(file: File) -> bytes:
    """Try to change the stored bytes by their path, and by a second name of it."""
    path = file.path()
    assert path == file.path()
    assert path.suffix == ".bin"
    found = path.read_bytes()
    second = workdir() / "second"
    os.link(path, second)
    path.chmod(0o600)
    for one in (path, second):
        one.write_bytes(b"spoiled")
    return found


def use_path(file: File) -> tuple[str, int, int]:
    path = file.path()
    return str(path), path.stat().st_mode & 0o777, path.stat().st_size


def link_what_was_given(file: File) -> Path:
    target = workdir() / "linked.bin"
    os.link(file.path(), target)
    return target


def write_and_fail(*sizes: int) -> None:
    write_and_return_nothing(*sizes)
    return_path(LARGE)
    file = output("open.bin")
    file.write(content(LARGE))
    raise ValueError("after writing")


def write_and_return_a_lock() -> Any:
    write_and_return_nothing(10, LARGE)
    return threading.Lock()


@task(retries=2, backoff=10)
def fail_twice() -> list[File]:
    found = current_task()
    assert found is not None
    assert list(workdir().iterdir()) == []
    (workdir() / "left").write_bytes(b"over")
    made = [write(10, f"small{found.attempt}"), write(LARGE, f"large{found.attempt}")]
    if found.attempt < 3:
        raise ValueError("not yet")
    return made


def drop_one() -> str:
    try:
        with output("half.bin") as file:
            file.write(content(LARGE))
            raise ValueError("in the middle")
    except ValueError:
        write(10)
    return "went on"


def return_dropped() -> Any:
    try:
        with output("half.bin") as file:
            raise ValueError("in the middle")
    except ValueError:
        return file


def many(number: int) -> int:
    for place in range(number):
        output(f"{place}").write(b"%d" % place)
    return number


def large_many(number: int) -> list[Path]:
    for place in range(number):
        (workdir() / f"{place}").write_bytes(content(LARGE, place))
    return [workdir() / f"{place}" for place in range(number)]


def copies(number: int) -> list[Path]:
    """Names of one file: each of them needs a copy of its own."""
    first = return_path(LARGE)
    for place in range(number):
        os.link(first, workdir() / f"{place}")
    return [workdir() / f"{place}" for place in range(number)]


def hold_with_files() -> File:
    made = write(LARGE)
    return_path(10)
    jobs.hold()
    return made


async def hold_with_files_async() -> File:
    made = write(LARGE)
    await jobs.hold_async()
    return made


def read_while_writing() -> list[Any]:
    small, large = write(10), write(LARGE)
    paths = [small.path(), large.path()]
    return [small.read() == content(10), large.read() == content(LARGE), [path.stat().st_size for path in paths]]


def stray() -> None:
    """Leave a tree behind that resists."""
    deep = workdir()
    while len(str(deep)) < 3_000:
        deep /= "d" * 100
        deep.mkdir()
    (workdir() / "link").symlink_to("/etc")
    os.mkfifo(workdir() / "pipe")
    locked = workdir() / "locked"
    (locked / "inner").mkdir(parents=True)
    (locked / "inner" / "file").write_bytes(b"x")
    (locked / "inner").chmod(0o500)
    locked.chmod(0)


# what a returned path must not be


def in_threads(within: bool) -> list[int]:
    def write(number: int) -> int:
        with output(f"{number}.bin") as file:
            return file.write(b"x" * 10)

    with ThreadPoolExecutor(2) as threads:
        if within:
            calls = [threads.submit(contextvars.copy_context().run, write, number) for number in range(3)]
        else:
            calls = [threads.submit(write, number) for number in range(3)]
        return [call.result() for call in calls]


def workdir_in_a_thread() -> Path:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(workdir).result()


def link_for_the_folder() -> Path:
    folder = workdir()
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(folder.with_name("moved"))
    (folder / "a.bin").write_bytes(b"x" * LARGE)
    return folder / "a.bin"


def outside() -> Path:
    return Path("/etc/passwd")


def relative() -> Path:
    return Path("made.bin")


def missing() -> Path:
    return workdir() / "missing"


def the_folder() -> Path:
    return workdir()


def a_folder() -> Path:
    (workdir() / "folder").mkdir()
    return workdir() / "folder"


def up_and_out() -> Path:
    return workdir() / ".." / ".." / ".." / ".." / "key"


def a_link() -> Path:
    (workdir() / "link").symlink_to("/etc/passwd")
    return workdir() / "link"


def a_link_inside() -> Path:
    (workdir() / "link").symlink_to(return_path(10))
    return workdir() / "link"


def below_a_link() -> Path:
    (workdir() / "link").symlink_to("/etc")
    return workdir() / "link" / "passwd"


def a_pipe() -> Path:
    os.mkfifo(workdir() / "pipe")
    return workdir() / "pipe"


def below_a_file() -> Path:
    return return_path(10) / "inner"


def the_database() -> Path:
    return workdir().parents[3] / "afterwards.db"
