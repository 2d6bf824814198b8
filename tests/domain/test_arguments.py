"""A call is bound and written when the task is added; what does not fit is told by its name."""

import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, PlainSerializer
from starlette.datastructures import UploadFile

from afterwards._domain.arguments import decode, encode
from afterwards._domain.values import INLINE_BYTES, to_plain
from afterwards.errors import DamagedArguments, WrongArguments


class Opaque:
    """Something of a library that neither pydantic nor we can write down."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]


Written = Annotated[
    Any,
    BeforeValidator(lambda number: number if isinstance(number, Opaque) else Opaque(number)),
    PlainSerializer(lambda opaque: opaque.number),
]


class Item(BaseModel, arbitrary_types_allowed=True):
    sku: str
    photo: Any = None


class Order(BaseModel, arbitrary_types_allowed=True):
    items: list[Item] = []
    by_name: dict[str, Any] = {}


class Holder(BaseModel):
    """Its field is written by the field's own annotation."""

    held: Written


@dataclass
class Parcel:
    content: object


def work(order: object, size: int = 256, *, ratio: float = 1.0) -> None: ...


def rest(first: object, /, *others: object, **named: object) -> None: ...


def nothing() -> None: ...


def annotated(one: Written, *many: Written, maybe: Union[Written, None] = None, **named: Written) -> None: ...  # noqa: UP007


