"""Writes instances of named classes field by field, by what each field holds now.

Pydantic models, dataclasses, msgspec structs, named tuples and enum members. A field is written by the
value in it and not by its annotation, because equal is not enough: pydantic would bring back 1.0 for
an `int` in a `float` field and an offset for a time zone. Nothing is validated or run on the way back,
so what the program could build comes back as it was; a field that was added since gets its default.
A class is stored by the name under which a restart imports it, and only if that leads back to it.
"""

import dataclasses
import functools
import operator
import types
import typing
from collections.abc import Callable
from enum import Enum, Flag
from typing import Any, Protocol

import msgspec
import pydantic

from afterwards._domain.functions import class_name, resolve_class
from afterwards._domain.refusals import Refused, is_orm, shown
from afterwards._domain.scalars import is_plain_text, read_text, write_integer, write_text


class Writer(Protocol):
    """What writes the values inside a record."""

    def write(self, value: object, depth: int) -> object: ...


class Reader(Protocol):
    """What reads the values inside a record."""

    def read(self, written: object) -> Any: ...


Write = Callable[[Writer, Any, int], object]


def writer_for(cls: type) -> Write | None:
    """How to write instances of a class, or None where it is none of the kinds above. Raises Refused."""
    if is_orm(cls):
        return None
    if issubclass(cls, Enum):
        return _enum_writer(cls)
    if issubclass(cls, pydantic.BaseModel):
        return _model_writer(cls)
    if issubclass(cls, msgspec.Struct):
        return _struct_writer(cls)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _namedtuple_writer(cls)
    if dataclasses.is_dataclass(cls) and _is_bare(cls):
        return _dataclass_writer(cls)
    return None


def _is_bare(cls: type) -> bool:
    """Whether the fields are all there is to an instance: nothing of a list, an exception or a C type below."""
    try:
        object.__new__(cls)
    except TypeError:
        return False
    return True


def class_ref(cls: Any) -> object:
    """A class as JSON: its name, or [name, [parameters]] for a generic model such as Page[Item]."""
    ref = _type_ref(cls)
    if ref is None or read_class(ref) is not cls:
        raise Refused(
            shown(cls),
            "and a restart could not import its class: it was made inside a function or in __main__, or its name "
            "leads to another class now",
            "Define the class at the top of a module.",
        )
    return ref


def _type_ref(cls: Any) -> object:
    if cls is types.NoneType:
        return "None"
    generic = getattr(cls, "__pydantic_generic_metadata__", None) or {}
    origin, parameters = generic.get("origin"), generic.get("args", ())
    if (origin is None and not isinstance(cls, type)) or isinstance(cls, types.GenericAlias):
        origin, parameters = typing.get_origin(cls), typing.get_args(cls)
    if origin is None:
        return class_name(cls) if isinstance(cls, type) else None
    parts = [_type_ref(parameter) for parameter in parameters]
    head = "|" if origin in (typing.Union, types.UnionType) else _type_ref(origin)
    return None if head is None or None in parts else [head, parts]


def read_class(ref: Any) -> Any:
    """The class that `class_ref` wrote down. Raises UnknownFunction, or ValueError where it is no such thing."""
    match ref:
        case "None":
            return None.__class__
        case str(name):
            return resolve_class(name)
        case ["|", list(parts)]:
            return functools.reduce(operator.or_, (read_class(part) for part in parts))
        case [origin, list(parts)]:
            return read_class(origin)[tuple(read_class(part) for part in parts)]
    raise ValueError("a class of unknown form")


def _read_kind(ref: Any, kind: type) -> Any:
    """A class of one kind: a stored name never reaches a class that is built in another way."""
    cls = read_class(ref)
    if not (isinstance(cls, type) and issubclass(cls, kind)):
        raise ValueError(f"{ref} is no longer a {kind.__name__}")
    return cls


def _fields(writer: Writer, values: dict[str, Any], depth: int) -> dict[str, object]:
    written = {}
    for name, value in values.items():
        try:
            written[name] = writer.write(value, depth + 1)
        except Refused as refused:
            raise refused.at(f".{name}") from refused.__cause__
    return written


def _read_fields(reader: Reader, fields: dict[str, object]) -> dict[str, Any]:
    return {name: reader.read(value) for name, value in fields.items()}


def _refuse_unset(cls: type, missing: set[str]) -> None:
    if missing:
        raise Refused(shown(cls), f"and its {', '.join(sorted(missing))} was never set", "Set every field first.")


def _require(cls: type, known: Any, given: Any) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"{cls.__qualname__} no longer has the field {', '.join(unknown)}")


# Enum members: by name, with the value where JSON has it, for people; combinations of flags: by number.
def _enum_writer(cls: type[Enum]) -> Write:
    ref, is_flag = class_ref(cls), issubclass(cls, Flag)
    members = {id(member) for member in cls.__members__.values()}

    def write(writer: Writer, value: Any, depth: int) -> object:
        if is_flag:
            return {"$flag": [ref, write_integer(value._value_)]}
        if id(value) not in members or not is_plain_text(value._name_):
            raise Refused(shown(cls), "and its class has no member of this name", "Pass the value instead.")
        return {"$enum": [ref, value._name_, value._value_ if _is_json(value._value_) else value._name_]}

    return write


def _is_json(value: object) -> bool:
    if type(value) is str:
        return is_plain_text(value)
    return type(value) is bool or (type(value) is int and write_integer(value) is value)


