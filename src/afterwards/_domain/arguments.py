"""Binds a call to its function's signature and writes its arguments as JSON text `[args, kwargs]`.

Binding happens when the task is added, while whoever called can still be told. The arguments are kept
as they were passed, so that a default that changes before the task runs takes effect. values.py
writes them by their runtime type; where it cannot, the parameter's annotation is tried.
What a function's signature says is found out once and kept: this runs in every request that queues.
"""

import functools
import inspect
import math
import re
import sys
import typing
from collections.abc import Callable
from inspect import Parameter
from typing import Any

import msgspec
import pydantic

from afterwards._domain.adapters import adapted, adapter
from afterwards._domain.files import FileValue
from afterwards._domain.refusals import Refused
from afterwards._domain.scalars import is_plain_text, write_text
from afterwards._domain.values import DAMAGE, Keep, Reader, Reopen, no_files, write
from afterwards.errors import DamagedArguments, UnstorableArgument, WrongArguments

Function = Callable[..., object]

_MOST_PLANS = 4096  # then forgotten and found out again: only programs that make functions get there
_plans: dict[Function, "_Plan"] = {}
_to_json = msgspec.json.Encoder().encode
_call_from_json = msgspec.json.Decoder(tuple[list[Any], dict[str, Any]]).decode
_tagged_call_from_json = msgspec.json.Decoder(tuple[list[Any], Any]).decode  # keyword names can need a tag
_SIMPLE = frozenset({str, int, bool, type(None)})
_FILE_TAG = re.compile(r'(?<!\\)"\$(?:file|stored|bytes-file|bytearray-file)":"([^"\\]+)"')
_UPLOAD = "starlette.datastructures.UploadFile"  # by name: `_domain` does not know the web framework


def encode(function: Function, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], keep: Keep) -> str:
    """The arguments of `function(*args, **kwargs)` as JSON text.

    Args:
        function: What will be called.
        name: How messages call it.
        args: The positional arguments.
        kwargs: The keyword arguments.
        keep: Called with each value of unknown type and with bytes longer than INLINE_BYTES, wherever they
            are inside the arguments. Answers with the id of the file that the value has become, or None.

    Raises:
        WrongArguments: They do not fit the signature.
        UnstorableArgument: One of them would not come back equal in value and type.
    """
    plan = _plan_of(function)
    if not plan.fits(args, kwargs) and (problem := plan.problem(args, kwargs)) is not None:
        raise WrongArguments(function=name, problem=problem, parameters=plan.shown())
    if _are_simple(args) and _are_simple(kwargs.values()) and not (plan.takes_any_name and _need_tags(kwargs)):
        try:
            return _to_json((args, kwargs)).decode()
        except (OverflowError, ValueError):
            pass  # an integer beyond 64 bits or 4,300 digits, or text with lone surrogates: written with a tag below
    return _Call(plan, name, keep).write(args, kwargs)


