"""Writes values that only pydantic knows, and keeps what it wrote only if an equal value comes back.

Equal means in type too, all the way down: pydantic would bring back 1.0 for an `int` in a `float` field.
"""

import dataclasses
from collections.abc import Mapping, Set
from datetime import datetime, time
from typing import Any

import pydantic

from afterwards._domain.refusals import is_orm

_adapters: dict[type, pydantic.TypeAdapter[Any] | None] = {}


def adapter(annotation: Any) -> pydantic.TypeAdapter[Any] | None:
    """What pydantic makes of a type, or None where it makes nothing of it."""
    try:
        return pydantic.TypeAdapter(annotation)
    except Exception:  # noqa: BLE001 - schemas run code of the type's author: without one, the value is refused
        return None


def adapter_of(kind: type) -> pydantic.TypeAdapter[Any] | None:
    """The same for the class of a value; none for rows of a database session, which pydantic would half read."""
    if kind not in _adapters:
        _adapters[kind] = None if is_orm(kind) else adapter(kind)
    return _adapters[kind]


def adapted(adapter: pydantic.TypeAdapter[Any] | None, value: object) -> str | None:
    """The JSON text from which pydantic gives back an equal value of the same type, or None."""
    if adapter is None:
        return None
    try:
        # No warnings that a value does not match its field: the comparison finds out.
        text = adapter.dump_json(value, round_trip=True, warnings=False).decode()
        return text if _same(adapter.validate_json(text), value) else None
    except Exception:  # noqa: BLE001 - validators and __eq__ of the type's author: not brought back, so refused
        return None


def _same(one: Any, other: Any) -> bool:
    """Equal in value and type, all the way down: 1 is not True, and 1.0 is neither."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)  # so that NaN is the same as NaN, and 0.0 is not -0.0
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping):
        return _same(list(one), list(other)) and _same(list(one.values()), list(other.values()))
    if isinstance(one, Set):
        return {(type(item), item) for item in one} == {(type(item), item) for item in other}
    if isinstance(one, (datetime, time)):
        return one == other and one.fold == other.fold and _same(one.tzinfo, other.tzinfo)
    if isinstance(one, pydantic.BaseModel):
        return _same(vars(one), vars(other)) and bool(one == other)
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(_same(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other)
