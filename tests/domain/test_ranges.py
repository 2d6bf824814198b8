"""Ranges: what is sent is what was asked for, no byte twice, and never more parts than a client can need."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterwards._domain.ranges import MOST, Span, wanted
from afterwards.errors import RangeRefused

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-0", [Span(0, 1)]),
        ("bytes=0-", [Span(0, 1000)]),
        ("bytes=999-", [Span(999, 1000)]),
        ("bytes=10-19", [Span(10, 20)]),
        ("bytes=10-5000", [Span(10, 1000)]),
        ("bytes=-1", [Span(999, 1000)]),
        ("bytes=-5000", [Span(0, 1000)]),
        ("BYTES = 1-2 ,\t4-5", [Span(1, 3), Span(4, 6)]),
        ("bytes=,,1-2,,", [Span(1, 3)]),
        ("bytes=500-600,0-9", [Span(500, 601), Span(0, 10)]),  # in the order asked for
        ("bytes=500-600,0-9,550-700", [Span(500, 701), Span(0, 10)]),
        ("bytes=0-4,5-9", [Span(0, 10)]),
        ("bytes=0-,0-,0-,0-", [Span(0, 1000)]),
        ("bytes=2000-3000,5-6", [Span(5, 7)]),  # what is outside is left out
        ("bytes=0-0,-1", [Span(0, 1), Span(999, 1000)]),
        (f"bytes=0-{'9' * 5000}", [Span(0, 1000)]),
        (f"bytes={'0' * 5000}1-2", [Span(1, 3)]),
    ],
)
def test_a_range_names_bytes(header, spans):
    assert wanted(header, SIZE) == spans


@pytest.mark.parametrize(
    "header",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=,", "bytes=5-2", "bytes=a-b", "bytes=1-2,x", "bytes=1", "bytes=--1"),
        *("bytes=1-2-3", "bytes=0x1-2", "bytes=+1-2", "bytes=1.5-2", "bytes=\u0661-2", "items=0-1", "bytes =\n0-1"),
    ],
)
def test_what_means_nothing_is_ignored(header):
    """The whole file is an answer to any range (RFC 9110, 14.2)."""
    assert wanted(header, SIZE) is None


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-2000", "bytes=-0", f"bytes={'9' * 400}-", "bytes=-0,-0"])
def test_nothing_inside_the_file_is_refused(header):
    with pytest.raises(RangeRefused) as refused:
        wanted(header, SIZE)

    assert refused.value.size == SIZE


def test_an_empty_file_has_no_ranges():
    """The last bytes of nothing are nothing, which no Content-Range can say: the whole of it is sent."""
    assert wanted("bytes=-5", 0) is None
    with pytest.raises(RangeRefused):
        wanted("bytes=0-", 0)


def test_ten_thousand_ranges_are_refused_before_they_are_read():
    """CVE-2011-3192 and its children: overlapping, tiny, in any order."""
    ordered = ",".join(f"{start}-{start}" for start in range(0, 20_000, 2))
    overlapping = ",".join(["0-"] * 10_000)

    for many in (ordered, overlapping, "," * 10_000, "x" * 100 + "," * 10_000):
        with pytest.raises(RangeRefused, match=f"at most {MOST}"):
            wanted(f"bytes={many}", SIZE)


def _spec(size):
    number = st.integers(0, size + 20)
    closed = st.tuples(number, st.integers(0, 40)).map(lambda pair: f"{pair[0]}-{pair[0] + pair[1]}")
    return st.one_of(closed, number.map(lambda first: f"{first}-"), number.map(lambda last: f"-{last}"))


def _bytes(spec, size):
    """The model: the numbers of the bytes that one range asks for."""
    first, _, last = spec.partition("-")
    if not first:
        return set(range(max(0, size - int(last)), size))
    return {byte for byte in range(int(first), int(last) + 1 if last else size) if byte < size}


@given(st.data())
def test_the_bytes_are_those_of_a_simple_model_and_none_comes_twice(data):
    size = data.draw(st.integers(1, 120), label="size")
    specs = data.draw(st.lists(_spec(size), min_size=1, max_size=MOST), label="ranges")
    asked = set().union(*(_bytes(spec, size) for spec in specs))

    try:
        spans = wanted("bytes=" + ",".join(specs), size)
    except RangeRefused:
        assert not asked
        return

    sent = [byte for span in spans for byte in range(span.start, span.end)]
    assert sorted(sent) == sorted(asked)
    assert len(spans) <= len(specs)
    if len(spans) == len(specs):  # nothing was joined or left out, so the order is the client's
        assert [min(_bytes(spec, size)) for spec in specs] == [span.start for span in spans]


@given(st.text(alphabet="bytes=0123456789-, \tx\u0661"), st.integers(0, 50))
def test_no_header_is_more_than_refused(header, size):
    for text in (header, f"bytes={header}"):
        try:
            spans = wanted(text, size)
        except RangeRefused:
            continue
        for span in spans or ():
            assert 0 <= span.start < span.end <= size
