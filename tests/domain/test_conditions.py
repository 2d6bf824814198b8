"""Conditions of a request: the tag goes before the date, and what cannot be read is as good as not there."""

import pytest

from afterwards._domain.conditions import Answer, Version, decide, is_same

VERSION = Version(tag='"abc"', modified=1_700_000_000)
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
BEFORE = "Tue, 14 Nov 2023 22:13:19 GMT"
AFTER = "Tue, 14 Nov 2023 22:13:21 GMT"
SEND, SAME, FAILED = Answer.SEND, Answer.NOT_MODIFIED, Answer.FAILED


def answer(**headers):
    lines = {name.replace("_", "-"): [value] if isinstance(value, str) else value for name, value in headers.items()}
    return decide(VERSION, lambda name: lines.get(name, []))


def test_the_date_is_written_as_headers_have_it():
    assert VERSION.date == DATE


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, SEND),
        ({"if_none_match": '"abc"'}, SAME),
        ({"if_none_match": 'W/"abc"'}, SAME),
        ({"if_none_match": "*"}, SAME),
        ({"if_none_match": '"x", "a,b", W/"abc"'}, SAME),
        ({"if_none_match": ['"x"', '"abc"']}, SAME),
        ({"if_none_match": '"other"'}, SEND),
        ({"if_none_match": "abc"}, SEND),  # no tag at all
        ({"if_modified_since": DATE}, SAME),
        ({"if_modified_since": AFTER}, SAME),
        ({"if_modified_since": BEFORE}, SEND),
        ({"if_modified_since": "yesterday"}, SEND),
        ({"if_modified_since": "Tue, 99 Nov 99999999999 22:13:20 GMT"}, SEND),
        ({"if_modified_since": ""}, SEND),
        ({"if_none_match": '"other"', "if_modified_since": AFTER}, SEND),  # the tag decides alone
        ({"if_match": '"abc"'}, SEND),
        ({"if_match": "*"}, SEND),
        ({"if_match": '"x", "abc"'}, SEND),
        ({"if_match": '"other"'}, FAILED),
        ({"if_match": 'W/"abc"'}, FAILED),  # weak tags are never equal here
        ({"if_match": "abc"}, FAILED),
        ({"if_unmodified_since": DATE}, SEND),
        ({"if_unmodified_since": BEFORE}, FAILED),
        ({"if_unmodified_since": "nonsense"}, SEND),
        ({"if_match": '"abc"', "if_unmodified_since": BEFORE}, SEND),
        ({"if_match": '"other"', "if_none_match": '"abc"'}, FAILED),
    ],
)
def test_conditions_are_decided_in_the_order_of_the_rfc(headers, expected):
    assert answer(**headers) is expected


@pytest.mark.parametrize(
    ("if_range", "expected"),
    [
        ('"abc"', True),
        (f" {DATE} ", True),
        ('W/"abc"', False),
        ('"other"', False),
        (AFTER, False),  # a date is only as good as the same date
        (BEFORE, False),
        ("", False),
        ("abc", False),
    ],
)
def test_a_download_goes_on_only_where_it_was_cut(if_range, expected):
    assert is_same(VERSION, if_range) is expected
