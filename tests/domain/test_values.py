"""Values come back equal in value and type, or are refused by name."""
# ruff: noqa: DTZ001, DTZ901 - times without a zone are values too

import dataclasses
import datetime as dt
import enum
import ipaddress
import json
import math
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, HttpUrl, PrivateAttr, RootModel, TypeAdapter

from afterwards._domain.values import decode_result, encode_result, to_plain

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Mode(enum.IntFlag):
    A = 1
    B = 4


class Point(NamedTuple):
    x: int
    y: object = None


@dataclasses.dataclass
class Box:
    width: float
    label: object = None
    tags: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    inner: object = None


@dataclasses.dataclass
class Computed:
    side: int
    area: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.area = self.side * self.side
        self.note = "from __post_init__"


@dataclasses.dataclass(kw_only=True)
class Late:
    given: int
    later: int = dataclasses.field(init=False)


class Item(BaseModel):
    sku: str
    price: Decimal = Decimal("1.50")
    anything: Any = None


class Order(BaseModel):
    id: int
    items: list[Item] = []
    at: dt.datetime | None = None
    ratio: float = 1.0


class Open(BaseModel, extra="allow"):
    a: int = 1


class Secretive(BaseModel):
    a: int
    _seen: list[int] = PrivateAttr(default_factory=list)


class Ids(RootModel[list[int]]):
    pass


class Page(BaseModel, Generic[T]):
    rows: list[T]


class Site(BaseModel):
    url: HttpUrl


class Record(msgspec.Struct, frozen=True):
    name: str
    inner: object = None


