"""The same with every annotation kept as text, as `from __future__ import annotations` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends

from afterwards import BackgroundTasks
from support import work

if TYPE_CHECKING:
    from support.fixtures import NewSite

router = APIRouter()


def dependency(tasks: Annotated[BackgroundTasks, "for humans"]) -> None:
    tasks.add_task(work.note, "dependency")


@router.post("/")
async def endpoint(background_tasks: BackgroundTasks, needed: Annotated[None, Depends(dependency)]) -> None:
    background_tasks.add_task(work.note, "x")


def test_annotations_kept_as_text(new_site: NewSite):
    """Many programs begin with that import."""
    site = new_site("a")
    site.app.include_router(router)

    with site.client() as client:
        client.post("/")

    assert len(site.at_start[0]) == 2
    assert work.journal == ["dependency", "x"]