def decode(
    function: Function, name: str, text: str, reopen: Reopen, stored: Reopen = no_files
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that `encode` wrote, uploads given back by `reopen`, files by `stored`, whose errors pass through.

    Raises:
        DamagedArguments: The text is damaged, a class or the signature has changed so that it no longer fits.
    """
    plan = _plan_of(function)
    try:
        if '"$' not in text:
            args, kwargs = _call_from_json(text)
        else:
            reader = Reader(reopen, plan.adapter, stored=stored)
            written_args, written_kwargs = _tagged_call_from_json(text)
            args, kwargs = reader.read(written_args), reader.read(written_kwargs)
    except DAMAGE as damage:
        raise DamagedArguments(what=f"the stored arguments of {name}", reason=str(damage)) from damage
    if not plan.fits(args, kwargs) and (problem := plan.problem(args, kwargs)) is not None:
        reason = f"they no longer fit {name}({plan.shown()}): {problem}"
        raise DamagedArguments(what=f"the stored arguments of {name}", reason=reason)
    return args, kwargs


def files_in(text: str) -> list[str]:
    """Return the ids of the files that written arguments name, without building anything.

    Quotes inside of a text are escaped, so nothing that a client sent looks like a tag.
    """
    return _FILE_TAG.findall(text) if '"$' in text else []


def _need_tags(names: typing.Iterable[str]) -> bool:
    return any(name[:1] == "$" or not is_plain_text(name) for name in names)


def _are_simple(values: typing.Iterable[Any]) -> bool:
    """Whether JSON holds the values as they are, but for the size of integers and broken text."""
    for value in values:
        kind = type(value)
        if kind not in _SIMPLE and not (kind is float and math.isfinite(value)):
            return False
    return True


def _plan_of(function: Function) -> "_Plan":
    try:
        return _plans[function]
    except KeyError:
        plan = _Plan(function)
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        _plans[function] = plan
        return plan
    except TypeError:  # a callable that cannot be hashed
        return _Plan(function)


class _Plan:
    """What a function's signature says."""

    def __init__(self, function: Function) -> None:
        self._function = function
        # As it is called: a decorator's wrapper may pass on more than it takes, or less.
        self._signature = _signature_of(function, follow_wrapped=False)
        # As it was written: there are the names and annotations that people know.
        self._written = _signature_of(function, follow_wrapped=True)
        self._hints: dict[str, Any] | None = None
        self._adapters: dict[str, pydantic.TypeAdapter[Any] | None] = {}
        parameters = list(self._signature.parameters.values()) if self._signature is not None else []
        positional = [p for p in parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
        by_name = [p for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
        required = {p.name for p in positional + by_name if p.default is Parameter.empty}
        kinds = {p.kind for p in parameters}
        self.takes_any_name = Parameter.VAR_KEYWORD in kinds
        self._is_plain = self._signature is not None and Parameter.POSITIONAL_ONLY not in kinds
        self._most = sys.maxsize if Parameter.VAR_POSITIONAL in kinds else len(positional)
        self._elsewhere = sys.maxsize if self.takes_any_name else -1
        self._places = {p.name: place for place, p in enumerate(positional)} | {p.name: sys.maxsize for p in by_name}
        self._required = [(name, place) for name, place in self._places.items() if name in required]
        self._least = 1 + max((place for _, place in self._required), default=-1)

    def fits(self, args: typing.Sequence[object], kwargs: dict[str, Any]) -> bool:
        """Whether the call plainly fits. If not, `problem` looks more closely, fifty times as long."""
        given = len(args)
        if given > self._most or not self._is_plain:
            return False
        if not kwargs:
            return given >= self._least
        for name in kwargs:
            if self._places.get(name, self._elsewhere) < given:
                return False
        for name, place in self._required:  # noqa: SIM110 - a generator would take twice the time
            if place >= given and name not in kwargs:
                return False
        return True

    def problem(self, args: typing.Sequence[object], kwargs: dict[str, Any]) -> str | None:
        """What does not fit, in words, or None if the call fits."""
        if self._signature is None:
            return None  # a builtin that does not tell: calling it will
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            if len(args) > self._most and "too many positional" in str(error):
                return f"too many positional arguments, {len(args)} instead of at most {self._most}"
            return str(error)
        return None

    def shown(self) -> str:
        """The names of the parameters, without annotations and defaults, which may be long."""
        marks: dict[object, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}
        parameters = self._signature.parameters.values() if self._signature is not None else ()
        return ", ".join(f"{marks.get(p.kind, '')}{p.name}" for p in parameters)

    def parameter_at(self, place: int) -> tuple[str, str]:
        """The parameter that takes a positional argument, and how a message names the argument."""
        taken = 0
        for parameter in self._parameters():
            if parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD):
                if taken == place:
                    return parameter.name, parameter.name
                taken += 1
            elif parameter.kind is Parameter.VAR_POSITIONAL:
                return parameter.name, f"{parameter.name}[{place - taken}]"
        return "", f"number {place + 1}"

    def parameter_named(self, name: str) -> tuple[str, str]:
        """The parameter that takes a keyword argument, and how a message names the argument."""
        parameters = {parameter.name: parameter for parameter in self._parameters()}
        if name in parameters and parameters[name].kind is not Parameter.POSITIONAL_ONLY:
            return name, name
        rest = [p.name for p in parameters.values() if p.kind is Parameter.VAR_KEYWORD]
        return (rest[0] if rest else ""), name

    def adapter(self, parameter: str) -> pydantic.TypeAdapter[Any] | None:
        """What pydantic makes of a parameter's annotation."""
        if parameter not in self._adapters:
            hints = self._annotations()
            self._adapters[parameter] = adapter(hints[parameter]) if parameter in hints else None
        return self._adapters[parameter]

    def wanted(self, parameter: str) -> str | None:
        """How files are given to a parameter: as its annotation says, None where it names neither view or both."""
        views = set(_views(self._annotations().get(parameter)))
        return views.pop() if len(views) == 1 else None

    def _annotations(self) -> dict[str, Any]:
        if self._hints is None:
            self._hints = _hints_of(self._function)
        return self._hints

    def _parameters(self) -> list[Parameter]:
        signature = self._written or self._signature
        return list(signature.parameters.values()) if signature is not None else []


class _Call:
    """One call that is written value by value."""

    def __init__(self, plan: _Plan, name: str, keep: Keep) -> None:
        self._plan, self._name, self._keep = plan, name, keep

    def write(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        written_args = [self._argument(value, *self._plan.parameter_at(place)) for place, value in enumerate(args)]
        written_kwargs = {
            name: self._argument(value, *self._plan.parameter_named(name)) for name, value in kwargs.items()
        }
        if not _need_tags(kwargs):
            return _to_json((written_args, written_kwargs)).decode()
        pairs = [(write_text(name), value) for name, value in written_kwargs.items()]
        return _to_json((written_args, {"$dict": pairs})).decode()

    def _argument(self, value: object, parameter: str, shown: str) -> object:
        try:
            return write(value, self._keep, functools.partial(self._plan.wanted, parameter))
        except Refused as refused:
            if not refused.hopeless and (text := adapted(self._plan.adapter(parameter), value)) is not None:
                return {"$annotated": [parameter, text]}
            raise UnstorableArgument(
                function=self._name,
                argument=shown + "".join(refused.path),
                type=refused.kind,
                reason=refused.reason,
                remedy=refused.remedy,
            ) from refused.__cause__


def _signature_of(function: Function, *, follow_wrapped: bool) -> inspect.Signature | None:
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 14):  # names that exist only for type checkers are no obstacle there
        from annotationlib import Format

        options["annotation_format"] = Format.FORWARDREF
    try:
        return inspect.signature(function, follow_wrapped=follow_wrapped, **options)
    except (ValueError, TypeError):
        return None  # some builtins have none


def _views(annotation: Any) -> typing.Iterator[str]:
    """The views of files that an annotation names, at any depth: "$stored" for ours, "$file" for uploads."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        if issubclass(annotation, FileValue):
            yield "$stored"
        elif any(f"{one.__module__}.{one.__qualname__}" == _UPLOAD for one in annotation.__mro__):
            yield "$file"
    for part in typing.get_args(annotation):
        yield from _views(part)


def _hints_of(function: Function) -> dict[str, Any]:
    """The annotations as types; none where one of them names what only type checkers see."""
    target: Any = inspect.unwrap(function)
    if isinstance(target, type):
        target = vars(target).get("__init__")
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are any code: without them the value's own type decides
        return {}