class Doubling(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        self.n *= 2


class Movie(TypedDict):
    title: str


class Celsius:
    """A class that tells pydantic how it is written, as HttpUrl and many libraries do."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Celsius) and other.degrees == self.degrees

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        from pydantic_core import core_schema as cs

        return cs.no_info_after_validator_function(
            cls, cs.float_schema(), serialization=cs.plain_serializer_function_ser_schema(lambda c: c.degrees)
        )


def there_and_back(value: object) -> Any:
    return decode_result(encode_result(value, "shop:work"))


def same(one: Any, other: Any) -> bool:
    """Equal in value and type all the way down, written apart from the code under test."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, Decimal):
        return str(one) == str(other)
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    if isinstance(one, (dt.datetime, dt.time)):
        return str(one) == str(other) and one.fold == other.fold and same(one.tzinfo, other.tzinfo)
    if isinstance(one, msgspec.Struct):
        return all(same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__)
    if isinstance(one, BaseModel):
        hidden = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
        return same(vars(one), vars(other)) and all(same(getattr(one, n), getattr(other, n)) for n in hidden)
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    return bool(one == other)


BERLIN = ZoneInfo("Europe/Berlin")
VALUES: list[object] = [
    None, True, 0, -1, 2**63 - 1, -(2**63), 2**63, 2**64, -(2**64), 10**5000, 1.0, 1e16, 5e-324, -0.0, math.nan,
    math.inf, -math.inf, "", "a\x00b", "Zoë 🎉", "$tag", '"$bytes"', "\ud800", "\udcff/x", "\ud83d\ude00", [],
    [1, [2.0, (3,)]], {}, {"a": {"b": []}}, {"$bytes": "YQ=="}, {"$a": 1, "b": 2}, {"$dict": []}, {1: "a", "1": "b"},
    {None: 1, (1, 2): 2, 1.5: 3, b"k": 4}, {"\ud800": 1}, {Word.YES: 1}, (), (1, "a", (None,)), set(), {1, "a", (2,)},
    frozenset({frozenset({1}), b"x"}), b"", b"\x00\xff", bytearray(b"abc"), b"x" * 100_000,
    dt.datetime(2026, 7, 1, 12, 30, 15, 999_999), dt.datetime(2026, 7, 1, tzinfo=dt.UTC),
    dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=0), dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    dt.datetime(2026, 7, 1, fold=1), dt.datetime(2026, 7, 1, fold=1, tzinfo=dt.UTC),
    dt.datetime(2026, 7, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    dt.datetime(2026, 7, 1, tzinfo=dt.timezone(dt.timedelta(seconds=-3661, microseconds=7), "odd")), dt.datetime.min,
    dt.datetime.max, TypeAdapter(dt.datetime).validate_json('"2026-07-01T12:00:00+02:00"'),
    TypeAdapter(dt.datetime).validate_json('"2026-07-01T12:00:00Z"'), dt.date(1, 1, 1), dt.time(1, 2, 3, 4),
    dt.time(2, 30, fold=1), dt.time(2, 30, tzinfo=BERLIN), dt.time(2, 30, tzinfo=dt.UTC), dt.timedelta(-1, 5, 6),
    dt.timedelta.max, dt.UTC, BERLIN, UUID(int=5), Decimal("1.10"), Decimal("-0"), Decimal("NaN"), Decimal("sNaN12"),
    Decimal("-Infinity"), Decimal("1E+999999"), Fraction(-1, 3), Fraction(2**70, 3), complex(-0.0, math.nan), 1j,
    Path("/a/b.txt"), Path(), PurePosixPath("x/\udcff"), PureWindowsPath("C:\\a"), Colour.RED, Colour.BLUE, Level.LOW,
    Word.YES, Right.READ, Right.READ | Right.WRITE, Right(0), Mode.A | Mode.B, Mode(0), Mode(64), Point(1),
    Point(1, {2}), range(0, 10, 3), range(2**70), ipaddress.ip_address("10.0.0.1"),
    ipaddress.ip_address("fe80::1%eth0"), ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::/0"),
    ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_interface("::1/64"), Box(1), Box(1.0, (1, 2), [Word.YES]),
    Frozen("a", Frozen("b", Decimal(1))), Item(sku="a"), Item(sku="a", price=Decimal("1.50")),
    Item(sku="a", anything={1: (Word.YES, 1.0, True)}),
    Order(id=1, items=[Item(sku="b")], at=dt.datetime(2026, 1, 1, tzinfo=BERLIN)),
    Order.model_construct(id=1, ratio=1), Open(b=2, **{"$bytes": "x"}), Ids([1, 2]), Ids.model_construct(root=(1,)),
    Page[int](rows=[1]), Page[Item](rows=[Item(sku="x")]),
    Page[Page[Item | None]](rows=[Page[Item | None](rows=[None])]), Page[dict[str, list[int]]](rows=[{"a": [1]}]),
    Record("a", {1}), Movie(title="x"), deque([1, (2,)], maxlen=5), deque(), OrderedDict(b=1, a=(2,)), Counter("aab"),
    HttpUrl("https://example.org/a"), Site(url="https://example.org"), Celsius(3.5),
    [Celsius(1.0), {"a": Celsius(2.0)}],
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}")
def test_a_value_comes_back_equal_in_value_and_type(value):
    """The promise to whoever calls add_task: the task sees what the endpoint passed."""
    assert same(there_and_back(value), value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}")
def test_every_stored_value_can_be_shown_as_plain_json(value):
    """Status pages must never fail on a value that a task was given."""
    json.dumps(to_plain(encode_result([value], "shop:work")), allow_nan=False).encode()
    msgspec.json.encode(to_plain(encode_result({"a": value}, "shop:work")))


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.fractions(),
    st.decimals().filter(lambda number: not number.is_snan()),  # a set cannot hold a signalling NaN
    st.text(st.characters()), st.text(st.sampled_from('$"\\ab\ud800é')), st.binary(), st.uuids(), st.ip_addresses(),
    st.datetimes(timezones=st.none() | st.timezones()), st.times(), st.dates(), st.timedeltas(),
    st.sampled_from([*Word, *Level, *Colour, Mode.A | Mode.B]),
)  # fmt: skip
keys = scalars | st.tuples(scalars, scalars) | st.frozensets(scalars, max_size=3) | st.builds(Point, scalars, scalars)


def containers(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.sampled_from('$"ab\ud800')), inner, max_size=4),
        st.dictionaries(keys, inner, max_size=3),
        st.builds(Box, inner, inner, st.lists(inner, max_size=2)),
        st.builds(Item, sku=st.just("a"), anything=inner),
        st.builds(Frozen, inner, inner),
        st.builds(Record, inner, inner),
    )


