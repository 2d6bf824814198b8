"""Writes a value as JSON text from which an equal value of the same type is read back.

A value is taken by its exact runtime type. What JSON has no form for is an object with one key that
begins with `$`: scalars.py has the tags of plain values, records.py those of classes, this module
those of containers, of files that the caller's `keep` takes over or finds stored, and of values that only pydantic
knows, kept if a round trip gives back an equal one. Everything else is refused, as are cycles. Two
places that hold one list hold two equal lists afterwards. No stored name is called, only classes of
these kinds are built.
"""

import base64
import functools
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import PosixPath
from typing import Any

import msgspec
import pydantic

from afterwards._domain import records
from afterwards._domain.adapters import adapted, adapter_of
from afterwards._domain.files import FileValue
from afterwards._domain.plain import placed, plain
from afterwards._domain.refusals import Refused, hopeless, unknown
from afterwards._domain.scalars import (
    SCALARS,
    Scalar,
    is_plain_text,
    read_float,
    read_integer,
    read_text,
    write_float,
    write_integer,
    write_text,
)
from afterwards.errors import DamagedArguments, UnknownFunction, UnstorableResult

INLINE_BYTES = 65_536  # longer bytes become a file of their own where the caller keeps files
MAX_DEPTH = 100  # far more than people nest, far less than Python's recursion limit

# What reading can meet in text that is damaged, or whose classes have changed since.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    UnknownFunction,
    ValueError,
    msgspec.DecodeError,
)

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode

Keep = Callable[[object], str | None]
Reopen = Callable[[str], Any]
_Write = Callable[["Writer", Any, int], object]


def _keep_nothing(value: object) -> None:
    return None


def no_files(file: str) -> Any:
    raise ValueError(f"it refers to the file {file}, and there are no files here")


def _as_stored() -> str:
    return "$stored"


def encode_result(value: object, name: str, keep: Keep = _keep_nothing) -> str:
    """What a task returned, as JSON text.

    Args:
        value: The result.
        name: How messages call the task's function.
        keep: Called with each file and path in the result, and with each value of unknown type. Answers with the id
            of the stored file that it is or becomes, or None.

    Raises:
        UnstorableResult: It would not come back equal. The message names the place in it.
    """
    try:
        return bytes(write(value, keep, _as_stored)).decode()
    except Refused as refused:
        raise UnstorableResult(
            function=name,
            path="".join(refused.path),
            type=refused.kind,
            reason=refused.reason,
            remedy="Return what stays when the process ends: plain values, a pydantic model, a file, an id.",
        ) from refused.__cause__


def decode_result(text: str, stored: Reopen = no_files) -> object:
    """What `encode_result` wrote, each file given back by `stored`. Raises DamagedArguments."""
    try:
        written = _from_json(text)
        return written if '"$' not in text else Reader(no_files, stored=stored).read(written)
    except DAMAGE as damage:
        raise DamagedArguments(what="the stored result", reason=str(damage)) from damage


def to_plain(text: str, files: Mapping[str, dict[str, Any]] | None = None) -> object:
    """Stored arguments or a stored result as plain JSON, for people and for HTTP; no class is imported.

    Bytes are base64 text or their number, times ISO 8601, enum members their value, models and other
    records objects, files what `files` has for their id, else `{"file": id}`; numbers beyond 64 bits and
    beyond JSON are text.
    """
    try:
        written = _from_json(text)
        if files and '"$stored"' in text:
            written = placed(written, files)
        return written if '"$' not in text else plain(written)
    except DAMAGE as damage:
        raise DamagedArguments(what="a stored value", reason=str(damage)) from damage


def single_file(text: str) -> str | None:
    """The id of the file that a stored result is; None when it is anything else."""
    if not text.startswith('{"$stored":'):
        return None
    found: str = _from_json(text)["$stored"]
    return found


def write(value: object, keep: Keep, wanted: Callable[[], str | None] = lambda: None) -> msgspec.Raw:
    """A value as JSON, files in it as its place wants them (see `Writer`). Raises Refused."""
    try:
        return msgspec.Raw(_to_json(Writer(keep, wanted).write(value, 0)))
    except RecursionError:
        raise _unending("nested deeper than Python can follow from here") from None


def _unending(reason: str) -> Refused:
    refused = Refused("nested data", reason, "Pass it flat, with ids that link the parts, or save it to a file.")
    refused.hopeless = refused.whole = True  # a path of a hundred pieces would say nothing
    return refused