def read_enum(reader: Reader, payload: Any) -> Any:
    """A member of an enum."""
    ref, name, _ = payload
    return _read_kind(ref, Enum)[name]


def read_flag(reader: Reader, payload: Any) -> Any:
    """A flag or a combination of flags."""
    ref, number = payload
    return _read_kind(ref, Flag)(reader.read(number))


def _namedtuple_writer(cls: type) -> Write:
    ref, names = class_ref(cls), cls._fields  # type: ignore[attr-defined]

    def write(writer: Writer, value: Any, depth: int) -> object:
        return {"$namedtuple": [ref, _fields(writer, dict(zip(names, value, strict=True)), depth)]}

    return write


def read_namedtuple(reader: Reader, payload: Any) -> Any:
    """A named tuple, its fields in the order that the class has now."""
    ref, fields = payload
    cls = _read_kind(ref, tuple)
    values = getattr(cls, "_field_defaults", {}) | _read_fields(reader, fields)
    _require(cls, cls._fields, fields)
    return tuple.__new__(cls, [values[name] for name in cls._fields])


def _struct_writer(cls: type[msgspec.Struct]) -> Write:
    ref, names = class_ref(cls), cls.__struct_fields__

    def write(writer: Writer, value: Any, depth: int) -> object:
        return {"$struct": [ref, _fields(writer, {name: getattr(value, name) for name in names}, depth)]}

    return write


def read_struct(reader: Reader, payload: Any) -> Any:
    """A msgspec struct."""
    ref, fields = payload
    cls = _read_kind(ref, msgspec.Struct)
    values = _read_fields(reader, fields)
    struct = cls(**values)
    for name, value in values.items():  # whatever __post_init__ made of them
        msgspec.structs.force_setattr(struct, name, value)
    return struct


def _dataclass_writer(cls: type) -> Write:
    ref = class_ref(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    needed = {field.name for field in dataclasses.fields(cls) if field.init}
    cached = {name for name in dir(cls) if isinstance(getattr(cls, name, None), functools.cached_property)}

    def write(writer: Writer, value: Any, depth: int) -> object:
        values = {name: getattr(value, name) for name in names if hasattr(value, name)}
        if len(values) < len(names):
            _refuse_unset(cls, needed - values.keys())
        payload = [ref, _fields(writer, values, depth)]
        added = {
            name: attribute
            for name, attribute in getattr(value, "__dict__", {}).items()
            if name not in values and name not in cached
        }
        if added:  # by __post_init__, or later
            payload.append(_fields(writer, added, depth))
        return {"$dataclass": payload}

    return write


def read_dataclass(reader: Reader, payload: Any) -> Any:
    """A dataclass, frozen or not, with slots or not."""
    ref, fields, *added = payload
    cls = _read_kind(ref, object)
    if "__dataclass_fields__" not in dir(cls):
        raise ValueError(f"{ref} is no longer a dataclass")
    _require(cls, {field.name for field in dataclasses.fields(cls)}, fields)
    values = _read_fields(reader, fields)
    for attributes in added:
        values |= _read_fields(reader, attributes)
    instance = object.__new__(cls)
    for field in dataclasses.fields(cls):
        if field.name in values:
            continue
        if field.default is not dataclasses.MISSING:
            values[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = field.default_factory()
        elif field.init:
            raise ValueError(f"{cls.__qualname__} now needs the field {field.name}")
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    return instance


def _model_writer(cls: type[pydantic.BaseModel]) -> Write:
    ref = class_ref(cls)
    names = cls.model_fields.keys()

    def write(writer: Writer, value: Any, depth: int) -> object:
        state = vars(value)
        if not state.keys() >= names:
            _refuse_unset(cls, names - state.keys())
        fields = _fields(writer, {name: state[name] for name in names}, depth)
        was_set = value.__pydantic_fields_set__
        extra = value.__pydantic_extra__
        private = value.__pydantic_private__
        payload = [ref, fields, None if was_set == fields.keys() else [write_text(name) for name in sorted(was_set)]]
        if extra or private:
            payload += [
                None if extra is None else writer.write(extra, depth + 1),
                None if private is None else _fields(writer, private, depth),
            ]
        return {"$model": payload}

    return write


def read_model(reader: Reader, payload: Any) -> Any:
    """A pydantic model, with the record of which fields were set, its extra fields and private attributes."""
    ref, fields, was_set, *rest = payload
    cls = _read_kind(ref, pydantic.BaseModel)
    values = _read_fields(reader, fields)
    _require(cls, cls.model_fields, fields)
    for name, field in cls.model_fields.items():
        if name not in values:
            if field.is_required():
                raise ValueError(f"{cls.__qualname__} now needs the field {name}")
            values[name] = field.get_default(call_default_factory=True, validated_data=values)
    extra, private = rest or (None, None)
    model = cls.__new__(cls)
    if extra is None and cls.model_config.get("extra") == "allow":
        extra = {}
    if private is None and cls.__private_attributes__:
        private = {}
    object.__setattr__(model, "__dict__", values)
    object.__setattr__(model, "__pydantic_fields_set__", set(fields if was_set is None else map(read_text, was_set)))
    if not cls.__pydantic_root_model__:  # which has no place for extra fields, nor for private ones until it needs it
        object.__setattr__(model, "__pydantic_extra__", None if extra is None else reader.read(extra))
    if private is not None or not cls.__pydantic_root_model__:
        object.__setattr__(model, "__pydantic_private__", None if private is None else _read_fields(reader, private))
    return model
