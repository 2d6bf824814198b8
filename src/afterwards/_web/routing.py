"""Puts our routes into an application, before its own: a catch-all, or a file server at its root, hides nothing.

They belong to the application like its own routes: its middleware, its dependencies and its root path hold for them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from afterwards._domain.documents import schema
from afterwards._web.problems import MEDIA_TYPE, Problem, ProblemRoute
from afterwards._web.refusing import at_once
from afterwards._web.system import System

TAG = "afterwards"

Answers = dict[int | str, dict[str, Any]]  # as FastAPI describes them in OpenAPI


class Routing:
    """Adds routes of one installation to one application."""

    def __init__(self, app: FastAPI, system: System, guard: Any, *, docs: bool) -> None:
        """Prepare.

        Args:
            app: Where they are added.
            system: Whose routes they are.
            guard: The dependency that lets admins through.
            docs: Show them in the application's OpenAPI document.
        """

        class Plain(ProblemRoute):
            """Ours. Standing before the application's own routes, it lets their requests pass as quickly as it can."""

            def matches(self, scope: Scope) -> tuple[Match, Scope]:
                return super().matches(scope) if system.prefix in scope["path"] else (Match.NONE, {})

        Plain.system = system
        Plain.known = defaultdict(set)

        class WithTraceback(Plain):
            """Another route on the same path, so that only those who ask for tracebacks meet the admin rule."""

            def matches(self, scope: Scope) -> tuple[Match, Scope]:
                query = scope.get("query_string", b"")
                asked = parse_qs(query.decode("latin-1")).get("traceback", [""])[-1] if b"traceback" in query else ""
                if asked.lower() not in ("1", "true", "on", "yes", "t", "y"):
                    return Match.NONE, {}
                return super().matches(scope)

        class Refusing(Plain):
            """One that takes bodies: of a request that is refused, no more of the body is read."""

            def get_route_handler(self) -> Any:
                return at_once(super().get_route_handler())

        self._app = app
        self._prefix = system.prefix
        self._guard = guard
        self._docs = docs
        self.plain: type[ProblemRoute] = Plain
        self.refusing: type[ProblemRoute] = Refusing
        self.with_traceback: type[ProblemRoute] = WithTraceback

    @contextmanager
    def first(self) -> Iterator[None]:
        """Put what is added inside before all routes that the application has already."""
        routes = self._app.router.routes
        earlier = list(routes)
        yield
        routes[:] = routes[len(earlier) :] + earlier

    def add(
        self,
        path: str,
        call: Callable[..., Any],
        summary: str,
        responses: Answers,
        *,
        method: str = "GET",
        status: int = 200,
        admin: bool = False,
        guards: Sequence[Any] = (),
        bodies: bool = False,
        kind: type[ProblemRoute] | None = None,
    ) -> None:
        """Add a route.

        Args:
            path: Below the prefix of the installation.
            call: The endpoint; its docstring is its description.
            summary: Its name in the OpenAPI document.
            responses: What it answers, for the OpenAPI document.
            method: The one HTTP method it takes.
            status: Of an answer that went well.
            admin: Let admins through only.
            guards: More dependencies that decide who is let through, before the body of a request is read.
            bodies: Its requests have bodies that may be long: of one that is refused no more is read.
            kind: Of a second route of one path, which the OpenAPI document does not show: `with_traceback`, or `plain`
                for another method.
        """
        self.plain.known[self._prefix + path].add(method)
        self._app.router.add_api_route(
            self._prefix + path,
            call,
            methods=[method],
            status_code=status,
            response_class=Response,
            response_model=None,
            responses=responses,
            summary=summary,
            tags=[TAG],
            dependencies=[self._guard, *guards] if admin else list(guards),
            include_in_schema=self._docs and kind is None,
            route_class_override=kind or (self.refusing if bodies else self.plain),
        )


def content(text: str, kind: Any, media_type: str = "application/json") -> dict[str, Any]:
    """Describe an answer with a body."""
    return {"description": text, "content": {media_type: {"schema": schema(kind)}}}


def refusal(text: str) -> dict[str, Any]:
    """Describe an answer that is a problem document."""
    return content(text, Problem, MEDIA_TYPE)
