"""What a program may decide about files coming in: `Uploads` for all of it, `@uploads` for one endpoint."""

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ParamSpec, TypeVar

from fastapi import Depends, params
from fastapi.dependencies.utils import get_parameterless_sub_dependant
from starlette.requests import Request

from afterwards._domain.environment import PREFIX
from afterwards._domain.limits import MAX_FILES, Limits, Mismatch, Quota, is_pattern
from afterwards._domain.sizes import parse_size
from afterwards.errors import SettingRefused

P = ParamSpec("P")
R = TypeVar("R")

ATTRIBUTE = "__afterwards_uploads__"  # on an endpoint: what `@uploads` said
_UNSET: Any = type("Unset", (), {"__repr__": lambda _: "(unset)", "__slots__": ()})()
_SIZES = frozenset({"max_file", "max_request", "max_owner", "max_total", "reserve"})
_COUNTS = frozenset({"max_files", "max_owner_files", "max_total_files"})
_TYPES = frozenset({"accept", "deny"})
_DEFAULTS: dict[str, Any] = {"max_files": MAX_FILES, "deny": (), "mismatch": "allow", "before": ()}
_OF_A_ROUTE = ("max_file", "max_request", "max_files", "accept", "deny", "mismatch", "before")

Scan = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """Everything that is decided about files coming in, by whichever way: `Afterwards(app, uploads=Uploads(...))`.

    Sizes are bytes or texts such as "512 MB" (millions of bytes) and "2 GiB" (1,073,741,824 of them). What is not given
    is taken from the environment (AFTERWARDS_MAX_FILE, AFTERWARDS_ACCEPT="image/*, application/pdf", ...), and else is
    not limited, but for `max_files` and `reserve`. Types are those that the files' bytes show.

    Args:
        max_file: The most bytes of each file.
        max_request: The most bytes of a request's body, with all its files and fields.
        max_files: The most files in one form. Default: 1,000.
        max_owner: The most bytes stored for one owner, tasks' and finished uploads' files together.
        max_owner_files: The most files stored for one owner.
        max_total: The most bytes stored altogether, what tasks have made included.
        max_total_files: The most files stored altogether.
        reserve: Bytes of the disk that uploads leave free, so that commits and running tasks can go on. Default:
            256 MiB, or a twentieth of a small disk. Of its inodes 1,000 or a twentieth are left.
        accept: The media types that are taken, `image/*` being all images; None takes every type.
        deny: The media types that are not.
        mismatch: "refuse" a file whose bytes contradict its name or the type its client declares, or "allow" it.
        owner: Whose limits an upload counts for: a `Depends(...)`, or a function of the request, that gives a text, or
            None for nobody. It also keeps the keys of different callers apart.
        before: Dependencies that run before one byte of the body is read, such as `[Depends(current_user)]`. What they
            raise is answered as FastAPI would. The endpoint may depend on them too: each runs once.
        allow: The `Depends(...)` that decides who may create uploads of their own; it raises, or returns False.
        scan: A function, `def` or `async def`, that is given each file before any task is: it returns True when the
            file is clean, False or a text that says what was found when it is not, None when it cannot tell yet.

    Raises:
        ValueError: A value means nothing; the message names it. SettingRefused: one of the environment's.
    """

    max_file: int | str | None = _UNSET
    max_request: int | str | None = _UNSET
    max_files: int = _UNSET
    max_owner: int | str | None = _UNSET
    max_owner_files: int | None = _UNSET
    max_total: int | str | None = _UNSET
    max_total_files: int | None = _UNSET
    reserve: int | str | None = _UNSET
    accept: Sequence[str] | None = _UNSET
    deny: Sequence[str] = _UNSET
    mismatch: Mismatch = _UNSET
    owner: Any = None
    before: Sequence[Any] = ()
    allow: Any = None
    scan: Scan | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            given, text, variable = getattr(self, field.name), "", f"{PREFIX}{field.name.upper()}"
            said = f"Uploads({field.name}={given!r})"
            if given is _UNSET:
                text = os.environ.get(variable, "").strip()
                given = _from_text(field.name, text) if text else _DEFAULTS.get(field.name)
            try:
                checked = _checked(field.name, given, said)
            except ValueError as error:
                if text:
                    problem = str(error).removeprefix(f"{said}: ")
                    raise SettingRefused(variable=variable, value=text, problem=problem) from None
                raise
            object.__setattr__(self, field.name, checked)

    @property
    def limits(self) -> Limits:
        """What holds for each request where its route says nothing else."""
        return _limits({name: getattr(self, name) for name in _OF_A_ROUTE})

    @property
    def quota(self) -> Quota:
        """What holds for all that is stored."""
        values: Any = self
        return Quota(
            max_owner=values.max_owner,
            max_owner_files=values.max_owner_files,
            max_total=values.max_total,
            max_total_files=values.max_total_files,
        )

    @property
    def reserved(self) -> int | None:
        """Bytes that uploads leave free; None: see `default_reserve`."""
        found: Any = self.reserve
        return found  # type: ignore[no-any-return]  # __post_init__ has made it a number

    def __str__(self) -> str:
        """Name every limit that is in force, for people."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        numbers = [
            f"{name} {value:,}" for name, value in said.items() if name in _SIZES | _COUNTS and value is not None
        ]
        types = [
            f"{name} {', '.join(said[name]) or 'nothing'}"
            for name in sorted(_TYPES)
            if said[name] != _DEFAULTS.get(name)
        ]
        return ", ".join([*numbers, *types, *(["mismatch refuse"] if said["mismatch"] == "refuse" else [])])

    @property
    def says_something(self) -> bool:
        """Tell whether anything but the defaults was asked for."""
        return any(getattr(self, field.name) != _DEFAULTS.get(field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class RouteUploads:
    """What one endpoint says; everything else is the installation's."""

    given: dict[str, Any]

    def limits(self, general: Uploads) -> Limits:
        """Return what holds for its requests."""
        return _limits({name: self.given.get(name, getattr(general, name)) for name in _OF_A_ROUTE})

    def before(self, general: Uploads) -> Sequence[Any]:
        """Return the dependencies that run before the body."""
        found: Sequence[Any] = self.given.get("before", general.before)
        return found


