"""How long a program keeps what has ended is its own word, and every client can see it."""

from datetime import datetime, timedelta

import pytest

from afterwards import Afterwards, Keep
from support import work
from support.site import Site


def ended(site: Site, function: object) -> dict:
    """Run one task and return its document."""

    @site.app.post("/go")
    async def go(tasks: site.Tasks) -> None:
        tasks.add_task(function)

    with site.client() as client:
        client.post("/go")
        [row] = site.settled(1)
        found: dict = client.get(f"/afterwards/tasks/{row.id}").json()
    return found


def stays(document: dict) -> timedelta:
    return datetime.fromisoformat(document["expires_at"]) - datetime.fromisoformat(document["finished_at"])


def test_the_document_says_until_when_a_task_stays(new_site):
    keep = Keep(succeeded=timedelta(hours=2), failed=timedelta(days=3))

    assert stays(ended(new_site("a", keep=keep), work.note)) == timedelta(hours=2)
    assert stays(ended(new_site("a", keep=keep), work.fail)) == timedelta(days=3)
    assert stays(ended(new_site("a", keep=timedelta(hours=5)), work.fail)) == timedelta(hours=5)


def test_an_operator_decides_where_the_program_does_not(new_site, monkeypatch):
    monkeypatch.setenv("AFTERWARDS_KEEP", "36h")

    assert stays(ended(new_site("a"), work.note)) == timedelta(hours=36)
    assert stays(ended(new_site("a", keep=timedelta(hours=5)), work.note)) == timedelta(hours=5)


def test_a_length_of_time_that_is_none_is_refused_at_once(monkeypatch):
    with pytest.raises(ValueError, match=r"Afterwards\(keep=.*longer than nothing"):
        Afterwards(keep=timedelta(0))
    monkeypatch.setenv("AFTERWARDS_KEEP_FAILED", "for ever")
    with pytest.raises(ValueError, match="AFTERWARDS_KEEP_FAILED='for ever': 'for ever' is no length of time"):
        Afterwards()
