"""What cannot be stored is refused by the name of the argument, with a remedy that fits its kind."""

import contextvars
import functools
import io
import logging
import sys
import threading
from dataclasses import dataclass
from typing import Any

import apsw
import pytest
from pydantic import BaseModel, SecretStr
from starlette.datastructures import UploadFile
from starlette.requests import Request

from afterwards._domain.arguments import encode
from afterwards.errors import UnstorableArgument


class Opaque:
    """Something of a library that neither pydantic nor we can write down."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]


class Row(Opaque):
    """What a class mapped by SQLAlchemy looks like."""

    _sa_class_manager: Any = object()


class Item(BaseModel, arbitrary_types_allowed=True):
    sku: str
    photo: Any = None


class Order(BaseModel, arbitrary_types_allowed=True):
    items: list[Item] = []
    by_name: dict[str, Any] = {}


@dataclass
class Parcel:
    content: object


def work(order: object, size: int = 256, *, ratio: float = 1.0) -> None: ...


def rest(first: object, /, *others: object, **named: object) -> None: ...


def nothing() -> None: ...


def unresolvable(one: "OnlyForTypeCheckers") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def passing_on(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(None, *args, **kwargs)

    return wrapper


@passing_on
def injected(session: object, order: object) -> None: ...


def keep_nothing(value: object) -> None:
    return None


def refusal(value: object, function: Any = work) -> str:
    with pytest.raises(UnstorableArgument) as refused:
        encode(function, "shop:work", (value,), {}, keep_nothing)
    return str(refused.value)


def counting():
    yield 1


async def waiting() -> None: ...


@pytest.mark.parametrize(
    ("value", "reason", "remedy"),
    [
        (threading.Lock(), "a lock", "Make it at the top of the module"),
        (threading.RLock(), "a lock", "Make it at the top of the module"),
        (threading.Event(), "only this process", "Make it in the task"),
        (threading.Thread(), "a thread", "Start it in the task"),
        (counting(), "an iterator, which can be read only once", "Pass list(...) of it"),
        (map(str, [1]), "an iterator, which can be read only once", "Pass list(...) of it"),
        ({}.keys(), "a view of a dict", "Pass list(...) of it"),
        (lambda: None, "a lambda, which is code", "pick the function in the task"),
        (counting, "a function, which is code", "pick the function in the task"),
        (functools.partial(print), "code and not data", "call it in the task"),
        (Opaque, "a class", "look the class up in the task"),
        (sys, "a module", "Import it in the task"),
        (Row(), "belongs to a database session", "Pass its id and load it in the task"),
        (ValueError("x"), "an exception", "Pass str(error)"),
        (SecretStr("hunter2"), "secrets are not written to disk unasked", "pass get_secret_value()"),
        (memoryview(b"x"), "a view of memory", "Pass bytes(view)"),
        (logging.getLogger("a"), "a logger", "Call logging.getLogger(name) in the task"),
        (contextvars.ContextVar("a"), "a context variable", "Pass the value it has now"),
        (
            Request({"type": "http"}),
            "a request (starlette.requests.Request), which ends with its response",
            "Read what the task needs",
        ),
        (UploadFile(io.BytesIO()), "an upload", "Save it and pass the path"),
        (Opaque(), "nothing says how to write it down", "Annotate the parameter with a pydantic model or a dataclass"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_stored_is_refused_with_a_remedy_for_its_kind(value, reason, remedy):
    """The message is read by someone who has never heard of this rule before."""
    message = refusal(value)

    assert message.startswith("argument order of shop:work cannot be stored: it is a")
    assert reason in message
    assert remedy in message


def test_an_open_file_is_refused_and_left_unread(tmp_path):
    """Where the task then runs unsaved, it must find the file as the endpoint left it."""
    path = tmp_path / "a.txt"
    path.write_text("content")
    with path.open() as file:
        message = refusal(file)
        assert file.read() == "content"

    assert "an open file" in message
    assert "Save it and pass the path, or pass the UploadFile itself" in message


def test_a_refused_generator_is_left_unread():
    generator = counting()

    refusal(generator)

    assert list(generator) == [1]


def test_a_database_connection_is_refused():
    connection = apsw.Connection(":memory:")
    try:
        message = refusal(connection)
    finally:
        connection.close()

    assert "a database connection" in message
    assert "Open it in the task" in message


def test_a_coroutine_is_refused():
    coroutine = waiting()
    message = refusal(coroutine)
    coroutine.close()

    assert "Await it first" in message


def test_a_refusal_names_the_place_inside_the_argument():
    """`order.items[3].photo` and not only `order`."""
    order = Order(items=[Item(sku="a"), Item(sku="b", photo=threading.Lock())])

    assert refusal(order).startswith(
        "argument order.items[1].photo of shop:work cannot be stored: it is a lock (_thread.lock)"
    )
    assert "argument order['a'][0] of" in refusal({"a": [threading.Lock()]})
    assert "argument order.content of" in refusal(Parcel(threading.Lock()))
    assert "argument order (one of its elements) of" in refusal({threading.Lock()})


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "place"),
    [
        (work, (1,), {"size": Opaque()}, "argument size of"),
        (work, (), {"order": Opaque()}, "argument order of"),
        (rest, (1, 2, Opaque()), {}, "argument others[1] of"),
        (rest, (1,), {"key": [Opaque()]}, "argument key[0] of"),
        (injected, (Opaque(),), {}, "argument "),
        (unresolvable, (Opaque(),), {}, "argument one of"),
        (dict, ([Opaque()],), {}, "[0] of"),
    ],
)
def test_a_refusal_names_the_parameter_however_it_was_passed(function, args, kwargs, place):
    with pytest.raises(UnstorableArgument) as refused:
        encode(function, "shop:work", args, kwargs, keep_nothing)

    assert place in str(refused.value)


def test_the_value_itself_is_not_in_a_refusal():
    """It goes to logs, and the value may be a password."""

    class Secret(str):
        __slots__ = ()

    assert "hunter2" not in refusal(Secret("hunter2"))


def test_a_list_that_contains_itself_is_refused_by_the_name_of_the_argument():
    rows: list[object] = []
    rows.append(rows)

    assert refusal(rows).startswith(
        "argument order of shop:work cannot be stored: it is nested data, which contains itself"
    )


def test_what_pydantic_would_change_is_not_stored_by_its_annotation():
    """An annotation is no reason to lose the type: a subclass of int is not an int."""

    class Id(int):
        pass

    def takes(number: int) -> None: ...

    with pytest.raises(UnstorableArgument):
        encode(takes, "shop:work", (Id(1),), {}, keep_nothing)