def uploads(
    *,
    max_file: int | str | None = _UNSET,
    max_request: int | str | None = _UNSET,
    max_files: int = _UNSET,
    accept: Sequence[str] | None = _UNSET,
    deny: Sequence[str] = _UNSET,
    mismatch: Mismatch = _UNSET,
    before: Sequence[Any] = _UNSET,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Say what one endpoint takes, forms and raw bodies alike; written between the route and the function.

        @app.post("/avatar")
        @uploads(max_file="5 MB", accept=["image/*"], before=[Depends(current_user)])
        async def avatar(file: UploadFile, background_tasks: BackgroundTasks): ...

    What is given takes the place of what `Uploads` says; the rest holds as it is. See `Uploads` for each.

    Raises:
        ValueError: A value means nothing; the message names it.
    """
    given = {
        "max_file": max_file,
        "max_request": max_request,
        "max_files": max_files,
        "accept": accept,
        "deny": deny,
        "mismatch": mismatch,
        "before": before,
    }
    said = RouteUploads(
        {
            name: _checked(name, value, f"@uploads({name}={value!r})")
            for name, value in given.items()
            if value is not _UNSET
        }
    )

    def decorate(endpoint: Callable[P, R]) -> Callable[P, R]:
        if not callable(endpoint):
            raise ValueError(f"@uploads(...) on {endpoint!r}: write it below the route, right above the function")
        setattr(endpoint, ATTRIBUTE, said)
        return endpoint

    return decorate


def declared_by(endpoint: object) -> RouteUploads | None:
    """Return what an endpoint says with `@uploads`."""
    found: RouteUploads | None = getattr(endpoint, ATTRIBUTE, None)
    return found


def _limits(values: dict[str, Any]) -> Limits:
    return Limits(**{name: value for name, value in values.items() if name != "before"})


def _from_text(name: str, text: str) -> Any:
    if name in _COUNTS:
        return int(text) if text.isdecimal() else text
    if name in _TYPES:
        return [one.strip() for one in text.split(",") if one.strip()]
    return int(text) if name in _SIZES and text.isdecimal() else text


def _checked(name: str, value: Any, said: str) -> Any:
    """Return a setting in the form it is used in, or say what is wrong with it."""
    if name in _SIZES and value is not None:
        try:
            return parse_size(value)
        except ValueError as error:
            raise ValueError(f"{said}: {error} are wanted here") from None
    if name in _COUNTS and (value is not None or name == "max_files"):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{said}: a whole number from 0 is wanted here")
    elif name in _TYPES and (value is not None or name == "deny"):
        return _types(value, said)
    elif name == "mismatch" and value not in ("allow", "refuse"):
        raise ValueError(f'{said}: "allow" or "refuse" is wanted here')
    elif name == "before":
        return _before(value, said)
    elif name == "owner" and value is not None:
        return _owner(value, said)
    elif name == "allow" and value is not None and not isinstance(value, params.Depends):
        raise ValueError(f"{said}: Depends(...) or Security(...) is wanted here")
    elif name == "scan" and value is not None and not callable(value):
        raise ValueError(f"{said}: a function that is given a file is wanted here")
    return value


def _types(value: Any, said: str) -> tuple[str, ...]:
    wanted = 'media types such as ["image/*", "application/pdf"] are wanted here'
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{said}: {wanted}")
    lowered = tuple(one.strip().lower() if isinstance(one, str) else one for one in value)
    for one in lowered:
        if not is_pattern(one):
            raise ValueError(f"{said}: {one!r} is no media type; {wanted}")
    return lowered


def _before(value: Any, said: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{said}: a list such as [Depends(current_user)] is wanted here")
    for one in value:
        _check_depends(one, said)
    return tuple(value)


def _owner(value: Any, said: str) -> Any:
    if not isinstance(value, params.Depends):
        if not callable(value):
            raise ValueError(f"{said}: Depends(...), or a function of the request, is wanted here")
        function = value

        async def ask(request: Request) -> Any:
            found = function(request)
            return await found if inspect.isawaitable(found) else found

        return Depends(ask)
    _check_depends(value, said)
    return value


def _check_depends(value: Any, said: str) -> None:
    if not isinstance(value, params.Depends) or value.dependency is None:
        raise ValueError(f"{said}: {value!r} is no Depends(...) or Security(...) with a function")
    waiting = [get_parameterless_sub_dependant(depends=value, path="/")]
    while waiting:
        one = waiting.pop()
        if one.body_params:
            taken = ", ".join(field.name for field in one.body_params)
            raise ValueError(
                f"{said}: {getattr(one.call, '__qualname__', one.call)} takes {taken} from the body, which has not "
                "been read then. Let it take headers, cookies, query or path parameters only."
            )
        waiting += one.dependencies