anything = st.recursive(keys, containers, max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(anything)
def test_whatever_is_built_of_known_values_comes_back_equal(value):
    """Found by search, not by the imagination of whoever wrote the codec."""
    text = encode_result(value, "shop:work")

    assert same(decode_result(text), value)
    msgspec.json.encode(to_plain(text))


@settings(max_examples=200, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.sampled_from("$ab")), inner),
                    max_leaves=10))  # fmt: skip
def test_json_values_come_back_equal_even_where_keys_look_like_tags(value):
    """A client chooses the keys of a JSON body; none of them may be taken for a tag."""
    assert same(there_and_back(value), value)


def test_which_fields_of_a_model_were_set_is_kept():
    """`model_dump(exclude_unset=True)` of a PATCH body must give the same in the task."""
    given_, defaulted = there_and_back([Item(sku="a", price=Decimal("1.50")), Item(sku="a")])

    assert given_.model_fields_set == {"sku", "price"}
    assert defaulted.model_fields_set == {"sku"}
    assert given_ != defaulted or given_.model_fields_set != defaulted.model_fields_set


def test_private_attributes_of_a_model_are_kept():
    model = Secretive(a=1)
    model._seen.append(7)

    back = there_and_back(model)

    assert back == model
    assert back._seen == [7]


def test_a_dataclass_keeps_what_its_post_init_made_without_running_it_again():
    value = Computed(3)
    value.area = 10

    back = there_and_back(value)

    assert (back.area, back.note) == (10, "from __post_init__")


def test_a_dataclass_field_that_is_filled_later_may_be_empty():
    back = there_and_back(Late(given=1))

    assert back.given == 1
    assert not hasattr(back, "later")


def test_a_struct_whose_post_init_changes_it_comes_back_unchanged():
    assert there_and_back(Doubling(2)).n == 4


def test_a_defaultdict_keeps_its_factory():
    back = there_and_back(defaultdict(list, a=[1]))

    assert type(back) is defaultdict
    assert back["new"] == []
    assert back["a"] == [1]


def test_a_deque_keeps_its_length_limit():
    assert there_and_back(deque([1], maxlen=3)).maxlen == 3


def test_a_stored_value_does_not_change_with_the_original():
    """Arguments are written when the task is added; what the endpoint does to them later is its own business."""
    rows = [1]
    text = encode_result(rows, "shop:work")
    rows.append(2)

    assert decode_result(text) == [1]


def test_plain_json_is_readable():
    value = {
        "at": dt.datetime(2026, 7, 1, 12, tzinfo=BERLIN),
        "took": dt.timedelta(hours=1),
        "enums": [Level.LOW, Colour.RED, Colour.BLUE, Mode.A | Mode.B],
        "bytes": [b"abc", b"x" * 5000],
        "order": Order(id=1, items=[Item(sku="a")]),
        "texts": [Path("/a"), HttpUrl("https://example.org/"), UUID(int=0), Decimal("1.10")],
        "numbers": [2**70, math.nan, 1 + 2j, Fraction(1, 3), range(3)],
        "keys": [{1: "a", 2: "b"}, {1: "a", "1": "b"}, {(1, "a"): None}],
        "others": [Ids([1]), Point(1, (2,)), Open(b=2), {"$bytes": "x"}, "\ud800"],
    }

    assert to_plain(encode_result(value, "shop:work")) == {
        "at": "2026-07-01T12:00:00+02:00",
        "took": "PT1H",
        "enums": [1, "red", "BLUE", 5],
        "bytes": ["YWJj", "<5000 bytes>"],
        "order": {"id": 1, "items": [{"sku": "a", "price": "1.50", "anything": None}], "at": None, "ratio": 1.0},
        "texts": ["/a", "https://example.org/", "00000000-0000-0000-0000-000000000000", "1.10"],
        "numbers": [str(2**70), "nan", "(1+2j)", "1/3", [0, 3, 1]],
        "keys": [{"1": "a", "2": "b"}, [[1, "a"], ["1", "b"]], {'[1,"a"]': None}],
        "others": [[1], {"x": 1, "y": [2]}, {"a": 1, "b": 2}, {"$bytes": "x"}, "?"],
    }
