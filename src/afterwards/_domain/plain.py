"""Turns stored values into plain JSON for people and for HTTP, without importing or building any class."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pydantic_core

from afterwards._domain.scalars import SCALARS, plain_integer, plain_text


def plain(written: Any) -> Any:
    """A written value for people. Raises what damaged text leads to: LookupError, TypeError, ValueError."""
    if type(written) is dict:
        if len(written) == 1:
            (tag,) = written
            if tag[:1] == "$":
                return _plains[tag](written[tag])
        return _plain_object(written)
    if type(written) is list:
        return [plain(item) for item in written]
    return written


def placed(written: Any, files: Mapping[str, dict[str, Any]]) -> Any:
    """A written value with what people are shown of each stored file in its place."""
    if type(written) is dict:
        if len(written) == 1 and (file := files.get(written.get("$stored", ""))) is not None:
            return file
        return {key: placed(item, files) for key, item in written.items()}
    if type(written) is list:
        return [placed(item, files) for item in written]
    return written


def _plain_object(written: dict[str, Any]) -> dict[str, object]:
    return {key: plain(item) for key, item in written.items()}


def _plain_dict(pairs: list[Any]) -> object:
    """An object where the keys stay apart as text, else the list of pairs."""
    shown = [(plain(key), plain(item)) for key, item in pairs]
    named = {key if isinstance(key, str) else msgspec.json.encode(key).decode(): item for key, item in shown}
    return named if len(named) == len(shown) else [list(pair) for pair in shown]


def _plain_model(payload: Any) -> object:
    _, fields, _, *rest = payload
    if list(fields) == ["root"]:
        return plain(fields["root"])
    extra = rest[0] if rest and rest[0] is not None else {}
    return _plain_object(fields) | plain(extra)


def _plain_foreign(value: Any) -> object:
    """JSON that pydantic wrote, where `$` means nothing, with the numbers that not every reader can take as text."""
    if isinstance(value, dict):
        return {key: _plain_foreign(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_foreign(item) for item in value]
    if type(value) is float:
        return value if math.isfinite(value) else str(value)
    return plain_integer(value) if type(value) is int else value


_plains: dict[str, Callable[[Any], Any]] = {
    "$str": lambda payload: plain_text({"$str": payload}),
    "$int": lambda payload: plain_integer({"$int": payload}),
    "$float": lambda payload: payload,
    "$dict": _plain_dict,
    "$tuple": plain,
    "$deque": lambda payload: plain(payload[0]),
    "$defaultdict": lambda payload: plain(payload[0]),
    "$OrderedDict": plain,
    "$Counter": plain,
    "$set": plain,
    "$frozenset": plain,
    "$enum": lambda payload: payload[2],
    "$flag": lambda payload: plain(payload[1]),
    "$namedtuple": lambda payload: _plain_object(payload[1]),
    "$dataclass": lambda payload: _plain_object(payload[1]),
    "$struct": lambda payload: _plain_object(payload[1]),
    "$model": _plain_model,
    "$file": lambda payload: {"file": payload},
    "$stored": lambda payload: {"file": payload},
    "$bytes-file": lambda payload: {"file": payload},
    "$bytearray-file": lambda payload: {"file": payload},
    "$adapted": lambda payload: _plain_foreign(pydantic_core.from_json(payload[1])),
    "$annotated": lambda payload: _plain_foreign(pydantic_core.from_json(payload[1])),
} | {scalar.tag: scalar.plain for scalar in SCALARS}
