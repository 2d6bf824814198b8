"""Fixtures for the folders that meet FastAPI: applications with a data directory of their own, by both doors."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import work
from support.site import Site

NewSite = Callable[..., Site]


@pytest.fixture(autouse=True)
def new_start() -> Iterator[None]:
    work.clear()
    yield
    work.gate.set()


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[NewSite]:
    """Makes sites: `new_site("a")`, or "b"; closed at the end of the test."""
    sites: list[Site] = []

    def make(door: str = "a", **settings: object) -> Site:
        sites.append(Site(tmp_path / f"data{len(sites)}", door, **settings))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture(params=["a", "b"])
def site(request: pytest.FixtureRequest, new_site: NewSite) -> Site:
    """An application that asks for our `BackgroundTasks` (a), and one that asks for FastAPI's (b)."""
    return new_site(request.param)
