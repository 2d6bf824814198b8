"""Notices mistakes about files: parts that FastAPI drops, bytes passed as an upload, rules that nobody goes by.

Two files sent in one field to an endpoint that takes one: FastAPI gives it the last and drops the others silently.
`add_task(process, file.file.read())` where `process` takes an upload: the task would fail after the answer.
A parameter of an endpoint that is our `File`: FastAPI would look for it in the query.
"""

import inspect
import logging
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from fastapi.dependencies.models import Dependant
from starlette.datastructures import UploadFile
from starlette.requests import Request

from afterwards._engine.files import NOT_A_FIELD, File
from afterwards._web.settings import declared_by
from afterwards.errors import WrongArguments

if typing.TYPE_CHECKING:
    from afterwards._web.injection import Route

log = logging.getLogger("afterwards")


def single_files(dependants: Sequence[Dependant]) -> frozenset[str]:
    """Return the names of the form fields of which an endpoint and its dependencies take one file."""
    fields = [field for one in dependants for field in one.body_params]
    return frozenset(field.alias for field in fields if _is_one_file(field.field_info.annotation))


def upload_fields(dependants: Sequence[Dependant]) -> frozenset[str]:
    """Return the names of the form fields in which an endpoint and its dependencies take uploads, one or several."""
    fields = [field for one in dependants for field in one.body_params]
    return frozenset(field.alias for field in fields if _takes_uploads(field.field_info.annotation))


def warn_of_dropped(request: Request, single: frozenset[str], told: set[str]) -> None:
    """Warn, once for each field, when a form that has been read held more files than the endpoint was given."""
    form = getattr(request, "_form", None)
    if form is None:
        return
    files = Counter(name for name, value in form.multi_items() if isinstance(value, UploadFile))
    for name in single - told:
        if files[name] > 1:
            told.add(name)
            path = getattr(request.scope.get("route"), "path", request.scope["path"])
            log.warning(
                "%s %s was sent %d files in the field %r and takes one, so FastAPI dropped all but the last. "
                "Declare the parameter as list[UploadFile] to be given all of them. Said once.",
                request.method,
                path,
                files[name],
                name,
            )


def refuse_stored_files(route: str, dependants: Sequence[Dependant]) -> None:
    """Refuse an endpoint that asks a request for one of our files, which FastAPI would look for in the query.

    Raises:
        TypeError: It does.
    """
    for one in dependants:
        for field in (*one.query_params, *one.body_params):
            if _names_stored_file(field.field_info.annotation):
                raise TypeError(
                    f"{route}: the parameter {field.name} is annotated as a File of afterwards, which no request can "
                    f"bring. For what a client sends, write `{field.name}: UploadFile`; {NOT_A_FIELD}"
                )


def warn_of_idle_rules(route: "Route") -> None:
    """Warn, once, when an endpoint with `@uploads` answers in an application where nobody goes by it."""
    if declared_by(route.endpoint) is not None and "@uploads" not in route.told:
        route.told.add("@uploads")
        log.warning(
            "%s: @uploads(...) decides nothing here, because the application has no Afterwards. Write "
            "`Afterwards(app)`, or start the program with `afterwards run`. Said once.",
            route.path,
        )


def refuse_bytes_for_uploads(
    function: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Refuse a call that passes bytes where the function's annotation says that it takes an upload.

    Raises:
        WrongArguments: It does.
    """
    positions, names = _uploads_of(function)
    if not names:
        return
    given = [(parameter, args[place]) for place, parameter in positions if place < len(args)]
    given += [(parameter, kwargs[parameter]) for parameter in names if parameter in kwargs]
    for parameter, value in given:
        if isinstance(value, bytes | bytearray):
            raise WrongArguments(
                function=name,
                problem=f"{parameter} is annotated as an UploadFile and was given {type(value).__name__}. Pass the "
                "upload itself; its bytes are kept for the task",
                parameters=", ".join(inspect.signature(function).parameters),
            )


@lru_cache(4096)
def _uploads_of(function: Callable[..., Any]) -> tuple[tuple[tuple[int, str], ...], tuple[str, ...]]:
    try:
        hints = typing.get_type_hints(inspect.unwrap(function))
        parameters = list(inspect.signature(function).parameters.values())
    except Exception:  # noqa: BLE001 - annotations are any code: without them there is nothing to say
        return (), ()
    wanted = [
        (place, parameter)
        for place, parameter in enumerate(parameters)
        if parameter.kind is not inspect.Parameter.VAR_POSITIONAL and _is_upload(hints.get(parameter.name))
    ]
    places = tuple((place, one.name) for place, one in wanted if one.kind is not inspect.Parameter.KEYWORD_ONLY)
    return places, tuple(one.name for _, one in wanted)


def _is_upload(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, UploadFile)


def _names_stored_file(annotation: object) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, File):
        return True
    return any(_names_stored_file(one) for one in typing.get_args(annotation))


def _takes_uploads(annotation: object) -> bool:
    return _is_upload(annotation) or any(_takes_uploads(one) for one in typing.get_args(annotation))


def _is_one_file(annotation: object) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(_is_one_file(one) for one in typing.get_args(annotation))
    return annotation is bytes or _is_upload(annotation)
