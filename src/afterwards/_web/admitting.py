"""Lets the requests of one installation in, by what its settings and an endpoint's `@uploads` say.

The order is who, how much, what: the dependencies that run before the body, the declared length against every limit
and the room there is, the declared type of a raw body. Then the bytes, which are judged as they come.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import params
from fastapi.dependencies.models import Dependant
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from afterwards._domain.limits import Limits
from afterwards._engine.ledger import Ledger
from afterwards._web.admission import Admission, clear_owner
from afterwards._web.bodies import content_length
from afterwards._web.early import Early, with_close
from afterwards._web.injection import Handler, Route
from afterwards._web.misuse import warn_of_dropped
from afterwards._web.receiving import Reception
from afterwards._web.refusing import REFUSALS, refused, stop_reading
from afterwards._web.settings import Uploads, declared_by
from afterwards.errors import UploadTooLarge

if TYPE_CHECKING:
    from afterwards._web.system import System


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds for the requests of one route."""

    limits: Limits
    early: Early | None  # None: its forms bring no files, so nothing is asked before them
    most: int | None  # files that its endpoint can take; None: as many as come
    declared: bool  # by `@uploads`, so that raw bodies are looked at too


class Admitting:
    """The door of one installation."""

    def __init__(self, settings: Uploads) -> None:
        self.settings = settings
        self.ledger: Ledger | None = None  # once the engine runs
        self._asks = settings.says_something
        self._rules: dict[Route, Rules] = {}

    def start(self, system: "System") -> None:
        """Begin to promise room, on the disk and in the database of a running installation."""
        self.ledger = Ledger(
            system.root,
            quota=self.settings.quota,
            reserve=self.settings.reserved,
            stored=system.store.stored,
        )

    def concerns(self, request: Request, route: Route, *, uses: bool) -> bool:
        """Tell whether a request brings files, or may.

        Args:
            request: The request.
            route: Its route.
            uses: Whether the route queues tasks: its forms are received by us in any case.
        """
        if declared_by(route.endpoint) is not None:
            return True
        if not (uses or self._asks) or not _is_form(request.scope):
            return False
        return uses or self.rules(route).early is not None

    def rules(self, route: Route) -> Rules:
        """Return what holds for a route."""
        found = self._rules.get(route)
        if found is None:
            found = self._rules[route] = self._find_rules(route)
        return found

    def _find_rules(self, route: Route) -> Rules:
        settings, said = self.settings, declared_by(route.endpoint)
        takes, most = files_of(route.dependants)
        early = None
        if said is not None or takes:
            before = settings.before if said is None else said.before(settings)
            early = Early(before, settings.owner, route.path)
        return Rules(
            limits=settings.limits if said is None else said.limits(settings),
            early=early,
            most=most,
            declared=said is not None,
        )

    def open(self, request: Request, route: Route) -> "Opened":
        """Begin with a request. What it is promised is let go when its handler and its commit are over."""
        opened = Opened(self, request, route)
        request.scope["fastapi_function_astack"].callback(opened.release)
        return opened

    async def owner(self, request: Request, route: Route) -> str | None:
        """Return whose a request is, without reading its body; None: nobody's.

        What the owner's dependency raises is raised.
        """
        early = Early([], self.settings.owner, route.path)
        return clear_owner(await early.run(request), _where(request))


