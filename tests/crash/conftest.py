"""A place for servers to be killed in."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crash.harness import Harness

NewHarness = Callable[..., Harness]


@pytest.fixture
def new_harness(tmp_path: Path) -> Iterator[NewHarness]:
    made: list[Harness] = []

    def make(*args: object, **options: object) -> Harness:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Harness(folder, *args, **options))
        return made[-1]

    yield make
    for harness in made:
        harness.close()


@pytest.fixture
def harness(new_harness: NewHarness) -> Harness:
    return new_harness()
