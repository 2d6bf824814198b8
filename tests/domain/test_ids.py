"""Ids cannot be guessed, sort by time, and are told from other text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterwards._domain import ids
from afterwards._domain.ids import is_id, new_id


def test_ids_are_43_characters_that_need_no_escaping():
    """They stand in URLs, file names, headers and logs."""
    assert all(re.fullmatch("[0-9a-f]{43}", new_id()) and is_id(new_id()) for _ in range(1000))


def test_ids_never_repeat():
    assert len({new_id() for _ in range(50_000)}) == 50_000


def test_ids_sort_by_the_millisecond_they_were_made_in(monkeypatch):
    """New rows stay at the end of the index, so that a commit touches few pages."""
    made = []
    for millisecond in (0, 1, 1_700_000_000_000, 1_700_000_000_001, 16**11 - 1):
        monkeypatch.setattr(ids.time, "time_ns", lambda at=millisecond: at * 1_000_000 + 999_999)
        made.append(new_id())

    assert made == sorted(made)
    assert [len(id) for id in made] == [43] * 5


def test_all_128_random_bits_reach_the_id(monkeypatch):
    """An id is a capability: a bit that never changed would make it easier to guess."""
    monkeypatch.setattr(ids.time, "time_ns", lambda: 0)
    seen = set()
    for bit in range(128):
        monkeypatch.setattr(ids.os, "urandom", lambda size, bit=bit: (1 << bit).to_bytes(16, "big") * (size // 16))
        ids._fresh.clear()
        seen.add(new_id())
    ids._fresh.clear()

    assert len(seen) == 128


@pytest.mark.parametrize("text", ["", "0" * 42, "0" * 44, "0" * 42 + "\n", "A" * 43, "g" * 43, "../" * 15, "é" * 43])
def test_other_text_is_not_an_id(text):
    """Checked before anything from outside is looked up or becomes part of a path."""
    assert not is_id(text)


@given(st.text())
def test_what_passes_for_an_id_is_harmless(text):
    assert not is_id(text) or re.fullmatch("[0-9a-f]{43}", text)
