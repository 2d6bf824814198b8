"""The file routes: a stored file by its id, or by a signed link to it.

An id carries 128 random bits and opens its own file, as one of a task does. With `files="signed"` it does not: then
only a link with a signature does, until its time is over, and an admin.
"""

from typing import Annotated, Any, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from afterwards._domain import links
from afterwards._domain.signing import Signer
from afterwards._web.downloads import file_response
from afterwards._web.problems import ProblemRoute
from afterwards._web.routing import Answers, Routing, refusal
from afterwards._web.system import System
from afterwards.errors import LinkNeeded

Policy = Literal["open", "signed"]

Inline = Annotated[bool, Query(description="Let a browser show it: only images and plain text.")]


class FileRoutes:
    """The answers of one installation."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def file(self, id: str, request: Request, inline: Inline = False) -> Response:
        """Download a file. The id is all it takes, unless this service wants a signed link."""
        return await file_response(self._system, request, id, inline=inline)

    async def linked(self, id: str, request: Request, inline: Inline = False) -> Response:
        """Download a file by a link that is checked."""
        engine = self._system.engine
        links.check(Signer(self._system.key), id, request.url.query, now=engine.clock.now())
        return await file_response(self._system, request, id, inline=inline)

    async def refused(self, id: str) -> Response:
        """Say that a link is needed."""
        raise LinkNeeded(file=id[:80])


def add_file_routes(routing: Routing, system: System, *, policy: Policy, asks: bool) -> None:
    """Add the routes.

    Args:
        routing: Where to.
        system: Whose files.
        policy: "open": an id opens its file. "signed": only a link does, and an admin.
        asks: Whether the application decides itself who is an admin: it is asked then, whatever a request has.
    """
    with routing.first():
        _add(routing, FileRoutes(system), policy=policy, asks=asks)


def _add(routing: Routing, routes: FileRoutes, *, policy: Policy, asks: bool) -> None:
    unknown: Answers = {
        200: {"description": "The file.", "content": {"application/octet-stream": {}}},
        206: {"description": "The parts of it that `Range` asks for."},
        304: {"description": "The client has it already."},
        403: refusal("A scan found it to be infected, or a signed link is needed, wrong or over."),
        404: refusal("No file has this id."),
        409: refusal("It is held back until it has been scanned."),
        412: refusal("It is not the file that `If-Match` names."),
        416: refusal("It has none of the bytes that `Range` asks for."),
        422: refusal("A parameter means nothing here."),
    }
    add = routing.add
    link, credentials = _kinds(routing.plain)
    for method, hidden in (("GET", None), ("HEAD", routing.plain)):
        add("/files/{id}", routes.linked, "", {}, method=method, kind=link)
        if policy == "open":
            add("/files/{id}", routes.file, "Download a file", unknown, method=method, kind=hidden)
        elif asks:
            add("/files/{id}", routes.file, "Download a file", unknown, method=method, admin=True, kind=hidden)
        else:
            add("/files/{id}", routes.file, "", {}, method=method, admin=True, kind=credentials)
            add("/files/{id}", routes.refused, "Download a file", unknown, method=method, kind=hidden)


def _kinds(plain: type[ProblemRoute]) -> tuple[type[ProblemRoute], type[ProblemRoute]]:
    """Make the routes of one path that only meet links, and only those who say who they are."""
    base: Any = plain

    class Link(base):  # type: ignore[misc]
        """A request that claims to have a signed link: nobody asks it for anything else."""

        def matches(self, scope: Scope) -> Any:
            query: bytes = scope.get("query_string", b"")
            if not query or not links.is_link(query.decode("latin-1")):
                return Match.NONE, {}
            return super().matches(scope)

    class Credentials(base):  # type: ignore[misc]
        """A request of somebody who claims to be an admin."""

        def matches(self, scope: Scope) -> Any:
            if not any(name == b"authorization" for name, _ in scope.get("headers", ())):
                return Match.NONE, {}
            return super().matches(scope)

    return Link, Credentials
