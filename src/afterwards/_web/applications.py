"""Looks through an application's routes: what is mounted below it, and which of them are ours to answer."""

from collections.abc import Iterable, Iterator

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Host, Mount

from afterwards._web import injection
from afterwards._web.injection import Route
from afterwards.errors import RoutesTooEarly

OURS = "_afterwards"  # on an application: the Afterwards it belongs to, None when it is known to have none


def refuse_early_routes(app: FastAPI) -> None:
    """Refuse an application whose routes take tasks and were made before this package was imported."""
    early = [
        route.path
        for route in app.routes
        if isinstance(route, APIRoute) and not injection.is_wrapped(route) and Route(route.dependant).uses()
    ]
    if early:
        raise RoutesTooEarly(routes=early)


def mounted(routes: Iterable[BaseRoute], afterwards: object) -> Iterator[FastAPI]:
    """Yield the applications mounted below these routes, at any depth, that belong to no other `Afterwards`."""
    for route in routes:
        if isinstance(route, Mount | Host):
            app = getattr(route, "_base_app", route.app)  # without the middleware of the mount
            if isinstance(app, FastAPI):
                if getattr(app, OURS, None) not in (None, afterwards):
                    continue
                yield app
            yield from mounted(route.routes or (), afterwards)


def asks_for_ours(routes: Iterable[BaseRoute]) -> bool:
    """Tell whether a route of an application, of its routers or of what is mounted in it asks for our class."""
    for route in routes:
        dependant = getattr(route, "dependant", None)
        if dependant is not None and Route(dependant).ours():
            return True
        below = getattr(route, "original_router", route)  # newer FastAPIs keep an included router as it is
        if asks_for_ours(getattr(below, "routes", None) or ()):
            return True
    return False