class Writer:
    """Turns values into what JSON can hold. `keep` takes files over and answers with their id.

    A stored file and an upload are two views of one thing: `wanted` says which of them whoever reads the value expects,
    "$stored" or "$file"; None takes what was given.
    """

    __slots__ = ("_keep", "_open", "wanted")

    def __init__(self, keep: Keep, wanted: Callable[[], str | None]) -> None:
        self._keep = keep
        self.wanted = wanted
        self._open: list[object] = []  # the containers around the value being written, outermost first

    def write(self, value: Any, depth: int) -> object:
        """The value in JSON terms. Raises Refused."""
        kind = type(value)
        if kind is str:
            return value if value.isascii() else write_text(value)
        if kind is int:
            return write_integer(value)
        if value is None or kind is bool:
            return value
        if kind is float:
            return write_float(value)
        write = _writers.get(kind)
        if write is None:
            write = _learn(kind)
        if depth >= MAX_DEPTH:
            raise self._too_deep()
        self._open.append(value)
        try:
            return write(self, value, depth)
        finally:
            self._open.pop()

    def keep(self, value: object) -> str | None:
        """The id of the file that `value` has become, if the caller takes it over."""
        return self._keep(value)

    def _too_deep(self) -> Refused:
        seen = {id(value) for value in self._open}
        return _unending("which contains itself" if len(seen) < len(self._open) else f"more than {MAX_DEPTH} deep")


def _items(writer: Writer, values: Any, depth: int) -> list[object]:
    written: list[object] = []
    try:
        for value in values:
            written.append(writer.write(value, depth + 1))
    except Refused as refused:
        raise refused.at(f"[{len(written)}]") from refused.__cause__
    return written


def _write_dict(writer: Writer, value: dict[Any, Any], depth: int) -> object:
    plain = all(type(key) is str and key[:1] != "$" and is_plain_text(key) for key in value)
    pairs = []
    for key, item in value.items():
        try:
            pairs.append((key if plain else writer.write(key, depth + 1), writer.write(item, depth + 1)))
        except Refused as refused:
            raise refused.at(_subscript(key)) from refused.__cause__
    return dict(pairs) if plain else {"$dict": pairs}


def _subscript(key: object) -> str:
    if type(key) in (str, int, bool, type(None)) and len(str(key)) <= 40:
        return f"[{key!r}]"
    return f"[a key of type {type(key).__name__}]"


def _write_set(tag: str, writer: Writer, value: Any, depth: int) -> object:
    try:
        return {tag: _items(writer, value, depth)}
    except Refused as refused:
        refused.path[:1] = [" (one of its elements)"]  # a set has no order to count in
        raise


def _write_deque(writer: Writer, value: deque[Any], depth: int) -> object:
    return {"$deque": [_items(writer, value, depth), value.maxlen]}


def _write_defaultdict(writer: Writer, value: defaultdict[Any, Any], depth: int) -> object:
    factory = None if value.default_factory is None else records.class_ref(value.default_factory)
    return {"$defaultdict": [_write_dict(writer, value, depth), factory]}


def _read_defaultdict(reader: "Reader", payload: Any) -> object:
    items, factory = payload
    return defaultdict(None if factory is None else records.read_class(factory), reader.read(items))


def _write_bytes(tag: str, writer: Writer, value: bytes | bytearray, depth: int) -> object:
    if len(value) > INLINE_BYTES and (file := writer.keep(value)) is not None:
        return {f"{tag}-file": file}
    return {tag: base64.b64encode(value).decode("ascii")}


def _learn(kind: type) -> _Write:
    """How to write values of a type met for the first time; remembered where it is certain."""
    if issubclass(kind, FileValue):
        _writers[kind] = _write_stored
        return _write_stored
    write = records.writer_for(kind)
    if write is None:
        return _write_other
    _writers[kind] = write = functools.partial(_write_record, write)
    return write


def _write_record(write: _Write, writer: Writer, value: Any, depth: int) -> object:
    """Field by field, or as a whole by pydantic where a field is of a type that only the class can write."""
    try:
        return write(writer, value, depth)
    except Refused as refused:
        if refused.hopeless or (text := adapted(adapter_of(type(value)), value)) is None:
            raise
        return {"$adapted": [records.class_ref(type(value)), text]}


def _write_stored(writer: Writer, value: FileValue, depth: int) -> object:
    file = writer.keep(value)
    if file is None:
        raise Refused("a stored file", "and nothing here takes files", "Pass its id.", hopeless=True)
    return {writer.wanted() or "$stored": file}


def _write_path(writer: Writer, value: PosixPath, depth: int) -> object:
    file = writer.keep(value)
    return {"$stored": file} if file is not None else {_PATH.tag: _PATH.write(value)}


def _write_other(writer: Writer, value: Any, depth: int) -> object:
    kind = type(value)
    if (file := writer.keep(value)) is not None:
        return {writer.wanted() or "$file": file}
    if (refused := hopeless(value)) is not None:
        raise refused
    if (text := adapted(adapter_of(kind), value)) is not None and (ref := _ref(kind)) is not None:
        return {"$adapted": [ref, text]}
    raise unknown(kind)


