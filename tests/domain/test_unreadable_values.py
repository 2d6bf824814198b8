"""What cannot be stored is refused with its place, and what was damaged or outlived its class is told as that."""

import dataclasses
import datetime as dt
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import pytest
from pydantic import BaseModel

from afterwards._domain.values import MAX_DEPTH, decode_result, encode_result
from afterwards.errors import DamagedArguments, UnstorableResult

T = TypeVar("T")


class Point(NamedTuple):
    x: int
    y: object = None


@dataclasses.dataclass
class Box:
    width: float
    label: object = None
    tags: list[Any] = dataclasses.field(default_factory=list)


class Item(BaseModel):
    sku: str
    price: Decimal = Decimal("1.50")
    anything: Any = None


class Order(BaseModel):
    id: int
    items: list[Item] = []
    at: dt.datetime | None = None
    ratio: float = 1.0


class Loud(str):
    """A subclass of a builtin: to store it as `str` would lose its type."""


class Plain:
    """A class that says nothing about how it is written down."""


def there_and_back(value: object) -> Any:
    return decode_result(encode_result(value, "shop:work"))


def refusal(value: object) -> str:
    with pytest.raises(UnstorableResult) as refused:
        encode_result(value, "shop:work")
    return str(refused.value)


def test_a_result_that_cannot_be_stored_is_refused_with_its_place():
    message = refusal({"rows": [1, Plain()]})

    assert message.startswith("the result of shop:work cannot be stored: result['rows'][1] is a ")
    assert "Plain" in message
    assert "Return" in message


@pytest.mark.parametrize("value", [Loud("x"), type("L", (list,), {})(), Plain(), object()])
def test_a_subclass_of_a_builtin_is_not_flattened(value):
    assert "nothing says how to write it down" in refusal(value)


def test_a_class_made_inside_a_function_is_refused():
    class Local(BaseModel):
        a: int

    assert "a restart could not import its class" in refusal(Local(a=1))


def test_a_model_with_an_unset_field_is_refused():
    """It could not be built again: better to hear it now than from the task."""
    assert "its id was never set" in refusal(Order.model_construct(items=[]))


def test_a_list_that_contains_itself_is_refused():
    rows: list[object] = [1]
    rows.append({"rows": rows})

    assert "contains itself" in refusal(rows)


def test_deep_nesting_is_refused_and_the_allowed_depth_comes_back():
    """The limit is far from Python's own, so that a refusal comes in place of a RecursionError."""

    def nested(depth: int) -> object:
        value: object = 1
        for _ in range(depth):
            value = {"a": (value,)}
        return value

    assert there_and_back(nested(MAX_DEPTH // 2)) == nested(MAX_DEPTH // 2)
    assert "more than 100 deep" in refusal(nested(MAX_DEPTH // 2 + 1))
    assert "more than 100 deep" in refusal(nested(100_000))


def test_nesting_near_pythons_own_limit_is_refused_and_not_a_recursion_error():
    def dive(value: object, depth: int) -> str:
        return refusal(value) if depth == 0 else dive(value, depth - 1)

    value: object = Plain()
    for _ in range(90):
        value = [value]
    outcomes = set()
    for depth in range(500, 1000, 5):
        try:
            outcomes.add("nested data" in dive(value, depth))
        except RecursionError:
            break  # the test's own frames reached the limit

    assert True in outcomes  # an UnstorableResult every time, in the end because of Python's limit


@pytest.mark.parametrize(
    "text",
    ['{"$nope":1}', '{"$bytes":"?"}', '{"$date":"x"}', '{"$enum":["os:nope","A",1]}', '{"$model":["os:nope",{},null]}',
     '{"$dataclass":["builtins:dict",{}]}', '{"$enum":["nowhere.at.all:X","A",1]}', '{"$tuple":5}', '{"$file":"abc"}',
     '[{"$bytes":"YQ==', "nonsense", '{"$deque":1}', '{"$adapted":["os:nope","1"]}'],
)  # fmt: skip
def test_damaged_text_is_reported_as_such(text):
    """Never another exception: the engine settles the task by this one."""
    with pytest.raises(DamagedArguments, match="cannot be read back"):
        decode_result(text)


def test_a_stored_name_never_reaches_a_function():
    """Only classes of the kind that the tag says are built, so a changed row cannot call anything."""
    called = []
    for tag in ("$enum", "$flag", "$model", "$struct", "$namedtuple", "$dataclass"):
        with pytest.raises(DamagedArguments):
            called.append(decode_result(f'{{"{tag}":["subprocess:Popen",{{"args":"true"}},null]}}'))

    assert called == []


def test_a_field_added_since_gets_its_default_and_a_removed_one_is_reported():
    """What a deployment between add_task and the run does to stored models."""
    text = encode_result([Item(sku="a"), Box(1.0), Point(1)], "shop:work")
    older = (
        text.replace(',"price":{"$decimal":"1.50"}', "").replace(',"tags":[]', "").replace(',"y":null', "")
    )  # as written before the fields existed
    newer = text.replace('"sku":"a"', '"sku":"a","gone":1')

    assert older != text
    assert decode_result(older) == [Item(sku="a"), Box(1.0), Point(1)]
    with pytest.raises(DamagedArguments, match="Item no longer has the field gone"):
        decode_result(newer)


def test_a_model_is_not_validated_again():
    """A validator that depends on the day, such as `must be in the future`, has already said yes."""
    assert there_and_back(Order.model_construct(id="not an int")).id == "not an int"
