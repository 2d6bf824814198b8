"""A folder with a program that has never heard of Afterwards, and processes that end with the test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.processes import PROGRAM, Data, Running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Running]]:
    """Start `afterwards` with these arguments, in the program's folder."""
    started: list[Running] = []

    def begin(*arguments: str, said: dict[str, str] | None = None) -> Running:
        started.append(Running(folder, *arguments, said=said))
        return started[-1]

    yield begin
    for one in started:
        one.end()


@pytest.fixture
def serve(start: Callable[..., Running]) -> Callable[..., Running]:
    """Start `afterwards run program:app` on a free port."""
    return lambda *options: start("run", "program:app", "--port", "0", *options)


@pytest.fixture
def data(folder: Path) -> Data:
    """The data directory that the program uses when it is told nothing."""
    return Data(folder / "afterwards-data")
