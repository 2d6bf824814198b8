"""An engine whose loops are turned by hand."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine import jobs
from engine.rig import Rig, rig


@pytest.fixture(autouse=True)
def _new_start() -> Iterator[None]:
    jobs.clear()
    yield
    jobs.gate.set()


@pytest_asyncio.fixture
async def hands(tmp_path: Path) -> AsyncIterator[Rig]:
    """The usual one: a hundred places on the loop, four on threads."""
    with rig(tmp_path, threads=4) as made:
        yield made
        jobs.gate.set()