class Opened:
    """One request on its way in."""

    def __init__(self, admitting: Admitting, request: Request, route: Route) -> None:
        self._admitting = admitting
        self._request = request
        self._route = route
        self.admission: Admission | None = None

    def release(self) -> None:
        """End what was promised."""
        if self.admission is not None:
            self.admission.release()

    async def admit(self) -> Admission:
        """Decide all that can be decided before the body.

        Raises:
            Refusal: It is refused. What early dependencies raise is raised.
        """
        request, rules = self._request, self._admitting.rules(self._route)
        owner = None
        if rules.early is not None:
            owner = await self._ask_early(rules.early)
        ledger = self._admitting.ledger
        assert ledger is not None
        self.admission = admission = Admission(rules.limits, ledger, owner)
        length = content_length(request.scope)
        if length is None and not _is_chunked(request.scope):
            length = 0
        form = _is_form(request.scope)
        kind = None if form or length == 0 else request.headers.get("content-type")
        await self._decide(lambda: admission.check_declared(length, form=form, most=rules.most, kind=kind))
        return admission

    async def _ask_early(self, early: Early) -> str | None:
        request = self._request
        try:
            return clear_owner(await early.run(request), _where(request))
        except HTTPException as error:
            stop_reading(request)
            raise with_close(error, request.scope) from error.__cause__
        except Exception:
            stop_reading(request)
            raise

    async def _decide(self, decision: Callable[[], object]) -> None:
        """Make a decision, on a thread where it may have to look into the database."""
        try:
            if self._admitting.settings.quota.asks:
                await asyncio.to_thread(decision)
            else:
                decision()
        except REFUSALS as error:
            raise refused(self._request, error) from error

    async def answer(self, handler: Handler, system: "System") -> Response:
        """Let the handler answer a request that has been admitted, watching what it reads."""
        request, route, admission = self._request, self._route, self.admission
        assert admission is not None
        if not _is_form(request.scope):
            request._receive = self._watched(request._receive, admission)
            return await handler(request)
        with Reception(system.staging, request, admission):
            response = await handler(request)
        warn_of_dropped(request, route.single_files(), route.told)
        return response

    def _watched(self, receive: Callable[[], Awaitable[Any]], admission: Admission) -> Callable[[], Awaitable[Any]]:
        """Return a `receive` that judges a raw body as it comes."""
        arriving = admission.opening(None, self._request.headers.get("content-type"))
        most = admission.limits.max_request
        received = 0

        def judge(body: bytes, more: bool) -> None:
            if most is not None and received > most:
                raise UploadTooLarge(
                    f"the request has more than {most:,} bytes, the most that are taken here (max_request). "
                    "Nothing of it has been kept. Send less."
                )
            if body:
                arriving.arrived(body)
            if not more:
                arriving.ended()
                admission.done()

        async def watched() -> Any:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                body, more = message.get("body", b""), message.get("more_body", False)
                received += len(body)
                if body or received:
                    await self._decide(lambda: judge(body, more))
            return message

        return watched


def files_of(dependants: Sequence[Dependant]) -> tuple[bool, int | None]:
    """Tell whether a route takes files, and how many at most; None: that is open.

    One that declares nothing of its body reads it itself, and may find files in it.
    """
    fields = [field for one in dependants for field in one.body_params]
    files = [field for field in fields if isinstance(field.field_info, params.File)]
    models = [field for field in fields if _has_fields(field.field_info.annotation)]
    lists = [field for field in files if _is_list(field.field_info.annotation)]
    if not fields or models or lists:
        return not fields or bool(files or models), None
    return bool(files), len(files)


def _has_fields(annotation: object) -> bool:
    return hasattr(annotation, "model_fields")


def _is_list(annotation: Any) -> bool:
    text = str(annotation).lower()
    return any(kind in text for kind in ("list[", "sequence[", "tuple[", "set[", "iterable["))


def _is_chunked(scope: Any) -> bool:
    """Tell whether a body of unknown length may come: over HTTP/2 that takes no header."""
    if str(scope.get("http_version", "1.1")).startswith("1"):
        return any(name == b"transfer-encoding" for name, _ in scope["headers"])
    return scope["method"] in ("POST", "PUT", "PATCH")


def _is_form(scope: Any) -> bool:
    for name, value in scope["headers"]:  # noqa: SIM110 - a generator would take twice the time
        if name == b"content-type" and b"multipart/" in value.lower():
            return True
    return False


def _where(request: Request) -> str:
    return f"{request.method} {request.url.path}"
