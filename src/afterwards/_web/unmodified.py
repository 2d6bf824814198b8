"""Lets a program that has never heard of Afterwards meet our `BackgroundTasks` under FastAPI's name.

One that it makes by hand and drops then says so, instead of losing its tasks silently. What endpoints are given passes
for an instance of either class. Asking for FastAPI's class is still not asking for ours: nothing becomes stricter.
"""

from typing import Any

import fastapi
import fastapi.background
from fastapi import FastAPI

from afterwards._web.tasks import BackgroundTasks

MOST_WRAPPERS = 50  # middleware put around an application by hand


class _AlsoOurs(type):
    """The stand-in's own class: our objects are instances of the stand-in, too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, BackgroundTasks)


def replace_names() -> None:
    """Put the stand-in where programs import FastAPI's class; to be called before the program is imported."""
    native = fastapi.BackgroundTasks
    if isinstance(native, _AlsoOurs):
        return
    body = {"is_durable": False, "__module__": "fastapi.background", "__doc__": native.__doc__}
    stand_in = _AlsoOurs("BackgroundTasks", (BackgroundTasks,), body)
    fastapi.BackgroundTasks = fastapi.background.BackgroundTasks = stand_in  # type: ignore[misc, assignment]


def is_application(value: object) -> bool:
    """Tell whether a value is a FastAPI application itself."""
    return isinstance(value, FastAPI)


def application_in(value: Any) -> FastAPI | None:
    """Find the FastAPI application inside the middleware that a program may have put around it by hand."""
    for _ in range(MOST_WRAPPERS):
        if value is None or isinstance(value, FastAPI):
            return value
        value = getattr(value, "app", None) or getattr(value, "other_asgi_app", None)
    return None