def _ref(kind: type) -> object:
    try:
        return records.class_ref(kind)
    except Refused:
        return None


class Reader:
    """Turns what a Writer wrote back into values. `reopen` gives a kept file back by its id, `stored` a stored one."""

    __slots__ = ("_adapters", "reopen", "stored")

    def __init__(
        self,
        reopen: Reopen,
        adapters: Callable[[str], pydantic.TypeAdapter[Any] | None] | None = None,
        *,
        stored: Reopen = no_files,
    ) -> None:
        self.reopen = reopen
        self.stored = stored
        self._adapters = adapters  # by the parameter whose annotation wrote a value

    def read(self, written: Any) -> Any:
        """The value. Raises what DAMAGE names."""
        if type(written) is dict:
            if len(written) == 1:
                (tag,) = written
                if tag[:1] == "$":
                    return _readers[tag](self, written[tag])
            return {key: self.read(item) for key, item in written.items()}
        if type(written) is list:
            return [self.read(item) for item in written]
        return written

    def by_annotation(self, payload: Any) -> Any:
        """A value that was written by the annotation of its parameter."""
        parameter, text = payload
        adapter = self._adapters(parameter) if self._adapters is not None else None
        if adapter is None:
            raise ValueError(f"the parameter {parameter} no longer has the annotation that wrote it")
        return adapter.validate_json(text)


def _read_adapted(reader: Reader, payload: Any) -> Any:
    ref, text = payload
    adapter = adapter_of(records.read_class(ref))
    if adapter is None:
        raise ValueError(f"pydantic can no longer read {ref}")
    return adapter.validate_json(text)


_writers: dict[type, _Write] = {
    list: _items,
    dict: _write_dict,
    bytes: functools.partial(_write_bytes, "$bytes"),
    bytearray: functools.partial(_write_bytes, "$bytearray"),
    tuple: lambda writer, value, depth: {"$tuple": _items(writer, value, depth)},
    deque: _write_deque,
    defaultdict: _write_defaultdict,
    OrderedDict: lambda writer, value, depth: {"$OrderedDict": _write_dict(writer, value, depth)},
    Counter: lambda writer, value, depth: {"$Counter": _write_dict(writer, value, depth)},
    set: functools.partial(_write_set, "$set"),
    frozenset: functools.partial(_write_set, "$frozenset"),
}
_readers: dict[str, Callable[[Reader, Any], Any]] = {
    "$str": lambda reader, payload: read_text({"$str": payload}),
    "$int": lambda reader, payload: read_integer({"$int": payload}),
    "$float": lambda reader, payload: read_float({"$float": payload}),
    "$dict": lambda reader, payload: {reader.read(key): reader.read(item) for key, item in payload},
    "$tuple": lambda reader, payload: tuple(reader.read(item) for item in payload),
    "$deque": lambda reader, payload: deque(reader.read(payload[0]), payload[1]),
    "$defaultdict": _read_defaultdict,
    "$OrderedDict": lambda reader, payload: OrderedDict(reader.read(payload)),
    "$Counter": lambda reader, payload: Counter(reader.read(payload)),
    "$set": lambda reader, payload: {reader.read(item) for item in payload},
    "$frozenset": lambda reader, payload: frozenset(reader.read(item) for item in payload),
    "$enum": records.read_enum,
    "$flag": records.read_flag,
    "$namedtuple": records.read_namedtuple,
    "$dataclass": records.read_dataclass,
    "$struct": records.read_struct,
    "$model": records.read_model,
    "$file": lambda reader, payload: reader.reopen(payload),
    "$stored": lambda reader, payload: reader.stored(payload),
    "$bytes-file": lambda reader, payload: reader.reopen(payload).file.read(),
    "$bytearray-file": lambda reader, payload: bytearray(reader.reopen(payload).file.read()),
    "$adapted": _read_adapted,
    "$annotated": Reader.by_annotation,
}


def _write_scalar(scalar: Scalar, writer: Writer, value: Any, depth: int) -> object:
    return {scalar.tag: scalar.write(value)}


def _read_scalar(scalar: Scalar, reader: Reader, payload: Any) -> object:
    return scalar.read(payload)


_PATH = next(scalar for scalar in SCALARS if scalar.type is PosixPath)
_writers = {scalar.type: functools.partial(_write_scalar, scalar) for scalar in SCALARS} | _writers
_writers[PosixPath] = _write_path
_readers |= {scalar.tag: functools.partial(_read_scalar, scalar) for scalar in SCALARS}