def passing_on(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(None, *args, **kwargs)

    return wrapper


@passing_on
def injected(session: object, order: object) -> None: ...


def keep_nothing(value: object) -> None:
    return None


def reopen_nothing(file: str) -> object:
    raise AssertionError(f"no file was kept, but {file} was asked for")


def there_and_back(function, *args, **kwargs) -> tuple[list[Any], dict[str, Any]]:
    return decode(function, "shop:work", encode(function, "shop:work", args, kwargs, keep_nothing), reopen_nothing)


class Files:
    """A place for files, as the staging area is one: it takes uploads and large bytes over."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}

    def keep(self, value: object) -> str | None:
        if not isinstance(value, (UploadFile, bytes, bytearray)):
            return None
        self.kept[f"file-{len(self.kept)}"] = value
        return f"file-{len(self.kept) - 1}"

    def reopen(self, file: str) -> object:
        value = self.kept[file]
        return value if isinstance(value, UploadFile) else UploadFile(io.BytesIO(value))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (nothing, (), {}),
        (work, (1,), {}),
        (work, ("a", 2), {"ratio": 0.5}),
        (work, (), {"order": None, "size": True}),
        (work, (2**64,), {}),
        (work, (10**5000,), {}),
        (work, (float("inf"),), {}),
        (work, ("\ud800",), {"size": -(2**63)}),
        (work, ('"$file"',), {}),
        (work, ({"$file": "x"},), {}),
        (rest, (1, 2, 3), {"a": 1, "$b": (1,), "first": 2}),
        (rest, (1,), {"$file": "x"}),
        (rest, (1,), {"\ud800": 1}),
        (injected, ({1},), {}),
        (print, ("a",), {"sep": ""}),
        (dict, (), {"a": 1}),
        (Parcel, (b"x",), {}),
    ],
)
def test_a_call_comes_back_as_it_was_made(function, args, kwargs):
    """Whatever fits the signature, in the same positions and under the same names."""
    assert there_and_back(function, *args, **kwargs) == (list(args), kwargs)


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters())))
def test_plain_arguments_come_back_equal_by_the_short_and_the_long_way(values):
    """The short way, for plain values, and the long way must not differ."""
    args, kwargs = there_and_back(rest, 0, *values, key=values)

    assert args == [0, *values]
    assert kwargs == {"key": values}
    assert [type(value) for value in args[1:]] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "problem"),
    [
        (work, (), {}, "shop:work(order, size, ratio): missing a required argument: 'order'"),
        (work, (1, 2, 3), {}, "too many positional arguments, 3 instead of at most 2"),
        (work, (1,), {"colour": "red"}, "got an unexpected keyword argument 'colour'"),
        (work, (1,), {"order": 2}, "multiple values for argument 'order'"),
        (nothing, (1,), {}, "shop:work(): too many positional arguments, 1 instead of at most 0"),
        (rest, (), {"a": 1}, "shop:work(first, *others, **named): missing a required"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_by_the_name_of_the_argument(function, args, kwargs, problem):
    """A TypeError as from the call itself, but while the client can still be told."""
    with pytest.raises(WrongArguments) as wrong:
        encode(function, "shop:work", args, kwargs, keep_nothing)

    assert str(wrong.value).startswith("the call does not fit shop:work(")
    assert problem in str(wrong.value)
    assert isinstance(wrong.value, TypeError)


def test_a_call_that_no_longer_fits_is_reported_before_it_is_made():
    """The function lost a parameter between add_task and the run."""
    text = encode(work, "shop:work", (1, 2), {}, keep_nothing)

    with pytest.raises(DamagedArguments, match=r"no longer fit shop:work\(\): too many positional arguments"):
        decode(nothing, "shop:work", text, reopen_nothing)


def test_a_default_is_not_stored():
    """What the default is when the task runs counts, as for any call."""
    assert encode(work, "shop:work", (1,), {}, keep_nothing) == "[[1],{}]"


@pytest.mark.parametrize(
    "text", ["", "[]", "[[],[]]", "[{},{}]", '[[{"$bytes":1}],{}]', "[[1]", '["$",{}]', "[[],{},1]"]
)
def test_damaged_arguments_are_reported_with_the_function(text):
    with pytest.raises(DamagedArguments, match="the stored arguments of shop:work cannot be read back"):
        decode(rest, "shop:work", text, reopen_nothing)


def test_uploads_are_found_wherever_they_are():
    """In a list, a dict, a dataclass or a model, and by the id under which they were kept."""
    files = Files()
    uploads = [UploadFile(io.BytesIO(b"%d" % number), filename=f"{number}.txt") for number in range(5)]
    order = Order(items=[Item(sku="a", photo=uploads[0])], by_name={"x": (uploads[1],)})

    text = encode(rest, "shop:work", (uploads[2], [order], Parcel(uploads[3])), {"last": uploads[4]}, files.keep)
    args, kwargs = decode(rest, "shop:work", text, files.reopen)

    assert set(map(id, files.kept.values())) == set(map(id, uploads))
    assert args[0] is uploads[2]
    assert args[1][0].items[0].photo is uploads[0]
    assert args[1][0].by_name["x"] == (uploads[1],)
    assert args[2].content is uploads[3]
    assert kwargs["last"] is uploads[4]
    assert to_plain(text)[0][0] == {"file": "file-0"}


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_become_a_file_and_come_back_as_bytes(kind):
    """They would swell the database; short ones are quicker inside."""
    files = Files()
    large, short = kind(b"x" * (INLINE_BYTES + 1)), kind(b"x" * INLINE_BYTES)

    text = encode(rest, "shop:work", (large, {"a": [short]}), {}, files.keep)
    args, _ = decode(rest, "shop:work", text, files.reopen)

    assert list(files.kept.values()) == [large]
    assert args == [large, {"a": [short]}]
    assert type(args[0]) is kind


def test_large_bytes_stay_inside_where_nobody_keeps_files():
    large = b"x" * (INLINE_BYTES + 1)

    assert there_and_back(work, large)[0] == [large]


def test_an_error_of_the_files_passes_through():
    """A disk error is no damaged argument: the task is tried again instead of being given up."""

    def reopen(file: str) -> object:
        raise FileNotFoundError(file)

    with pytest.raises(FileNotFoundError):
        decode(work, "shop:work", '[[{"$file":"f"}],{}]', reopen)


def test_an_annotation_can_say_how_a_value_is_written():
    """Of a parameter, of *args, of **kwargs, and of a model's field."""
    args, kwargs = there_and_back(annotated, Opaque(1), Opaque(2), Opaque(3), maybe=Opaque(4), other=Opaque(5))

    assert args == [Opaque(1), Opaque(2), Opaque(3)]
    assert kwargs == {"maybe": Opaque(4), "other": Opaque(5)}
    assert there_and_back(rest, Holder(held=Opaque(6)))[0] == [Holder(held=Opaque(6))]


def test_an_annotation_that_is_gone_is_reported():
    text = encode(annotated, "shop:work", (Opaque(1),), {}, keep_nothing)

    with pytest.raises(DamagedArguments, match="the parameter one no longer has the annotation"):
        decode(rest, "shop:work", text, reopen_nothing)


def test_stored_arguments_can_be_shown_as_plain_json():
    text = encode(annotated, "shop:work", (Opaque(7), Opaque(8)), {"other": Opaque(9)}, keep_nothing)

    assert to_plain(text) == [[7, 8], {"other": 9}]
    assert to_plain(encode(work, "shop:work", (Path("/a"),), {}, keep_nothing)) == [["/a"], {}]
    msgspec.json.encode(to_plain(text))
