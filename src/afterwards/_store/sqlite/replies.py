"""Hands out answers, waking each event loop once however many of its futures are among them."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from afterwards._store.contract import Reply
from afterwards.errors import Error

log = logging.getLogger("afterwards.store")


def deliver(answers: Sequence[tuple[Reply, Any]]) -> None:
    """Deliver each answer where its reply wants it; nobody's failure keeps another from an answer."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Reply, Any]]] = {}
    here: list[tuple[Reply, Any]] = []
    for reply, answer in answers:
        if isinstance(answer, Error):
            answer = _own(answer)
        if reply.loop is None:
            here.append((reply, answer))
        else:
            by_loop.setdefault(reply.loop, []).append((reply, answer))
    for loop, some in by_loop.items():
        try:
            loop.call_soon_threadsafe(_deliver_all, some)
        except RuntimeError:  # the loop was closed: whoever waited there is gone
            for reply, answer in some:
                reply.dropped(answer)
    _deliver_all(here)


def _deliver_all(answers: Sequence[tuple[Reply, Any]]) -> None:
    for reply, answer in answers:
        try:
            reply.deliver(answer)
        except Exception:  # code of the asker, which must not stop the others' answers
            log.exception("an answer could not be delivered")


def _own(error: Error) -> Error:
    """Make an exception for one waiter: raised in several threads at once, they would share its traceback."""
    copy = error.__class__.__new__(error.__class__)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy
